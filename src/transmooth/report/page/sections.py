"""The sections of a page: tables beside the paper's, curves, shifts, courses, trainings."""

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from transmooth.report import courses, gains, shift
from transmooth.report.accuracy import Floats, RowResult, of_several, read_row, sigma_text
from transmooth.report.cells import SHARES, cells, shown
from transmooth.report.certified import CertifiedRow, certified_rows
from transmooth.report.differences import compared_rows, differences
from transmooth.report.figures import ORACLE, SEVERAL, curves, largest_radius
from transmooth.report.measures import FORMATS, MEASURES
from transmooth.report.page import charts
from transmooth.report.page.page import Differences, Section, TableRow
from transmooth.report.page.provenance import Training, run_text
from transmooth.report.tables import (
    OurRow,
    PaperRow,
    compared_columns,
    methods,
    our_rows,
    paired_words,
    paper_key,
    paper_rows,
    read_published,
    title,
)
from transmooth.specs import (
    ColumnSpec,
    CourseReportSpec,
    FigureSpec,
    GainsReportSpec,
    RowSpec,
    ShiftReportSpec,
    TableSpec,
)

STEP = 0.0125  # of the radii of a curve: a fraction of the radii that tables show, so that hovering finds those
POINTS = 130
RECOMPUTED = "Recomputed from logs of others"


def table_section(spec: TableSpec, results: Path, base: Path, published: Path) -> Section:
    """Return a table of a study beside the paper's, with the curves of its rows."""
    read = [read_row(row, results, base) for row in spec.rows]
    rows = [replace(row, block=RECOMPUTED) if given.files else row for row, given in zip(read, spec.rows, strict=True)]
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
        differences=_differences(spec, read),
        links=[f"tables/{spec.name}.csv", f"tables/{spec.name}.md"],
    )


def _differences(spec: TableSpec, rows: Sequence[RowResult]) -> Differences | None:
    """Return what rows are above the one that a table compares them with; None where it compares none."""
    paired = pd.DataFrame() if spec.against is None else differences(rows, spec.columns, spec.against)
    if paired.empty:
        return None
    columns = compared_columns(spec, paired)
    return Differences(
        f"Differences from {spec.against}, image by image",
        paired_words(spec, paired),
        list(map(title, columns)),
        [
            (block, [(label, line) for _, label, line in members])
            for block, members in groupby(compared_rows(paired, columns), lambda row: row[0])
        ],
    )


def curve_table(
    spec: TableSpec,
    rows: Sequence[RowResult],
    lines: pd.DataFrame,
    paper: Sequence[PaperRow] = (),
    quoted: pd.DataFrame | None = None,
) -> Section:
    """Return what is certified of rows, their curves, and the table of the study, with the oracle where there is one.

    That table leaves out what it would repeat.
    """
    radii = {column.radius or 0.0 for column in spec.columns if column.measure in SHARES}
    radii |= {0.0} if spec.brackets else set()
    others = [column for column in spec.columns if not MEASURES[column.measure].of_curves]
    of_curves = len(others) < len(spec.columns)
    curved = [row for row in rows if row.curves or row.multi_sigma is not None] if of_curves else []
    own = shown(lines, spec.columns)
    oracle = bool(own["oracle"].any())
    columns = spec.columns if oracle or paper else others
    return Section(
        name=spec.name,
        title=spec.title,
        caption=spec.caption,
        radii=sorted(radii),
        certified=_certified(curved, sorted(radii)),
        lower_bounds=bool((lines["grid"] != "").any()),
        columns=list(map(title, columns)),
        oracle=oracle,
        blocks=_blocks(our_rows(own, spec, columns), paper, quoted) if columns else [],
        best_in_paper=[_best_in_paper(paper, at, column) for at, column in enumerate(spec.columns)],
        chart=_curves(f"{spec.title}: certified accuracy by radius", _panels(curved)) if curved else None,
    )


def _certified(rows: Sequence[RowResult], radii: Sequence[float]) -> list[tuple[str, list[CertifiedRow]]]:
    """Return what is certified, by block; the best of ours is not measured by logs of other images."""
    ours = certified_rows([row for row in rows if row.block != RECOMPUTED], radii)
    logs = certified_rows([row for row in rows if row.block == RECOMPUTED], radii)
    return [(block, list(lines)) for block, lines in groupby([*ours, *logs], lambda line: line.block)]


def _best_in_paper(paper: Sequence[PaperRow], at: int, column: ColumnSpec) -> float | None:
    best = max if MEASURES[column.measure].better == "larger" else min
    return best((float(value) for row in paper if (value := row.cells[at]) is not None), default=None)


def row_chart(title: str, row: RowResult) -> dict[str, Any]:
    """Return the curves of one row in one panel: one for each sigma, and the oracle over several."""
    return _curves(title, [("", curves([row], _grid([row])))])


def _panels(rows: Sequence[RowResult]) -> list[tuple[str, pd.DataFrame]]:
    """The other way round than a figure: a panel for each sigma, attacks, and last the oracle; a curve for each row."""
    grid, panels = _grid(rows), []
    for block, members in groupby(rows, lambda row: row.block):
        drawn = [(row, curves([row], grid)) for row in members]
        names = dict.fromkeys(name for _, frame in drawn for name in frame["curve"])
        for panel in sorted(names, key=lambda name: name == ORACLE):
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
    """The best row at one radius, of what is certified where something is, else of what is attacked; the paper's best
    there, and whether both order the rows alike.
    """
    for measure in ("certified", "robust"):
        if columns := [number for number, column in enumerate(spec.columns) if column.measure == measure]:
            break
    else:
        return ""
    at = columns[(len(columns) - 1) // 2]
    column = spec.columns[at]
    radius, of_column = column.radius, lines[lines["column"] == column.text].dropna(subset="value")
    if not len(of_column):
        return ""
    each = of_column[~of_column["oracle"]].sort_values("value", ascending=False, kind="stable")
    there = each.drop_duplicates(["block", "row"])
    best = there.iloc[0]
    name = f"{best['row']} ({best['block']})" if best["block"] else best["row"]
    value, low, high = (100 * best[name] for name in ("value", "low", "high"))
    where = SEVERAL if of_several(best["method"]) else sigma_text(best["sigma"])
    where = "under attack" if column.measure == "robust" else where
    text = f"At ε = {radius:g}, {name} reaches {value:.1f} % [{low:.0f}, {high:.0f}] ({where})"
    if len(there) > 1:
        close = int((there["high"] >= best["value"]).sum()) - 1
        at_one = ", each at its best σ" if of_column["oracle"].any() else ""
        text += f", the most of {len(there)} rows{at_one}; the intervals of {close or 'none'} of the others reach it"
    values = {row.key: float(row.cells[at] or "nan") for row in paper if row.cells[at] is not None}
    if values:
        leader = max((row for row in paper if row.key in values), key=lambda row: values[row.key])
        text += f". The paper's best there is {leader.name} with {values[leader.key]:.1f} %"
    ours = our_rows(shown(of_column, [column]), spec) if values else []
    both = [(float(row.cells[at].value), values[key]) for row in ours if (key := paper_key(row, quoted)) in values]
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
    frames = [frame.assign(panel=panel) for panel, frame in panels]
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
    head = ["Network", "moved by", *(f"σ = {sigma:g}" for sigma in mean.columns)]
    rows = [
        [row, cause, *(f"{value:.3f}" for value in values)]
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
        keys=2,
        chart=charts.chart(clean, title=spec.title, x="layer", y="shift", percent=False, step=False),
        links=[f"tables/{spec.name}.csv", f"figures/{spec.name}.svg", f"figures/{spec.name}.png"],
    )


def course_section(spec: CourseReportSpec, results: Path) -> Section:
    """Return a figure of trainings: of each row the mean over its seeds."""
    path = f"figures/{spec.name}"
    lines = pd.read_csv(results / f"{path}.csv")
    seeds = lines["seed"].nunique()
    mean = lines.groupby(["row", "epoch"], sort=False, as_index=False)["value"].mean()
    mean = mean.rename(columns={"row": "curve", "epoch": "x", "value": "y"}).assign(panel="", oracle=False)
    return Section(
        spec.name,
        spec.title,
        spec.caption,
        notes=f"Mean of {seeds} seeds." if seeds > 1 else "",
        chart=charts.chart(mean, title=spec.title, x="epoch", y=courses.label(spec.metric), percent=False, step=False),
        links=[f"{path}.{kind}" for kind in ("svg", "png", "csv")],
    )


def gains_section(spec: GainsReportSpec, results: Path) -> Section:
    """Return a figure of two columns: its points as a table, of gains the line of each start in words."""
    path = f"figures/{spec.name}"
    points = pd.read_csv(results / f"{path}.csv")
    lines = [
        f"{fit.start}: mean {fit.mean_x:+.1f} and {fit.mean_y:+.1f} over {fit.tasks} tasks"
        + ("" if math.isnan(fit.r_squared) else f", line y = {fit.slope:.2f} x {fit.intercept:+.2f}")
        + ("" if math.isnan(fit.r_squared) else f" with R² = {fit.r_squared:.2f}")
        for fit in gains.fit_lines(points).itertuples()
    ]
    of_gains = spec.against is not None
    head = ["task", "start"] if of_gains else ["point", "row"]
    head += [gains.axis_label(spec, column) for column in (spec.x, spec.y)]
    x, y = ("+.1f" if of_gains else FORMATS[MEASURES[column.measure].unit] for column in (spec.x, spec.y))
    rows = [[each.task, each.start, f"{each.x:{x}}", f"{each.y:{y}}"] for each in points.itertuples()]
    return Section(
        spec.name,
        spec.title,
        spec.caption,
        notes=f"Over {spec.against}. {'; '.join(lines)}." if of_gains else "",
        plain=(head, rows),
        keys=2,
        picture=f"data:image/svg+xml;base64,{b64encode((results / f'{path}.svg').read_bytes()).decode()}",
        links=[f"{path}.{kind}" for kind in ("svg", "png", "csv")],
    )


def training_section(trainings: Sequence[Training], labels: Mapping[str, str], results: Path) -> Section | None:
    """Return the training curves of a study, a panel for each stage and dataset; None where nothing was trained.

    A curve is the mean over the seeds of a run.  labels: of the row that a run is, by `Training.name`.
    """
    path = "metrics/training.csv"
    lines = pd.read_csv(results / path).melt("epoch", var_name="run", value_name="y").dropna()
    if not len(lines):
        return None
    runs: Mapping[str, Training] = {each.path: each for each in trainings}
    lines = lines.assign(
        panel=[f"stage {len(runs[name].run.stages)}, {runs[name].run.dataset}" for name in lines["run"]],
        curve=[labels.get(runs[name].name, runs[name].name) for name in lines["run"]],
    )
    mean = lines.groupby(["panel", "curve", "epoch"], sort=False, as_index=False)["y"].mean()
    mean = mean.sort_values("panel", kind="stable").rename(columns={"epoch": "x"}).assign(oracle=False)
    seeds, title = len({each.seed for each in trainings}), "Score on the validation images by epoch"
    return Section(
        "training",
        title,
        "At the learning rate that was kept; validation images have the noise of the training.",
        notes=f"Mean of {seeds} seeds." if seeds > 1 else "",
        chart=charts.chart(mean, title=title, x="epoch", y="validation score", percent=True, step=False),
        links=[path],
    )


def row_labels(rows: Iterable[RowSpec]) -> dict[str, str]:
    """Return the label of the first row that a run is alone, by the run in words; runs of one label keep their own."""
    labels: dict[str, str] = {}
    for row in rows:
        for (each,) in (runs for runs in row.runs if len(runs) == 1):
            labels.setdefault(run_text(each.run), row.name)
    return {text: label for text, label in labels.items() if [*labels.values()].count(label) == 1}
