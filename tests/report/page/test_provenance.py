"""What runs were made with and what they took."""

from typing import Any

from transmooth.report.page.provenance import Training, parameters, times


def test_parameters_are_told_once_and_where_they_differ_each() -> None:
    specs = [{"schedule": {"lr": [0.1]}, "norm": "layer"}, {"schedule": {"lr": [0.1]}, "norm": "batch", "empty": {}}]
    assert parameters(specs) == {"empty": "{}", "norm": "layer · batch", "schedule.lr": "[0.1]"}


def test_times_are_those_of_the_cards_if_all_tell() -> None:
    assert times([]) is None
    cards: list[dict[str, Any]] = [
        {"finished": "2026-11-21T12:00:00+00:00", "seconds": 60.0},
        {"finished": "2026-11-21T12:30:00+00:00", "seconds": 3600.0},
        {"finished": "2026-11-21T11:50:00+00:00", "seconds": 60.0},
    ]
    span = times([Training("train/net/clean@upstream/0", card) for card in cards])
    assert span is not None
    assert [f"{moment:%H:%M}" for moment in span] == ["11:30", "12:30"]
    assert times([Training("", card) for card in [*cards, {"seconds": 1.0}]]) is None
