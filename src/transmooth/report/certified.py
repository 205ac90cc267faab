"""What is certified: a line for each curve of each row, with what its answers took.

Each line is of one smoothed classifier that was chosen before its results were seen: of one σ, of several (multi-σ), or
of a σ of each image.  No line is an oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from transmooth.report.accuracy import Floats, RowResult, average_certified_radius
from transmooth.report.cells import Cell
from transmooth.report.figures import SEVERAL


@dataclass(frozen=True)
class CertifiedRow:
    """A smoothed classifier.

    classifier: its σ in words.  cells: certified accuracy at each radius, in percent.  abstained: percent of the
    images; evaluations: forward passes for an image; rate: images in a second; each empty where it is unknown.
    """

    block: str
    label: str
    classifier: str
    cells: tuple[Cell, ...]
    acr: Cell
    abstained: str
    evaluations: str
    rate: str

    @property
    def name(self) -> str:
        """The row in words, with its block."""
        return f"{self.block}: {self.label}" if self.block else self.label


def certified_rows(rows: Sequence[RowResult], radii: Sequence[float]) -> list[CertifiedRow]:
    """Return a line for each curve of these rows; the best of each column is marked, unless all are alike."""
    lines = [
        _line(row, sigma, radii)
        for row in rows
        for sigma in (*row.curves, *([] if row.multi_sigma is None else [np.nan]))
    ]
    columns = [_marked(cells) for cells in zip(*((*line.cells, line.acr) for line in lines), strict=True)]
    return [
        replace(line, cells=tuple(cells), acr=acr)
        for line, (*cells, acr) in zip(lines, zip(*columns, strict=True), strict=True)
    ]


def classifier_text(sigma: float, several: bool) -> str:
    """Return the σ of a smoothed classifier in words."""
    return SEVERAL if several else "of each image" if np.isnan(sigma) else f"{sigma:g}"


def _line(row: RowResult, sigma: float, radii: Sequence[float]) -> CertifiedRow:
    acr = np.array([average_certified_radius(image_radii) for image_radii in row.radii(sigma)])
    effort = row.effort(sigma)
    spent = (np.nan,) * 3 if effort is None else (effort.abstained, effort.evaluations, effort.seconds)
    abstained, evaluations, seconds = (float(np.mean(each)) for each in spent)
    rate = 1 / seconds if seconds else np.nan
    return CertifiedRow(
        row.block,
        row.label,
        classifier_text(sigma, sigma not in row.curves),
        tuple(
            _cell(100 * shares, ".1f", tuple(100 * end for end in row.interval(float(shares.mean()), row.images)))
            for shares in row.accuracy(sigma, radii).T
        ),
        _cell(acr, ".3f"),
        _text(100 * abstained, ".1f"),
        _text(evaluations, ",.0f"),
        _text(rate, ",.0f" if rate >= 10 else ".2g"),
    )


def _cell(values: Floats, form: str, interval: tuple[float, ...] = ()) -> Cell:
    """Return the mean over seeds, and their standard deviation where there are several."""
    spread = format(values.std(ddof=1), form) if len(values) > 1 else ""
    low, high = (f"{end:.0f}" for end in interval) if interval else ("", "")
    return Cell(format(values.mean(), form), False, spread, low=low, high=high)


def _text(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _marked(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a column, the largest marked; none where all are alike or nothing is reached."""
    values = [float(cell.value) for cell in cells]
    best = max(values) if len(set(values)) > 1 else None
    return [replace(cell, best=value == best) for cell, value in zip(cells, values, strict=True)]
