"""Read the params of a study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transmooth.params import yaml
from transmooth.params.checks import faults
from transmooth.params.datasets import Dataset, Datasets
from transmooth.params.messages import ParamsError, validate
from transmooth.params.recipes import Recipes
from transmooth.params.study import Params, Study
from transmooth.params.tables import Tables


def studies(base: Path) -> list[str]:
    """Return the names of the studies below `base` (the checkout)."""
    return _names(base / "params" / "studies")


def load_datasets(base: Path) -> dict[str, Dataset]:
    """Read and check params/datasets.yaml below `base`.  Raises ParamsError with one line for each fault."""
    file = "params/datasets.yaml"
    return validate(Datasets, _read(base, file), file).datasets


def load(study: str, base: Path) -> Params:
    """Read and check the params of one study below `base` (the checkout).

    Raises ParamsError with one line for each fault: file, key, what was found, what is allowed.
    """
    file = f"params/studies/{study}.yaml"
    if study not in (known := studies(base)):
        raise ParamsError(f"{file}: no such study; there is {', '.join(known) or 'none'}")
    content = validate(Study, _read(base, file), file)
    tables = f"params/tables/{content.tables}.yaml"
    if content.tables not in (known := _names(base / "params" / "tables")):
        raise ParamsError(f"{file}: tables: should be a file of params/tables ({', '.join(known)}), found {tables!r}")
    params = Params(
        name=study,
        recipes=validate(Recipes, _read(base, "params/recipes.yaml"), "params/recipes.yaml"),
        datasets=load_datasets(base),
        tables=validate(Tables, _read(base, tables), tables),
        study=content,
    )
    if found := faults(params, base / "params" / "published.csv"):
        raise ParamsError("\n".join(found))
    return params


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _read(base: Path, file: str) -> Mapping[str, Any]:
    path = base / file
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        there = ", ".join(_names(path.parent)) or "no YAML file"
        raise ParamsError(f"{file}: no such file; {Path(file).parent}/ holds {there}") from None
    except OSError as error:
        raise ParamsError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{file}: should be UTF-8, found the byte {error.object[error.start]:#04x}") from error
    except yaml.YamlError as error:
        raise ParamsError(f"{file}: {error}") from error
