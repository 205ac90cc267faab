"""What the files of params must have in common; found before any work, one line for each fault."""

from collections.abc import Iterator
from pathlib import Path

from transmooth.params.checks.names import RECIPES, missing
from transmooth.params.checks.objectives import heads, options
from transmooth.params.checks.recipes import recipes
from transmooth.params.checks.reports import chosen, columns, courses, curves, gains, reports, transductive
from transmooth.params.checks.rows import amounts, classless, groups, rows
from transmooth.params.study import Params
from transmooth.params.tables import TASK


def faults(params: Params, published: Path) -> list[str]:
    """Return a line for each fault: file, key, what was found, what is allowed."""
    found = [
        *_study(params),
        *recipes(params),
        *options(params),
        *heads(params),
        *groups(params),
        *rows(params),
        *amounts(params),
        *reports(params, published),
        *columns(params),
        *courses(params),
        *gains(params),
        *curves(params),
        *classless(params),
        *chosen(params),
        *transductive(params),
    ]
    return list(dict.fromkeys(found))  # what several rows share is one fault


def _study(params: Params) -> Iterator[str]:
    """Names in the study's own file."""
    study, file = params.study, f"params/studies/{params.name}.yaml"
    tables = f"params/tables/{study.tables}.yaml"
    for name, role in study.roles.items():
        yield from missing(
            role.dataset, params.datasets, f"{file}: roles.{name}.dataset", "dataset", "params/datasets.yaml"
        )
        yield from missing(
            role.schedule, study.schedules, f"{file}: roles.{name}.schedule", "schedule", f"{file}: schedules"
        )
        if name == TASK:
            yield f"{file}: roles.{TASK}: stands for each of a table's tasks; choose another name"
    for name, schedule in study.schedules.items():
        if not schedule.epochs:
            yield f"{file}: schedules.{name}.epochs: should be at least 1; a recipe may have 0, found 0"
    yield from missing(
        study.network.default, params.recipes.networks, f"{file}: network.default", "network", f"{RECIPES}: networks"
    )
    for task in study.tasks:
        yield from missing(task, study.roles, f"{file}: tasks", "role", f"{file}: roles")
    for at, name in enumerate(study.evaluate):
        yield from missing(
            name, params.recipes.evaluations, f"{file}: evaluate[{at}]", "evaluation", f"{RECIPES}: evaluations"
        )
    known = {name: report for reports in params.tables.reports.values() for name, report in reports.items()}
    for at, name in enumerate(study.report):
        yield from missing(name, known, f"{file}: report[{at}]", "report", tables)
