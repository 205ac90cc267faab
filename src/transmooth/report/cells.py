"""The tidy frame `cells`: one line for each row, column and sigma of a table, from which all that shows it is made."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from transmooth.report.accuracy import RowResult, Settings, grid_text
from transmooth.report.measures import MEASURES, MeasureInfo
from transmooth.specs import ColumnSpec

ACR = ColumnSpec(measure="acr")
SHARES = ("certified", "multi_sigma")  # certified accuracies, whose curve has a value at radius 0


def cells(rows: Iterable[RowResult], columns: Sequence[ColumnSpec]) -> pd.DataFrame:
    """Return the cells of these rows.

    A measure that has a value at each sigma has a line for each.  Several sigmas have one more line for the oracle: the
    best of them, at its `sigma`.  The ACR has its lines whether it is a column or not.  A measure without a sigma has
    one line; so has a transductive row, and a classifier of several sigmas.

        block, row, published, dataset     which row            value, low, high   mean over seeds, its 95 % interval
        column, measure, radius            which column         seed_sd            standard deviation over seeds
        sigma, oracle                      which sigma          natural            the same curve at radius 0
        images, seeds                      over how many        chance             what one answer for all images has
                                                                method … grid      how it was certified or attacked
    """
    return pd.DataFrame([line for row in rows for column in _with_acr(columns) for line in _lines(row, column)])


def _with_acr(columns: Sequence[ColumnSpec]) -> list[ColumnSpec]:
    per_sigma = any(MEASURES[column.measure].per_sigma for column in columns)
    return [*columns, ACR] if per_sigma and ACR not in columns else list(columns)


def _lines(row: RowResult, column: ColumnSpec) -> Iterator[dict[str, Any]]:
    info, radius = MEASURES[column.measure], column.radius or 0.0
    for oracle, sigma in choices(row, info, radius):
        values = info.value(row, sigma, radius)
        mean = float(values.mean())
        images = row.images if info.of_curves else row.attacked_images if info.attacked else row.clean_images
        low, high = row.interval(mean, images) if info.interval and images else (np.nan, np.nan)
        settings = row.settings
        if info.of_curves and sigma not in row.curves:
            settings = row.multi_settings
        if info.attacked:  # SA is of every attack
            settings = Settings(row.attacks[radius].method if radius in row.attacks else "")
        yield {
            "block": row.block,
            "row": row.label,
            "published": row.published,
            "dataset": row.dataset,
            "column": column.text,
            "measure": column.measure,
            "radius": column.radius,
            "sigma": sigma,
            "oracle": oracle,
            "value": mean,
            "low": low,
            "high": high,
            "seed_sd": values.std(ddof=1) if row.seeds > 1 else np.nan,
            "natural": row.accuracy(sigma, [0.0]).mean() if column.measure in SHARES else np.nan,
            "chance": row.chance if column.measure in SHARES or info.attacked else np.nan,
            "images": images,
            "seeds": row.seeds,
            "method": settings.method,
            "n0": settings.n0,
            "n": settings.n,
            "alpha": settings.alpha,
            "grid": grid_text(settings.grid),
        }


def choices(row: RowResult, info: MeasureInfo, radius: float) -> list[tuple[bool, float]]:
    """Return (oracle, sigma) of each line, the oracle's last.

    The oracle takes the sigma with the best mean; the smaller one of equals.  If the only curve of a row is that of a
    classifier of several sigmas, it has one line, without a sigma.  A measure of such a classifier has no line in a row
    without one.
    """
    if not info.per_sigma or not row.curves:
        return [] if info.of_curves and row.multi_sigma is None else [(False, np.nan)]
    if len(row.curves) == 1:  # nothing to choose from
        return [(False, sigma) for sigma in row.curves]
    sign = 1 if info.better == "larger" else -1
    best = max(row.curves, key=lambda sigma: (sign * info.value(row, sigma, radius).mean(), -sigma))
    return [*((False, sigma) for sigma in row.curves), (True, best)]


def shown(lines: pd.DataFrame, columns: Sequence[ColumnSpec]) -> pd.DataFrame:
    """Return the lines of a table's own columns, one for each row and column: the oracle's where there is one."""
    own = lines[lines["column"].isin([column.text for column in columns])]
    chosen = own.groupby(["block", "row", "column"], dropna=False)["oracle"].transform("any")
    return own[own["oracle"] | ~chosen.astype(bool)]


@dataclass(frozen=True)
class Cell:
    """A number as it is printed.

    natural: the same curve at ε = 0; spread: the standard deviation of the seeds; low, high: the 95 % interval; each
    empty where there is none.  best: no row of the same dataset has a better one; of a difference, it is clear.
    """

    value: str
    best: bool
    spread: str = ""
    natural: str = ""
    low: str = ""
    high: str = ""

    def __str__(self) -> str:
        spread = f" ± {self.spread}" if self.spread else ""
        if not self.low:  # bold with its spread
            return self._bold(self.value + spread) if self.value else "–"
        natural = f"({self.natural}) " if self.natural else ""
        return f"{natural}{self._bold(self.value)}{spread} [{self.low}, {self.high}]"

    def _bold(self, text: str) -> str:
        return f"**{text}**" if self.best else text


EMPTY = Cell("", False)
