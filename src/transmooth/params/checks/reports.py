"""What reports show of rows that have it: columns, curves, courses, gains."""

import csv
from collections.abc import Iterator
from pathlib import Path

from transmooth.params.checks.names import dataset_of, missing
from transmooth.params.messages import ParamsError
from transmooth.params.recipes import Evaluation
from transmooth.params.study import Params
from transmooth.params.tables import KINDS, TASK, TRANSDUCTIVE, Evaluated, Row, parse_column
from transmooth.params.values import Measure

# `snakemake NAME` makes a report, or is one of these.
RULES = ["all", "data", "prepare", "train", "evaluate", "finish"]
RULES += ["table", "figure", "shift", "course", "gain", "training", "report"]


def reports(params: Params, published: Path) -> Iterator[str]:
    """Rows that nothing tells apart, or that cannot be joined with the paper's."""
    tables, file = params.tables, f"params/tables/{params.study.tables}.yaml"
    keys = _published_rows(published)
    names = [name for reports in tables.reports.values() for name in reports]
    yield from (f"{file}: {name}: names two reports" for name in sorted({n for n in names if names.count(n) > 1}))
    yield from (f"{file}: {name}: is a rule of the workflow; choose another name" for name in names if name in RULES)
    papers = sorted({paper for paper, _ in keys})
    if tables.paper is not None and tables.paper not in papers:
        yield f"{file}: paper: should be one of {', '.join(papers)}, found {tables.paper!r}"
    for name, table in tables.tables.items():
        where, known = f"{file}: tables.{name}", sorted(table for paper, table in keys if paper == tables.paper)
        if table.published is not None and table.published not in known:
            yield f"{where}.published: should be one of {', '.join(known)}, found {table.published!r}"
        stages = [stage for row in table.rows for each in row.evaluated for stage in each.train]
        if table.tasks and not any(stage.endswith(f"@{TASK}") for stage in stages):
            yield f"{where}.tasks: stand for the role {TASK!r}, which no row has"
        for at, row in enumerate(table.rows):
            if row.published is not None and row.published not in keys.get(
                (str(tables.paper), str(table.published)), ()
            ):
                yield f"{where}.rows[{at}].published: {row.published!r} is no row of {table.published}"
    seen: set[tuple[str, str, str]] = set()
    for _, place, row in tables.placed_rows():
        name_of = (place.rpartition("[")[0], row.block, row.label)
        if name_of in seen:
            yield f"{file}: {place}.label: {row.label!r} is there twice"
        seen.add(name_of)


def _published_rows(path: Path) -> dict[tuple[str, str], set[str]]:
    """(paper, table) -> the names of its rows."""
    keys: dict[tuple[str, str], set[str]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                keys.setdefault((line["paper"], line["table"]), set()).add(f"{line['block']};{line['row']}".lstrip(";"))
    except KeyError as error:
        raise ParamsError(f"params/{path.name}: should have a column {error}, found none") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ParamsError(f"params/{path.name}: cannot be read as CSV in UTF-8: {error}") from error
    return keys


def columns(params: Params) -> Iterator[str]:
    """Columns that no evaluation of a row gives, radii that are not decided, and rows to compare with that lack."""
    study, file = params.study, f"params/tables/{params.study.tables}.yaml"
    grid = study.certify.radii if study.certify else None
    for name, table in params.tables.tables.items():
        if name not in study.report:
            continue
        labels = list(dict.fromkeys(row.label for row in table.rows))
        if table.against is not None and table.against not in labels:
            known = ", ".join(labels)
            yield f"{file}: tables.{name}.against: should be a row ({known}), found {table.against!r}"
        for text in table.columns:
            column = parse_column(text)
            for at, row in enumerate(table.rows):
                if fault := _lacking(params, row, column.measure, column.radius):
                    yield f"{file}: tables.{name}.rows[{at}]: column {text}: {fault}"
        # In brackets stands what the curve is at radius 0.
        shown = set(table.certified_radii) | ({0.0} if table.brackets and table.certified_radii else set())
        if grid is not None and (missing := sorted(shown - set(grid))):
            where = f"params/studies/{params.name}.yaml: certify.radii"
            yield f"{where}: should have all radii that {name} shows, {missing} are missing"
    for name, figure in params.tables.figures.items():
        rows = [(p, at, row) for p, panel in enumerate(figure.panels) for at, row in enumerate(panel.rows)]
        for panel_number, at, row in rows if name in study.report else ():
            if fault := _lacking(params, row, "certified"):
                yield f"{file}: figures.{name}.panels[{panel_number}].rows[{at}]: {fault}"
    for name, report in params.tables.shifts.items():
        for at, row in enumerate(report.rows if name in study.report else ()):
            where = f"{file}: shifts.{name}.rows[{at}]"
            if "shift" not in _kinds(params, row):
                yield f"{where}.evaluate: should name an evaluation of kind shift"
            if any(len(each.train) < 2 for each in row.evaluated) or not row.evaluated:
                yield f"{where}.train: should have two stages or more: the shift is between the last one and before it"


def courses(params: Params) -> Iterator[str]:
    """Rows that have no course, or several.  What metrics an objective has is known once it runs."""
    for name, report in params.tables.courses.items():
        for at, row in enumerate(report.rows if name in params.study.report else ()):
            where = f"params/tables/{params.study.tables}.yaml: courses.{name}.rows[{at}]"
            if len(row.evaluated) != 1:
                yield f"{where}: should have the course of one run, has {len(row.evaluated) or 'files'}"
            for each in row.evaluated:
                if each.evaluate is not None:
                    yield f"{where}: evaluate: a course is of the training, and needs no evaluation"
                recipe = params.recipes.recipes.get(each.train[-1].split("@")[0])
                if recipe is not None and recipe.epochs == 0:
                    yield f"{where}: {each.train[-1]} trains nothing, so it has no course"


def gains(params: Params) -> Iterator[str]:
    """Figures of gains of what their table does not have."""
    for name, report in params.tables.gains.items():
        where = f"params/tables/{params.study.tables}.yaml: gains.{name}"
        yield from missing(report.table, params.tables.tables, f"{where}.table", "table", "tables")
        if (table := params.tables.tables.get(report.table)) is None:
            continue
        if name in params.study.report and report.table not in params.study.report:
            yield f"params/studies/{params.name}.yaml: report: {name} needs {report.table} there"
        for key, text in (("x", report.x), ("y", report.y)):
            if text not in table.columns:
                known = ", ".join(table.columns)
                yield f"{where}.{key}: should be a column of {report.table} ({known}), found {text!r}"
        for block in dict.fromkeys(row.block for row in table.rows) if report.against is not None else ():
            labels = [row.label for row in table.rows if row.block == block]
            if report.against not in labels:
                place = f" of the block {block!r}" if block else ""
                yield f"{where}.against: should be a row{place} ({', '.join(labels)}), found {report.against!r}"


def _kinds(params: Params, row: Row) -> set[str]:
    """The kinds of evaluation that every run of a row has."""
    names = [each.evaluate or params.study.evaluate for each in row.evaluated]
    known = params.recipes.evaluations
    kinds = [{str(known[name].kind) for name in each if name in known} for each in names]
    return set[str].intersection(*kinds) if kinds else set()


def _lacking(params: Params, row: Row, measure: Measure, radius: float | None = None) -> str:
    """What a row lacks for a measure, at a radius where it has one; empty where it lacks nothing."""
    kinds = KINDS[measure]
    if row.files is not None:
        return ""
    if (not kinds or kinds == ("attack",)) and len(row.evaluated) > 1:
        return f"{measure} is of one run, and this row pools {len(row.evaluated)}"
    if kinds and not _kinds(params, row) & {*kinds}:
        return f"should be evaluated by one of kind {' or '.join(kinds)}, which its runs are not"
    if measure == "robust" and radius not in (epsilons := _epsilons(params, row)):
        return f"should be attacked within {radius:g}, is within {', '.join(f'{each:g}' for each in epsilons)}"
    return ""


def _epsilons(params: Params, row: Row) -> list[float]:
    """The radii within which a row's runs are attacked."""
    names = [name for each in row.evaluated for name in each.evaluate or params.study.evaluate]
    entries = [params.recipes.evaluations.get(name) for name in names]
    return [entry.epsilon for entry in entries if entry is not None and entry.kind == "attack"]


def curves(params: Params) -> Iterator[str]:
    """A row has one curve at each sigma, one of several sigmas at most, and all are of the same test images."""
    for report, place, row in params.tables.placed_rows():
        if report not in params.study.report:
            continue
        where, sigmas, several = f"params/tables/{params.study.tables}.yaml: {place}", list[float](), 0
        for each in row.evaluated:
            entries = _entries(params, report, each)
            sigmas += [sigma for entry in entries if entry.kind == "certify" for sigma in entry.sigmas]
            several += sum(entry.kind == "multi_sigma" for entry in entries)
        if twice := sorted({sigma for sigma in sigmas if sigmas.count(sigma) > 1}):
            yield f"{where}: should be certified once at each sigma, is more often at {twice}"
        if several and several + len(row.evaluated) > 2:
            yield f"{where}: a classifier of several sigmas should be the only one, of the row's only run"
        if len(row.evaluated) == 1 and report not in params.tables.courses:
            epsilons = _epsilons(params, row)
            if twice := sorted({epsilon for epsilon in epsilons if epsilons.count(epsilon) > 1}):
                yield f"{where}: should be attacked once within each epsilon, is more often within {twice}"
        kinds = [str(entry.kind) for each in row.evaluated for entry in _entries(params, report, each)]
        certified = [kind for kind in kinds if kind in KINDS["certified"]]
        if (alone := [kind for kind in certified if kind in TRANSDUCTIVE]) and len(certified) > 1:
            yield f"{where}: should be certified by {alone[0]} alone, once; found {', '.join(certified)}"
        if len(found := {dataset_of(params, each.train[-1].split("@")[1]) for each in row.evaluated}) > 1:
            yield f"{where}.runs: should end on one dataset, found {', '.join(sorted(found))}"


def _entries(params: Params, report: str, each: Evaluated) -> list[Evaluation]:
    """The evaluations of a run of a report's row, those that there are."""
    known = params.recipes.evaluations
    return [known[name] for name in params.evaluations_of(report, each) if name in known]


def chosen(params: Params) -> Iterator[str]:
    """Noise that is chosen by what the stage before answers takes a stage before, of the same classes."""
    for report, place, row in params.tables.placed_rows():
        if report not in params.study.report:
            continue
        for each in row.evaluated:
            for number, stage in enumerate(each.train):
                recipe, role = stage.split("@")
                entry = params.recipes.recipes.get(recipe)
                if entry is None or entry.noise != "samplewise":
                    continue
                before = dataset_of(params, each.train[number - 1].split("@")[1]) if number else None
                if before != dataset_of(params, role):
                    where = f"params/tables/{params.study.tables}.yaml: {place}.train[{number}]"
                    found = f"one on {before}" if number else "none"
                    yield (
                        f"{where}: {recipe} chooses sigmas by what the stage before it answers, which should be on the "
                        f"dataset of {role!r}, found {found}"
                    )


def transductive(params: Params) -> Iterator[str]:
    """A certificate around the test images says little where what puts it in its place does not stand beside it."""
    reports: dict[str, list[tuple[str, Row]]] = {}
    for report, place, row in params.tables.placed_rows():
        if report in params.study.report and (report in params.tables.tables or report in params.tables.figures):
            reports.setdefault(report, []).append((place, row))
    for rows in reports.values():
        there = {kind for _, row in rows for kind in _kinds(params, row)}
        for place, row in rows:
            if not _kinds(params, row) & {*TRANSDUCTIVE}:
                continue
            where = f"params/tables/{params.study.tables}.yaml: {place}"
            if "transductive" not in row.label:
                yield f"{where}.label: should say that the row is transductive, found {row.label!r}"
            for name in {dataset_of(params, each.train[-1].split("@")[1]) for each in row.evaluated}:
                if (dataset := params.datasets.get(name)) is not None and dataset.resize is not None:
                    yield f"{where}: distances are of images as stored, and {name} resizes them to {dataset.resize}"
            if missing := [kind for kind in ("lookup", "certify") if kind not in there]:
                yield (
                    f"{where}: is transductive: beside it should stand a row evaluated by lookup and one by certify, "
                    f"found none by {' or '.join(missing)}"
                )
