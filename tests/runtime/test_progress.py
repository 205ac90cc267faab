import sys
import time

import pytest

from transmooth.runtime.progress import duration, telling


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (5400, "90 min"), (7200, "2.0 h"), (200_000, "2.3 days")],
)
def test_a_time_in_words(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_off_a_terminal_a_line_comes_now_and_then_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    right, wrong = {"prediction": 1, "label": 1}, {"prediction": -1, "label": 1}
    with telling() as show:
        clock = 200.0  # reading and timing is no progress
        show([right], 9)  # of an earlier run
        for _ in range(8):
            clock += 6
            show([wrong], 9)
    assert capsys.readouterr().err.splitlines() == [
        "3 of 9 images, 36 s left, 33.3% certified at 0",
        "5 of 9 images, 24 s left, 20.0% certified at 0",
        "7 of 9 images, 12 s left, 14.3% certified at 0",
        "9 of 9 images in 48 s, 11.1% certified at 0",
    ]


def test_nothing_is_shown_where_nothing_is_left_or_it_should_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with telling() as show:
        show([{"prediction": 1, "label": 1}], 1)
    with telling(quiet=True) as show:
        show([], 2)
        show([{"prediction": 1, "label": 1}] * 2, 2)
    assert capsys.readouterr().err == ""
    assert not sys.stderr.isatty()
