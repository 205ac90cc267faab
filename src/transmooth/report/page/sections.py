"""The sections of a page: tables beside the paper's, curves, shifts, courses, trainings."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from transmooth.report import courses, gains, shift
from transmooth.report.accuracy import Floats, RowResult, of_several, read_row, sigma_text
from transmooth.report.cells import cells, shown
from transmooth.report.figures import ORACLE, SEVERAL, curves, largest_radius
from transmooth.report.measures import MEASURES
from transmooth.report.page import charts
from transmooth.report.page.page import Section, TableRow
from transmooth.report.page.provenance import Training
from transmooth.report.tables import (
    OurRow,
    PaperRow,
    methods,
    our_rows,
    paper_key,
    paper_rows,
    read_published,
    title,
)
from transmooth.specs import ColumnSpec, CourseReportSpec, FigureSpec, GainsReportSpec, ShiftReportSpec, TableSpec

STEP = 0.0125  # of the radii of a curve: a fraction of the radii that tables show, so that hovering finds those
POINTS = 130
RECOMPUTED = "Recomputed from logs of others"


def table_section(spec: TableSpec, results: Path, base: Path, published: Path) -> Section:
    """Return a table of a study beside the paper's, with the curves of its rows."""
    rows = [read_row(row, results, base) for row in spec.rows]
    rows = [replace(row, block=RECOMPUTED) if given.files else row for row, given in zip(rows, spec.rows, strict=True)]
    lines = cells(rows, spec.columns)
    quoted = read_published(published, spec.paper, spec.published)
    paper = paper_rows(quoted, spec)
    own = lines[lines["block"] != RECOMPUTED]
    section = curve_table(spec, rows, lines, paper, quoted)
    return replace(
        section,
        notes=methods(own),
        finding=_finding(own, spec, paper, quoted),
        paper=f"{spec.published}, {', '.join(sorted(set(quoted['dataset'])))}" if paper else None,
        links=[f"tables/{spec.name}.csv", f"tables/{spec.name}.md"],
    )


def curve_table(
    spec: TableSpec,
    rows: Sequence[RowResult],
    lines: pd.DataFrame,
    paper: Sequence[PaperRow] = (),
    quoted: pd.DataFrame | None = None,
) -> Section:
    """Return a table of rows, the same at each sigma, and their curves."""
    per_sigma = [column for column in spec.columns if MEASURES[column.measure].per_sigma]
    certified = [column for column in per_sigma if column.measure != "acr"]
    by_sigma = lines[~lines["oracle"] & lines["sigma"].notna() & (lines["block"] != RECOMPUTED)]
    own = shown(lines, spec.columns)
    oracle = bool(own["oracle"].any())
    return Section(
        name=spec.name,
        title=spec.title,
        caption=spec.caption,
        columns=list(map(title, spec.columns)),
        oracle=oracle,
        blocks=_blocks(our_rows(own, spec), paper, quoted),
        best_in_paper=[_best_in_paper(paper, at, column) for at, column in enumerate(spec.columns)],
        sigma_columns=list(map(title, certified)),
        by_sigma=our_rows(by_sigma, spec, certified, by_sigma=True) if oracle else [],
        lower_bounds=bool((lines["grid"] != "").any()),
        chart=_curves(f"{spec.title}: certified accuracy by radius", _panels(rows)) if per_sigma else None,
    )


def _best_in_paper(paper: Sequence[PaperRow], at: int, column: ColumnSpec) -> float | None:
    best = max if MEASURES[column.measure].better == "larger" else min
    return best((float(value) for row in paper if (value := row.cells[at]) is not None), default=None)


def row_chart(title: str, row: RowResult) -> dict[str, Any]:
    """Return the curves of one row in one panel: one for each sigma, and the oracle over several."""
    return _curves(title, [("", curves([row], _grid([row])))])


def _panels(rows: Sequence[RowResult]) -> list[tuple[str, pd.DataFrame]]:
    """The other way round than a figure: a panel for each sigma, the oracle and attacks, a curve for each row."""
    grid, panels = _grid(rows), []
    for block, members in groupby(rows, lambda row: row.block):
        drawn = [(row, curves([row], grid)) for row in members]
        for panel in dict.fromkeys(name for _, frame in drawn for name in frame["curve"]):
            frame = pd.concat([part[part["curve"] == panel].assign(curve=row.label) for row, part in drawn])
            panels.append((f"{block}, {panel}" if block else panel, frame))
    return panels


def _blocks(
    ours: Sequence[OurRow], paper: Sequence[PaperRow], quoted: pd.DataFrame | None
) -> list[tuple[str, list[TableRow]]]:
    """Blocks of rows, ours and the paper's beside each other; last, what only the paper has."""
    left = {row.key: row for row in paper}

    def beside(row: OurRow) -> TableRow:
        key = None if quoted is None or not len(quoted) else paper_key(row, quoted)
        return TableRow(row.label, row, left.pop(key, None) if key else None)

    blocks = [(block, [beside(row) for row in members]) for block, members in groupby(ours, lambda row: row.block)]
    others = [TableRow(row.name, None, row) for row in left.values()]
    return [*blocks, ("In the paper only", others)] if others else blocks


def _finding(lines: pd.DataFrame, spec: TableSpec, paper: Sequence[PaperRow], quoted: pd.DataFrame) -> str:
    """The best row here and in the paper at one radius, and whether both order the rows alike; of what is certified
    where something is, else of what is attacked.
    """
    for measure in ("certified", "robust"):
        if columns := [number for number, column in enumerate(spec.columns) if column.measure == measure]:
            break
    else:
        return ""
    at = columns[(len(columns) - 1) // 2]
    column = spec.columns[at]
    radius, there = column.radius, shown(lines, [column]).dropna(subset="value")
    if not len(there):
        return ""
    best = there.loc[there["value"].idxmax()]
    name = f"{best['row']} ({best['block']})" if best["block"] else best["row"]
    value, low, high = (100 * best[name] for name in ("value", "low", "high"))
    where = ORACLE if best["oracle"] else SEVERAL if of_several(best["method"]) else sigma_text(best["sigma"])
    where = "under attack" if column.measure == "robust" else where
    text = f"At ε = {radius:g}, {name} reaches {value:.1f} % [{low:.0f}, {high:.0f}] ({where})"
    if len(there) > 1:
        close = int((there["high"] >= best["value"]).sum()) - 1
        text += f", the most of {len(there)} rows; the intervals of {close or 'none'} of the others reach that value"
    values = {row.key: float(row.cells[at] or "nan") for row in paper if row.cells[at] is not None}
    if values:
        leader = max((row for row in paper if row.key in values), key=lambda row: values[row.key])
        text += f". The paper's best there is {leader.name} with {values[leader.key]:.1f} %"
    pairs = [(row.cells[at], values.get(paper_key(row, quoted))) for row in our_rows(there, spec) if values]
    both = [(float(cell.value), theirs) for cell, theirs in pairs if theirs is not None]
    if len(both) > 2 and len({ours for ours, _ in both}) > 1:
        rank = spearmanr([ours for ours, _ in both], [theirs for _, theirs in both]).statistic
        text += f"; the order of the {len(both)} rows that both have agrees at Spearman's ρ = {rank:.2f}"
    return f"{text}."


def figure_section(spec: FigureSpec, results: Path, base: Path) -> Section:
    """Return a figure of a study."""
    panels = [(panel.title, [read_row(row, results, base) for row in panel.rows]) for panel in spec.panels]
    grid = _grid([row for _, rows in panels for row in rows])
    drawn = [(title, curves(rows, grid)) for title, rows in panels]
    links = [f"figures/{spec.name}.{kind}" for kind in ("svg", "png", "csv")]
    return Section(spec.name, spec.title, spec.caption, chart=_curves(spec.title, drawn), links=links)


def _curves(title: str, panels: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Any]:
    frames = [frame.assign(panel=panel or "all sigmas") for panel, frame in panels]
    lines = pd.concat(frames, ignore_index=True).rename(columns={"radius": "x", "certified_accuracy": "y"})
    return charts.chart(lines, title=title, x="radius ε", y="certified accuracy", percent=True, step=True)


def _grid(rows: Sequence[RowResult]) -> Floats:
    """Radii from 0 to just beyond the largest of these rows, a multiple of STEP apart."""
    largest = largest_radius(rows)
    step = STEP * 2 ** max(0, math.ceil(math.log2(largest / STEP / POINTS)))
    # Rounded, because a record may be certified at 0.75 exactly, and 60 x 0.0125 is not that.
    grid: Floats = np.round(np.arange(math.ceil(largest / step) + 2) * step, 6)
    return grid


def shift_section(spec: ShiftReportSpec, results: Path) -> Section:
    """Return a report of feature shifts."""
    lines = pd.read_csv(results / "tables" / f"{spec.name}.csv")
    mean = lines.pivot_table("shift", ["cause", "row"], "sigma", sort=False)
    head = ["moved by", "", *(f"σ = {sigma:g}" for sigma in mean.columns)]
    rows = [
        [cause, row, *(f"{value:.3f}" for value in values)]
        for (cause, row), values in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    clean = lines[lines["sigma"] == 0].rename(columns={"row": "curve", "depth": "x", "shift": "y"})
    clean = clean.assign(panel="by " + clean["cause"] + ", clean images", oracle=False)
    return Section(
        spec.name,
        spec.title,
        spec.caption,
        notes=shift.note(lines),
        plain=(head, rows),
        chart=charts.chart(clean, title=spec.title, x="layer", y="shift", percent=False, step=False),
        links=[f"tables/{spec.name}.csv", f"figures/{spec.name}.svg", f"figures/{spec.name}.png"],
    )


def course_section(spec: CourseReportSpec, results: Path) -> Section:
    """Return a figure of trainings: of each row the mean over its seeds."""
    path = f"figures/{spec.name}"
    lines = pd.read_csv(results / f"{path}.csv")
    seeds = lines["seed"].nunique()
    mean = lines.groupby(["row", "epoch"], sort=False, as_index=False)["value"].mean()
    mean = mean.rename(columns={"row": "curve", "epoch": "x", "value": "y"}).assign(panel="last stage", oracle=False)
    return Section(
        spec.name,
        spec.title,
        spec.caption,
        notes=f"Mean of {seeds} seeds." if seeds > 1 else "",
        chart=charts.chart(mean, title=spec.title, x="epoch", y=courses.label(spec.metric), percent=False, step=False),
        links=[f"{path}.{kind}" for kind in ("svg", "png", "csv")],
    )


def gains_section(spec: GainsReportSpec, results: Path) -> Section:
    """Return a figure of gains: its points as a table, the line of each start in words."""
    path = f"figures/{spec.name}"
    points = pd.read_csv(results / f"{path}.csv")
    lines = [
        f"{fit.start}: mean {fit.mean_x:+.1f} and {fit.mean_y:+.1f} over {fit.tasks} tasks"
        + ("" if math.isnan(fit.r_squared) else f", line y = {fit.slope:.2f} x {fit.intercept:+.2f}")
        + ("" if math.isnan(fit.r_squared) else f" with R² = {fit.r_squared:.2f}")
        for fit in gains.fit_lines(points).itertuples()
    ]
    head = ["task", "start", gains.gain_of(spec.x), gains.gain_of(spec.y)]
    rows = [[each.task, each.start, f"{each.x:+.1f}", f"{each.y:+.1f}"] for each in points.itertuples()]
    return Section(
        spec.name,
        spec.title,
        spec.caption,
        notes=f"Over {spec.against}. {'; '.join(lines)}.",
        plain=(head, rows),
        picture=f"data:image/svg+xml;base64,{b64encode((results / f'{path}.svg').read_bytes()).decode()}",
        links=[f"{path}.{kind}" for kind in ("svg", "png", "csv")],
    )


def training_section(trainings: Sequence[Training], results: Path) -> Section | None:
    """Return the training curves of a study, a panel for what they started from; None where nothing was trained."""
    path = "metrics/training.csv"
    lines = pd.read_csv(results / path).melt("epoch", var_name="run", value_name="y").dropna()
    if not len(lines):
        return None
    runs: Mapping[str, Training] = {each.path: each for each in trainings}
    seeds = len({each.seed for each in trainings}) > 1
    lines = lines.assign(
        panel=[runs[name].started_from for name in lines["run"]],
        curve=[runs[name].name + (f", seed {runs[name].seed}" if seeds else "") for name in lines["run"]],
        oracle=False,
        x=lines["epoch"],
    )
    title = "Score on the validation images by epoch"
    return Section(
        "training",
        title,
        "At the learning rate that was kept; validation images have the noise of the training.",
        chart=charts.chart(lines, title=title, x="epoch", y="validation score", percent=True, step=False),
        links=[path],
    )
