"""What recipes and studies say of objectives, against their files: these are read, for to import them takes torch."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from transmooth.params.checks.names import RECIPES
from transmooth.params.recipes import PACKAGE
from transmooth.params.study import Params


def options(params: Params) -> Iterator[str]:
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


def heads(params: Params) -> Iterator[str]:
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
