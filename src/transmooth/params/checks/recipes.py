"""What recipes need of the study, and the runs of their denoisers."""

from collections.abc import Iterator, Sequence

from transmooth.params.checks.names import RECIPES, dataset_of, missing, trained
from transmooth.params.study import Params


def recipes(params: Params) -> Iterator[str]:
    """What recipes that the study's rows name need of the study."""
    study, file = params.study, f"params/studies/{params.name}.yaml"
    for name, recipe in params.recipes.recipes.items():
        where = f"{RECIPES}: recipes.{name}"
        if recipe.schedule is not None and name in trained(params):
            yield from missing(recipe.schedule, study.schedules, f"{where}.schedule", "schedule", f"{file}: schedules")
        if recipe.denoiser == "default":
            if name in trained(params) and study.denoiser is None:
                yield f"{file}: denoiser: missing; the recipe {name!r} needs the study's"
        elif recipe.denoiser is not None:
            yield from _denoiser(params, recipe.denoiser, f"{where}.denoiser", name in trained(params))
    if study.denoiser is not None:
        yield from _denoiser(params, study.denoiser, f"{file}: denoiser", True)


def _denoiser(params: Params, text: str, where: str, trained: bool) -> Iterator[str]:
    """The run of a denoiser.  trained: whether this study needs it."""
    network, *stages = text.split("/")
    recipes = params.recipes.recipes
    yield from missing(network, params.recipes.networks, where, "network", f"{RECIPES}: networks")
    yield from untrained(params, network, stages, [where] * len(stages))
    for stage in stages:
        inner, role = stage.split("@")
        yield from missing(inner, recipes, where, "recipe", f"{RECIPES}: recipes")
        if trained:
            yield from missing(role, params.study.roles, where, "role", f"params/studies/{params.name}.yaml: roles")
        if inner in recipes and recipes[inner].denoiser is not None:
            yield f"{where}: should be trained without a denoiser, {inner!r} has one"
    if stages and (last := recipes.get(stages[-1].split("@")[0])) is not None and last.objective != "denoise":
        yield f"{where}: should end in a recipe with the objective denoise, found {last.objective}"


def untrained(params: Params, network: str, stages: Sequence[str], places: Sequence[str]) -> Iterator[str]:
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
        if number and dataset_of(params, stages[number - 1].split("@")[1]) != dataset_of(params, role):
            yield f"{where}: {recipe} trains nothing, so the stage before it should be on the dataset of {role!r} too"
        if not number and start is not None and start.weights == "random":
            yield f"{where}: {recipe} trains nothing, and {network} has random weights"
