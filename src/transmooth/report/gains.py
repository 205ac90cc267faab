"""The figure of two columns of a table, such as gains: what each start gains over another one on each task.

"A Study of the Effects of Transfer Learning on Adversarial Robustness" (TMLR 2024), Figures 2 and 3: a point is a task
and a start, its coordinates are relative gains in percent,

    gain = 100 (value / value of the start that it is compared with − 1),

and a line of least squares with an intercept goes through the points of each start.  Without a start to compare with,
coordinates are the values themselves, and the points of a label are joined: a course, such as accuracy by epochs.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress

from transmooth import files
from transmooth.report.accuracy import RowResult, read_row
from transmooth.report.cells import cells, shown
from transmooth.report.figures import scatter_chart
from transmooth.report.measures import MEASURES
from transmooth.specs import ColumnSpec, GainsReportSpec

FEWEST = 3  # through two points there is always a line


def write_gains(spec: GainsReportSpec, results: Path, base: Path, out: Path) -> None:
    """Write `out`.csv, .svg and .png of `spec.y` over `spec.x`, or of the gains in both.

    Rows are read as those of tables; the tasks are their blocks, the starts their labels.
    """
    rows = [read_row(row, results, base) for row in spec.rows]
    values = pd.DataFrame(_values(rows, spec))
    points = mean_points(values if spec.against is None else relative_gains(values, spec.against))
    files.write_text(out.with_suffix(".csv"), points.to_csv(index=False, float_format="%.6g"))
    fits = {} if spec.against is None else {fit["start"]: fit for fit in fit_lines(points).to_dict("records")}
    groups = []
    for start, group in points.groupby("start", sort=False):
        x, y = group["x"].to_numpy(), group["y"].to_numpy()
        line = (x, y) if spec.against is None else _ends(group, fits.get(start))
        groups.append((_legend(start, fits.get(start)), x, y, line))
    scatter_chart(spec.title, groups, axis_label(spec, spec.x), axis_label(spec, spec.y), out, spec.against is not None)


def relative_gains(values: pd.DataFrame, against: str) -> pd.DataFrame:
    """Return gains in percent, of the same columns.

    values: columns task, start, seed, x, y.  The gains of a task and a seed are over its start `against`, which itself
    is dropped.  A gain over 0 is NaN.
    """
    by_start = values.set_index(["task", "seed", "start"])
    compared = by_start.xs(against, level="start")
    others = by_start.drop(index=against, level="start")
    base = compared.reindex(others.index.droplevel("start")).set_axis(others.index)
    gains = 100 * (others / base.where(base != 0) - 1)
    return gains.reset_index()[["task", "start", "seed", "x", "y"]]


def mean_points(values: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds: columns task, start, x, y, x_sd, y_sd; the deviations are NaN of one seed."""
    by_task = values.groupby(["task", "start"], sort=False)[["x", "y"]]
    return by_task.mean().join(by_task.std(ddof=1).add_suffix("_sd")).reset_index()


def fit_lines(points: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each start: columns start, tasks, mean_x, mean_y, slope, intercept, r_squared.

    points: columns start, x, y.  Tasks without a gain do not count; of fewer than three tasks, or where x is everywhere
    the same, the line is NaN.
    """
    lines = []
    for start, group in points.dropna(subset=["x", "y"]).groupby("start", sort=False):
        line: dict[str, Any] = {"start": start, "tasks": len(group)}
        line |= {"mean_x": group["x"].mean(), "mean_y": group["y"].mean()}
        line |= {"slope": np.nan, "intercept": np.nan, "r_squared": np.nan}
        if len(group) >= FEWEST and group["x"].nunique() > 1:
            fit = linregress(group["x"], group["y"])
            line |= {"slope": fit.slope, "intercept": fit.intercept, "r_squared": fit.rvalue**2}
        lines.append(line)
    return pd.DataFrame(lines, columns=["start", "tasks", "mean_x", "mean_y", "slope", "intercept", "r_squared"])


def axis_label(spec: GainsReportSpec, column: ColumnSpec) -> str:
    """Return what an axis is called."""
    info = MEASURES[column.measure]
    words = info.words if column.radius is None else info.words.replace("ε", f"ε = {column.radius:g}")
    if spec.against is not None:
        return f"gain in {words} (%)"
    return f"{words} (%)" if info.unit == "percent" else words


def _values(rows: Iterable[RowResult], spec: GainsReportSpec) -> Iterator[dict[str, Any]]:
    """What each seed of each row has in the two columns, shares in percent, at the sigma that tables show."""
    for row in rows:
        by_column = {}
        for column in (spec.x, spec.y):
            (line,) = shown(cells([row], [column]), [column]).to_dict("records")
            info = MEASURES[column.measure]
            scale = 100 if info.unit == "percent" else 1
            by_column[column] = scale * info.value(row, line["sigma"], column.radius or 0.0)
        for seed, (x, y) in enumerate(zip(by_column[spec.x], by_column[spec.y], strict=True)):
            yield {"task": row.block, "start": row.label, "seed": seed, "x": x, "y": y}


def _legend(start: str, fit: dict[str, Any] | None) -> str:
    return start if fit is None or np.isnan(fit["r_squared"]) else f"{start}, R² = {fit['r_squared']:.2f}"


def _ends(group: pd.DataFrame, fit: dict[str, Any] | None) -> tuple[list[float], list[float]] | None:
    """Return where a start's line begins and ends; None where there is none."""
    if fit is None or np.isnan(fit["slope"]):
        return None
    ends = [float(group["x"].min()), float(group["x"].max())]
    return ends, [fit["intercept"] + fit["slope"] * x for x in ends]
