"""Differences of a table's rows from one of them, image by image: what one part of training or certification changed.

Two rows are right and wrong on much the same images, so that their difference is known better than either of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from transmooth.report.accuracy import Floats, RowResult
from transmooth.report.cells import EMPTY, Cell, choices
from transmooth.report.measures import MEASURES
from transmooth.specs import ColumnSpec

CONFIDENCE = 0.95
KEYS = ["block", "row", "column"]
COLUMNS = [*KEYS, "difference", "difference_low", "difference_high", "difference_sd", "difference_clear"]


def differences(rows: Sequence[RowResult], columns: Sequence[ColumnSpec], against: str) -> pd.DataFrame:
    """Return what each row is above the one called `against`, of its own block where there is one, else of the table.

    Each is taken at the sigma at which a table shows it; see `cells.shown`.

        block, row, column                  which cell
        difference                          mean over images and seeds
        difference_low, difference_high     its 95 % interval over images (Student's t), these networks given
        difference_sd                       standard deviation over seeds; NaN of one
        difference_clear                    whether the interval leaves out 0 and all seeds have its sign

    There is no line for what is not of single images, nor for rows that differ in dataset, images or number of seeds.
    """
    found = []
    for row in rows:
        base = _base(rows, row, against)
        if base is None or base is row or base.dataset != row.dataset:
            continue
        for column in columns:
            a, b = _of_images(row, column), _of_images(base, column)
            if a is not None and b is not None and a.shape == b.shape and a.shape[1] > 1:
                found.append({"block": row.block, "row": row.label, "column": column.text} | _difference(a - b))
    return pd.DataFrame(found, columns=COLUMNS)


def _base(rows: Sequence[RowResult], row: RowResult, against: str) -> RowResult | None:
    named = [each for each in rows if each.label == against]
    own = [each for each in named if each.block == row.block]
    return own[0] if own else named[0] if len(named) == 1 else None


def _of_images(row: RowResult, column: ColumnSpec) -> Floats | None:
    """Return a column of a row for each image and seed; None where it has none, or where something is unknown."""
    info, radius = MEASURES[column.measure], column.radius or 0.0
    possible = choices(row, info, radius)
    if info.each is None or not possible:
        return None
    values = info.each(row, possible[-1][1], radius)
    return None if np.isnan(values).any() else values


def _difference(values: Floats) -> dict[str, Any]:
    of_images, of_seeds = values.mean(0), values.mean(1)
    mean, error = of_images.mean(), of_images.std(ddof=1) / np.sqrt(len(of_images))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(of_images) - 1) * error
    spread = of_seeds.std(ddof=1) if len(values) > 1 else np.nan
    clear = abs(mean) > half and bool((np.sign(of_seeds) == np.sign(mean)).all())
    return dict(zip(COLUMNS[len(KEYS) :], (mean, mean - half, mean + half, spread, clear), strict=True))


def compared_rows(frame: pd.DataFrame, columns: Sequence[ColumnSpec]) -> Iterator[tuple[str, str, list[Cell]]]:
    """Yield block and label of each row of a table that was compared, and a cell for each column.

    A difference is printed with its sign, in points where it is of shares, and bold where it is clear.
    """
    for (block, label), group in frame.groupby(["block", "row"], sort=False):
        by_column = group.set_index("column")
        made = [_cell(by_column.loc[each.text], each) if each.text in by_column.index else EMPTY for each in columns]
        yield str(block), str(label), made


def _cell(line: "pd.Series[Any]", column: ColumnSpec) -> Cell:
    info = MEASURES[column.measure]
    value, low, high = (_signed(info.text(line[f"difference{which}"])) for which in ("", "_low", "_high"))
    return Cell(value, bool(line["difference_clear"]), info.text(line["difference_sd"]), low=low, high=high)


def _signed(text: str) -> str:
    return f"− {text[1:]}" if text.startswith("-") else f"+ {text}"
