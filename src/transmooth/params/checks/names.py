"""Names that entries of other files should have, and what the rows of a study's reports name."""

from collections.abc import Iterator, Mapping
from typing import Any

from transmooth.params.study import Params
from transmooth.params.tables import Evaluated

RECIPES = "params/recipes.yaml"


def missing(name: str, known: Mapping[str, Any], where: str, kind: str, home: str) -> Iterator[str]:
    if name not in known:
        yield f"{where}: {kind} {name!r} is not in {home}, which has {', '.join(sorted(known))}"


def evaluated(params: Params) -> Iterator[tuple[str, Evaluated]]:
    """What the study's reports look at, with the name of the report."""
    rows = ((report, row) for report, _, row in params.tables.placed_rows() if report in params.study.report)
    return ((report, each) for report, row in rows for each in row.evaluated)


def trained(params: Params) -> set[str]:
    """The recipes that the study's reports name, and those of the denoisers that these name."""
    stages = {stage for _, each in evaluated(params) for stage in each.train}
    recipes = [params.recipes.recipes.get(stage.split("@")[0]) for stage in stages]
    texts = [recipe.denoiser for recipe in recipes if recipe is not None and recipe.denoiser is not None]
    denoisers = {params.study.denoiser if text == "default" else text for text in texts} - {None}
    stages.update(stage for denoiser in denoisers for stage in str(denoiser).split("/")[1:])
    return {stage.split("@")[0] for stage in stages}


def dataset_of(params: Params, role: str) -> str:
    """The dataset of a role; of one that the study has not, or `task`, the role itself."""
    return params.study.roles[role].dataset if role in params.study.roles else f"@{role}"
