"""Curves of figures."""

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
