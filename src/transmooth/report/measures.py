"""What a column of a table shows: of each measure the unit, the direction, the name in params/published.csv, the value.

A measure is a number for each seed of a row.  `per_sigma`: it has one at each sigma of the row's curves, so that there
is an oracle over them; the others are of the base classifier.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from transmooth.params.values import Measure
from transmooth.report.accuracy import Floats, RowResult, average_certified_radius


@dataclass(frozen=True)
class MeasureInfo:
    """How a measure is computed and shown.

    title: of its column, with `radius` in it.  words: what it is called in a sentence.  published: its metric in
    params/published.csv.  value: (row, sigma, radius) → one number for each seed.  interval: shares of the certified
    test images have a 95 % interval beside them.  better: "larger" or "smaller".
    """

    title: str
    words: str
    published: str
    unit: Literal["percent", "radius"]
    value: Callable[[RowResult, float, float], Floats]
    per_sigma: bool
    interval: bool = False
    better: Literal["larger", "smaller"] = "larger"

    def text(self, value: float) -> str:
        """Return a value as it is printed: percent with one digit, a radius with three; empty where there is none."""
        if np.isnan(value):
            return ""
        return f"{100 * value:.1f}" if self.unit == "percent" else f"{value:.3f}"


def _acr(row: RowResult, sigma: float, radius: float) -> Floats:
    return np.array([average_certified_radius(image_radii) for image_radii in row.curves[sigma]])


MEASURES: Mapping[Measure, MeasureInfo] = {
    "clean": MeasureInfo(
        title="Clean",
        words="clean accuracy",
        published="clean_acc",
        unit="percent",
        value=lambda row, sigma, radius: row.clean,
        per_sigma=False,
    ),
    "certified": MeasureInfo(
        title="ε = {radius:g}",
        words="certified accuracy at ε",
        published="certified_acc",
        unit="percent",
        value=lambda row, sigma, radius: row.accuracy(sigma, [radius])[:, 0],
        per_sigma=True,
        interval=True,
    ),
    "acr": MeasureInfo(
        title="ACR",
        words="average certified radius",
        published="acr",
        unit="radius",
        value=_acr,
        per_sigma=True,
    ),
}
