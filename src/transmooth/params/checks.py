"""What the files of params must have in common; found before any work, one line for each fault."""

import ast
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transmooth.params.messages import ParamsError
from transmooth.params.recipes import PACKAGE, Certify, Evaluation, MultiSigmaCertify, Samplewise
from transmooth.params.study import Params
from transmooth.params.tables import KINDS, TASK, TRANSDUCTIVE, Evaluated, Row, Table, parse_column
from transmooth.params.values import Measure

RECIPES = "params/recipes.yaml"
# `snakemake NAME` makes a report, or is one of these.
RULES = ["all", "data", "prepare", "train", "evaluate", "finish"]
RULES += ["table", "figure", "shift", "course", "gain", "training", "report"]


def faults(params: Params, published: Path) -> list[str]:
    """Return a line for each fault: file, key, what was found, what is allowed."""
    found = [
        *_study(params),
        *_recipes(params),
        *_options(params),
        *_heads(params),
        *_groups(params),
        *_rows(params),
        *_amounts(params),
        *_reports(params, published),
        *_columns(params),
        *_courses(params),
        *_gains(params),
        *_curves(params),
        *_classless(params),
        *_chosen(params),
        *_transductive(params),
    ]
    return list(dict.fromkeys(found))  # what several rows share is one fault


def _known(name: str, known: Mapping[str, Any], where: str, kind: str, home: str) -> Iterator[str]:
    if name not in known:
        yield f"{where}: {kind} {name!r} is not in {home}, which has {', '.join(sorted(known))}"


def _study(params: Params) -> Iterator[str]:
    """Names in the study's own file."""
    study, file = params.study, f"params/studies/{params.name}.yaml"
    tables = f"params/tables/{study.tables}.yaml"
    for name, role in study.roles.items():
        yield from _known(
            role.dataset, params.datasets, f"{file}: roles.{name}.dataset", "dataset", "params/datasets.yaml"
        )
        yield from _known(
            role.schedule, study.schedules, f"{file}: roles.{name}.schedule", "schedule", f"{file}: schedules"
        )
        if name == TASK:
            yield f"{file}: roles.{TASK}: stands for each of a table's tasks; choose another name"
    for name, schedule in study.schedules.items():
        if not schedule.epochs:
            yield f"{file}: schedules.{name}.epochs: should be at least 1; a recipe may have 0, found 0"
    yield from _known(
        study.network.default, params.recipes.networks, f"{file}: network.default", "network", f"{RECIPES}: networks"
    )
    for task in study.tasks:
        yield from _known(task, study.roles, f"{file}: tasks", "role", f"{file}: roles")
    for at, name in enumerate(study.evaluate):
        yield from _known(
            name, params.recipes.evaluations, f"{file}: evaluate[{at}]", "evaluation", f"{RECIPES}: evaluations"
        )
    known = {name: report for reports in params.tables.reports.values() for name, report in reports.items()}
    for at, name in enumerate(study.report):
        yield from _known(name, known, f"{file}: report[{at}]", "report", tables)


def _recipes(params: Params) -> Iterator[str]:
    """What recipes that the study's rows name need of the study."""
    study, file = params.study, f"params/studies/{params.name}.yaml"
    for name, recipe in params.recipes.recipes.items():
        where = f"{RECIPES}: recipes.{name}"
        if recipe.schedule is not None and name in _trained(params):
            yield from _known(recipe.schedule, study.schedules, f"{where}.schedule", "schedule", f"{file}: schedules")
        if recipe.denoiser == "default":
            if name in _trained(params) and study.denoiser is None:
                yield f"{file}: denoiser: missing; the recipe {name!r} needs the study's"
        elif recipe.denoiser is not None:
            yield from _denoiser(params, recipe.denoiser, f"{where}.denoiser", name in _trained(params))
    if study.denoiser is not None:
        yield from _denoiser(params, study.denoiser, f"{file}: denoiser", True)


def _options(params: Params) -> Iterator[str]:
    """Options that their objective does not have."""
    there = sorted(path.stem for path in (PACKAGE / "objectives").glob("[!_]*.py"))
    where = f"params/studies/{params.name}.yaml: options"
    named = [(f"{where}.{objective}", objective, [*options]) for objective, options in params.study.options.items()]
    for name, recipe in params.recipes.recipes.items():
        keys = [*recipe.options, *(key for options in (recipe.options_from or {}).values() for key in options)]
        named.append((f"{RECIPES}: recipes.{name}.options", recipe.objective, keys))
    for place, objective, keys in named:
        if objective not in there:
            yield f"{place}: {objective!r} is no objective; there are {', '.join(there)}"
        elif fault := unknown_option(objective, keys):
            yield f"{place}.{fault}"


def unknown_option(objective: str, keys: Iterable[str]) -> str:
    """Say which of the keys is no option of an objective; empty where all are."""
    known = _keywords(objective)
    unknown = next((key for key in keys if key not in known), None)
    return f"{unknown}: is no option of {objective}, which has {', '.join(known) or 'none'}" if unknown else ""


def _heads(params: Params) -> Iterator[str]:
    """Views and heads that are not those of the objective."""
    for name, recipe in params.recipes.recipes.items():
        for key, asked in (("views", recipe.views), ("head", recipe.head)):
            if asked != (needed := needs(recipe.objective)[key]):
                shown = "none" if needed is None else needed
                yield (
                    f"{RECIPES}: recipes.{name}.{key}: should be {shown} for the objective {recipe.objective}, "
                    f"found {'none' if asked is None else asked}"
                )


def needs(objective: str) -> dict[str, Any]:
    """Return the `views` and the `head` that a recipe with an objective has: its VIEWS and HEAD."""
    found: dict[str, Any] = {"views": 1, "head": None}
    for node in _source(objective).body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name) and target.id.isupper():
            key = target.id.lower()
            found |= {key: ast.literal_eval(node.value)} if key in found else {}
    return found


@cache
def _source(objective: str) -> ast.Module:
    """An objective, to be read: to import it takes torch."""
    return ast.parse((PACKAGE / "objectives" / f"{objective}.py").read_bytes())


@cache
def _keywords(objective: str) -> tuple[str, ...]:
    """The options of an objective."""
    (loss,) = (each for each in _source(objective).body if isinstance(each, ast.FunctionDef) and each.name == "loss")
    # After what the loop gives; `start` is the network that the stage begins with, which the loop gives too.
    own = [*loss.args.args[6:], *loss.args.kwonlyargs]
    return tuple(each.arg for each in own if each.arg != "start")


def _denoiser(params: Params, text: str, where: str, trained: bool) -> Iterator[str]:
    """The run of a denoiser.  trained: whether this study needs it."""
    network, *stages = text.split("/")
    recipes = params.recipes.recipes
    yield from _known(network, params.recipes.networks, where, "network", f"{RECIPES}: networks")
    yield from _untrained(params, network, stages, [where] * len(stages))
    for stage in stages:
        inner, role = stage.split("@")
        yield from _known(inner, recipes, where, "recipe", f"{RECIPES}: recipes")
        if trained:
            yield from _known(role, params.study.roles, where, "role", f"params/studies/{params.name}.yaml: roles")
        if inner in recipes and recipes[inner].denoiser is not None:
            yield f"{where}: should be trained without a denoiser, {inner!r} has one"
    if stages and (last := recipes.get(stages[-1].split("@")[0])) is not None and last.objective != "denoise":
        yield f"{where}: should end in a recipe with the objective denoise, found {last.objective}"


def _trained(params: Params) -> set[str]:
    """The recipes that the study's reports name, and those of the denoisers that these name."""
    stages = {stage for _, each in _evaluated(params) for stage in each.train}
    recipes = [params.recipes.recipes.get(stage.split("@")[0]) for stage in stages]
    texts = [recipe.denoiser for recipe in recipes if recipe is not None and recipe.denoiser is not None]
    denoisers = {params.study.denoiser if text == "default" else text for text in texts} - {None}
    stages.update(stage for denoiser in denoisers for stage in str(denoiser).split("/")[1:])
    return {stage.split("@")[0] for stage in stages}


def _evaluated(params: Params) -> Iterator[tuple[str, Evaluated]]:
    """What the study's reports look at, with the name of the report."""
    rows = ((report, row) for report, _, row in params.tables.placed_rows() if report in params.study.report)
    return ((report, each) for report, row in rows for each in row.evaluated)


def _amounts(params: Params) -> Iterator[str]:
    """Sections of the study that say how much there is of the evaluations that it needs."""
    names = (name for report, each in _evaluated(params) for name in params.evaluations_of(report, each))
    for name in names:
        entry = params.recipes.evaluations.get(name)
        if entry is not None and entry.amount is not None and getattr(params.study, entry.amount) is None:
            file = f"params/studies/{params.name}.yaml"
            yield f"{file}: {entry.amount}: missing; the evaluation {name!r} ({entry.kind}) needs it"
        amount = params.study.certify
        if isinstance(entry, Samplewise) and amount and amount.alpha ** (1 / amount.n0) <= 0.5:
            yield (
                f"params/studies/{params.name}.yaml: certify.n0: {amount.n0} samples can never choose a sigma, as "
                f"{name!r} does: at alpha = {amount.alpha} even without a failure alpha^(1/n0) stays at or below 1/2"
            )


def _groups(params: Params) -> Iterator[str]:
    """Group norm needs groups that divide every channel count; timm's ResNets have multiples of 64 unless told else."""
    network, networks = params.study.network, params.recipes.networks
    if not any(each.norm == "group" and each.name is None for each in networks.values()):
        return
    where = f"params/studies/{params.name}.yaml: network"
    channels: Any = network.options.get("channels", [64])
    stem: Any = network.options.get("stem_width", 32)
    if not (isinstance(channels, list) and all(type(width) is int and width > 0 for width in channels)):
        yield f"{where}.options.channels: should be a list of numbers such as [64, 128], found {channels!r}"
    elif type(stem) is not int or stem < 1:
        yield f"{where}.options.stem_width: should be a number >= 1, found {stem!r}"
    else:
        # A deep stem has layers of stem_width and of twice that.
        widths = [*channels, *([stem, 2 * stem] if "deep" in str(network.options.get("stem_type")) else [])]
        if any(width % network.groups for width in widths):
            yield f"{where}.groups: should divide every channel count {widths}, found {network.groups}"


def _rows(params: Params) -> Iterator[str]:
    """Names in rows, and chains of stages that cannot be."""
    study, recipes = params.study, params.recipes
    for report, place, row in params.tables.placed_rows():
        where = f"params/tables/{study.tables}.yaml: {place}"
        table = params.tables.tables.get(report)
        for at, each in enumerate(row.evaluated):
            part = where if row.runs is None else f"{where}.runs[{at}]"
            if each.network is not None:
                yield from _known(each.network, recipes.networks, f"{part}.network", "network", f"{RECIPES}: networks")
            for name in each.evaluate or ():
                yield from _known(
                    name, recipes.evaluations, f"{part}.evaluate", "evaluation", f"{RECIPES}: evaluations"
                )
            for number, stage in enumerate(each.train):
                recipe, role = stage.split("@")
                yield from _known(recipe, recipes.recipes, f"{part}.train[{number}]", "recipe", f"{RECIPES}: recipes")
                if report in study.report:
                    yield from _role(params, table, role, f"{part}.train[{number}]")
            if report in study.report:
                yield from _behind(params, report, row, where)
            network = each.network or study.network.default
            yield from _untrained(params, network, each.train, [f"{part}.train[{n}]" for n in range(len(each.train))])


def _behind(params: Params, report: str, row: Row, where: str) -> Iterator[str]:
    """A network that was finetuned behind a denoiser knows the noise that it was finetuned for, and no other."""
    for each in row.evaluated:
        recipe = params.recipes.recipes.get(each.train[-1].split("@")[0])
        if recipe is None or recipe.denoiser is None:
            continue
        for name in params.evaluations_of(report, each):
            entry = params.recipes.evaluations.get(name)
            asked = entry.sigmas if isinstance(entry, Certify | Samplewise | MultiSigmaCertify) else ()
            wrong = sorted(set(asked) - set(recipe.sigmas))
            if wrong and recipe.epochs != 0:
                trained = ", ".join(f"{sigma:g}" for sigma in recipe.sigmas)
                yield f"{where}: {each.train[-1]} is finetuned behind a denoiser for sigma {trained}, not {wrong[0]:g}"
        yield from _sides(params, recipe.denoiser, each.train[-1].split("@")[1], where)


def _sides(params: Params, denoiser: str, role: str, where: str) -> Iterator[str]:
    """A U-Net halves the images once for each of its levels but the last."""
    text = params.study.denoiser if denoiser == "default" else denoiser
    network = params.recipes.networks.get((text or "").split("/")[0])
    dataset = params.datasets.get(_dataset(params, role))
    unet: Any = network.options.get("unet") if network else None
    if not (dataset and isinstance(unet, dict) and isinstance(widths := unet.get("block_out_channels"), list)):
        return
    factor = 2 ** (len(widths) - 1)
    if dataset.size % factor:
        yield f"{where}: the denoiser {text} takes sides that are a multiple of {factor}, images have {dataset.size}"


def _role(params: Params, table: Table | None, role: str, where: str) -> Iterator[str]:
    roles = f"params/studies/{params.name}.yaml: roles"
    if role != TASK:
        yield from _known(role, params.study.roles, where, "role", roles)
    elif table is None or not params.tasks_of(table):
        yield f"{where}: the role {TASK!r} stands for each of a table's `tasks`, or the study's, and there are none"
    else:
        for task in table.tasks:
            yield from _known(task, params.study.roles, where.rpartition(".rows")[0] + ".tasks", "role", roles)


def _untrained(params: Params, network: str, stages: Sequence[str], places: Sequence[str]) -> Iterator[str]:
    """A stage of 0 epochs leaves the head as it is, so the classes before it must be its own."""
    recipes = params.recipes.recipes
    for number, (stage, where) in enumerate(zip(stages, places, strict=True)):
        recipe, role = stage.split("@")
        entry, start = recipes.get(recipe), params.recipes.networks.get(network)
        if entry is None or entry.epochs != 0:
            continue
        before = recipes.get(stages[number - 1].split("@")[0]) if number else None
        if before is not None and before.head is not None:
            yield f"{where}: {recipe} trains nothing, and the stage before it was trained without classes"
        if number and _dataset(params, stages[number - 1].split("@")[1]) != _dataset(params, role):
            yield f"{where}: {recipe} trains nothing, so the stage before it should be on the dataset of {role!r} too"
        if not number and start is not None and start.weights == "random":
            yield f"{where}: {recipe} trains nothing, and {network} has random weights"


def _dataset(params: Params, role: str) -> str:
    """The dataset of a role; of one that the study has not, or `task`, the role itself."""
    return params.study.roles[role].dataset if role in params.study.roles else f"@{role}"


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


def _reports(params: Params, published: Path) -> Iterator[str]:
    """Rows that cannot be told apart, or joined with the paper's."""
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


def _columns(params: Params) -> Iterator[str]:
    """Columns that no evaluation of a row gives, and radii that are not decided."""
    study, file = params.study, f"params/tables/{params.study.tables}.yaml"
    grid = study.certify.radii if study.certify else None
    for name, table in params.tables.tables.items():
        if name not in study.report:
            continue
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


def _courses(params: Params) -> Iterator[str]:
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


def _gains(params: Params) -> Iterator[str]:
    """Figures of gains of what their table does not have."""
    for name, report in params.tables.gains.items():
        where = f"params/tables/{params.study.tables}.yaml: gains.{name}"
        yield from _known(report.table, params.tables.tables, f"{where}.table", "table", "tables")
        if (table := params.tables.tables.get(report.table)) is None:
            continue
        if name in params.study.report and report.table not in params.study.report:
            yield f"params/studies/{params.name}.yaml: report: {name} needs {report.table} there"
        for key, text in (("x", report.x), ("y", report.y)):
            if text not in table.columns:
                known = ", ".join(table.columns)
                yield f"{where}.{key}: should be a column of {report.table} ({known}), found {text!r}"
        for block in dict.fromkeys(row.block for row in table.rows):
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


def _classless(params: Params) -> Iterator[str]:
    """A run that ends without classes has a course, and nothing to evaluate."""
    for report, place, row in params.tables.placed_rows():
        for each in row.evaluated if report in params.study.report and report not in params.tables.courses else ():
            recipe = params.recipes.recipes.get(each.train[-1].split("@")[0])
            if recipe is not None and recipe.head is not None:
                where = f"params/tables/{params.study.tables}.yaml: {place}"
                yield f"{where}: {each.train[-1]} is trained without classes: a stage that finetunes it should follow"


def _curves(params: Params) -> Iterator[str]:
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
        if len(found := {_dataset(params, each.train[-1].split("@")[1]) for each in row.evaluated}) > 1:
            yield f"{where}.runs: should end on one dataset, found {', '.join(sorted(found))}"


def _entries(params: Params, report: str, each: Evaluated) -> list[Evaluation]:
    """The evaluations of a run of a report's row, those that there are."""
    known = params.recipes.evaluations
    return [known[name] for name in params.evaluations_of(report, each) if name in known]


def _chosen(params: Params) -> Iterator[str]:
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
                before = _dataset(params, each.train[number - 1].split("@")[1]) if number else None
                if before != _dataset(params, role):
                    where = f"params/tables/{params.study.tables}.yaml: {place}.train[{number}]"
                    found = f"one on {before}" if number else "none"
                    yield (
                        f"{where}: {recipe} chooses sigmas by what the stage before it answers, which should be on the "
                        f"dataset of {role!r}, found {found}"
                    )


def _transductive(params: Params) -> Iterator[str]:
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
            for name in {_dataset(params, each.train[-1].split("@")[1]) for each in row.evaluated}:
                if (dataset := params.datasets.get(name)) is not None and dataset.resize is not None:
                    yield f"{where}: distances are of images as stored, and {name} resizes them to {dataset.resize}"
            if missing := [kind for kind in ("lookup", "certify") if kind not in there]:
                yield (
                    f"{where}: is transductive: beside it should stand a row evaluated by lookup and one by certify, "
                    f"found none by {' or '.join(missing)}"
                )
