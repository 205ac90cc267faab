"""Curves of figures."""

from dataclasses import replace

import numpy as np

from tests.helpers.report import TWO, result
from transmooth.report.figures import curves, wide


def test_one_row_draws_its_sigmas_and_an_oracle_above_them() -> None:
    grid = np.linspace(0, 1.1, 12)
    frame = curves([TWO], grid)
    assert list(dict.fromkeys(frame["curve"])) == ["σ = 0.25", "σ = 1", "oracle over σ"]
    table = wide([("Panel", frame, 4)])
    assert table.index.name == "radius"
    oracle = table[["Panel: σ = 0.25", "Panel: σ = 1"]].max(axis=1)
    assert (table["Panel: oracle over σ"] == oracle).all()
    assert (table["Panel: σ = 1 low"] <= table["Panel: σ = 1"]).all()
    assert list(dict.fromkeys(curves([TWO, TWO], grid)["curve"])) == ["ours"]


def test_one_sigma_has_no_oracle_alone_or_beside_rows_of_several() -> None:
    grid = np.linspace(0, 1.1, 12)
    one = result({0.5: [[1.0, 0.5]]}, label="one")
    alone = curves([one], grid)
    assert set(zip(alone["curve"], alone["oracle"], strict=True)) == {("σ = 0.5", False)}
    both = curves([one, TWO], grid)
    assert set(zip(both["curve"], both["oracle"], strict=True)) == {("one", False), ("ours", True)}
    assert both.query("curve == 'one'")["certified_accuracy"].tolist() == alone["certified_accuracy"].tolist()


def test_a_classifier_of_several_sigmas_is_one_curve() -> None:
    grid, several = np.linspace(0, 1.1, 12), np.array([[1.0, 0.5, -np.inf, -np.inf]] * 2)
    both, only = replace(TWO, multi_sigma=several), replace(TWO, curves={}, multi_sigma=several, label="cascade")
    drawn = curves([both], grid)
    assert list(dict.fromkeys(drawn["curve"])) == ["σ = 0.25", "σ = 1", "multi-σ", "oracle over σ"]
    assert set(drawn[drawn["oracle"]]["curve"]) == {"oracle over σ"}
    assert drawn.query("curve == 'multi-σ'")["certified_accuracy"].tolist() == [0.5] * 5 + [0.5] + [0.25] * 4 + [
        0.25,
        0,
    ]
    assert list(dict.fromkeys(curves([only], grid)["curve"])) == ["multi-σ"]
    beside = curves([both, only], grid)
    assert list(dict.fromkeys(beside["curve"])) == ["ours, multi-σ", "ours", "cascade"]
    assert (both.largest, only.largest) == (1.0, 1.0)
