"""What rows say of runs: names, stages, denoisers, groups, and how much of each evaluation."""

from collections.abc import Iterator
from typing import Any

from transmooth.params.checks.names import RECIPES, dataset_of, evaluated, missing
from transmooth.params.checks.recipes import untrained
from transmooth.params.recipes import Certify, MultiSigmaCertify, Samplewise
from transmooth.params.study import Params
from transmooth.params.tables import TASK, Row, Table


def rows(params: Params) -> Iterator[str]:
    """Names in rows, and chains of stages that cannot be."""
    study, recipes = params.study, params.recipes
    for report, place, row in params.tables.placed_rows():
        where = f"params/tables/{study.tables}.yaml: {place}"
        table = params.tables.tables.get(report)
        for at, each in enumerate(row.evaluated):
            part = where if row.runs is None else f"{where}.runs[{at}]"
            if each.network is not None:
                yield from missing(each.network, recipes.networks, f"{part}.network", "network", f"{RECIPES}: networks")
            for name in each.evaluate or ():
                yield from missing(
                    name, recipes.evaluations, f"{part}.evaluate", "evaluation", f"{RECIPES}: evaluations"
                )
            for number, stage in enumerate(each.train):
                recipe, role = stage.split("@")
                yield from missing(recipe, recipes.recipes, f"{part}.train[{number}]", "recipe", f"{RECIPES}: recipes")
                if report in study.report:
                    yield from _role(params, table, role, f"{part}.train[{number}]")
            if report in study.report:
                yield from _behind(params, report, row, where)
                yield from _shown(params, report, row, where)
            network = each.network or study.network.default
            yield from untrained(params, network, each.train, [f"{part}.train[{n}]" for n in range(len(each.train))])


def _role(params: Params, table: Table | None, role: str, where: str) -> Iterator[str]:
    roles = f"params/studies/{params.name}.yaml: roles"
    if role != TASK:
        yield from missing(role, params.study.roles, where, "role", roles)
    elif table is None or not params.tasks_of(table):
        yield f"{where}: the role {TASK!r} stands for each of a table's `tasks`, or the study's, and there are none"
    else:
        for task in table.tasks:
            yield from missing(task, params.study.roles, where.rpartition(".rows")[0] + ".tasks", "role", roles)


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


def _shown(params: Params, report: str, row: Row, where: str) -> Iterator[str]:
    """The one sigma that a row shows is one that it is certified at."""
    names = [name for each in row.evaluated for name in params.evaluations_of(report, each)]
    entries = [params.recipes.evaluations.get(name) for name in names]
    known = sorted({sigma for entry in entries if isinstance(entry, Certify) for sigma in entry.sigmas})
    if row.sigma is not None and row.sigma not in known:
        said = ", ".join(f"{sigma:g}" for sigma in known) or "none"
        yield f"{where}.sigma: should be one that its evaluations certify at ({said}), found {row.sigma:g}"


def _sides(params: Params, denoiser: str, role: str, where: str) -> Iterator[str]:
    """A U-Net halves the images once for each of its levels but the last."""
    text = params.study.denoiser if denoiser == "default" else denoiser
    network = params.recipes.networks.get((text or "").split("/")[0])
    dataset = params.datasets.get(dataset_of(params, role))
    unet: Any = network.options.get("unet") if network else None
    if not (dataset and isinstance(unet, dict) and isinstance(widths := unet.get("block_out_channels"), list)):
        return
    factor = 2 ** (len(widths) - 1)
    if dataset.size % factor:
        yield f"{where}: the denoiser {text} takes sides that are a multiple of {factor}, images have {dataset.size}"


def groups(params: Params) -> Iterator[str]:
    """Group norm needs groups that divide every channel count; timm's ResNets have multiples of 64 by default."""
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


def amounts(params: Params) -> Iterator[str]:
    """Sections of the study that say how much there is of the evaluations that it needs."""
    names = (name for report, each in evaluated(params) for name in params.evaluations_of(report, each))
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


def classless(params: Params) -> Iterator[str]:
    """A run that ends without classes has a course, and nothing to evaluate."""
    for report, place, row in params.tables.placed_rows():
        for each in row.evaluated if report in params.study.report and report not in params.tables.courses else ():
            recipe = params.recipes.recipes.get(each.train[-1].split("@")[0])
            if recipe is not None and recipe.head is not None:
                where = f"params/tables/{params.study.tables}.yaml: {place}"
                yield f"{where}: {each.train[-1]} is trained without classes: a stage that finetunes it should follow"
