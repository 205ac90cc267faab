"""Curves of figures."""

import numpy as np

from tests.helpers.report import TWO
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
