"""The schemas that editors read: in step with the models, met by every params file, and not by faults."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dvc.utils.serialize import modify_yaml

from tests.conftest import ROOT
from transmooth.params import yaml
from transmooth.params.schema import MODELS, schema, schemas

PARAMS = sorted(path.relative_to(ROOT / "params").as_posix() for path in (ROOT / "params").rglob("*.yaml"))


def of(file: str) -> str:
    """The name of the schema of a params file."""
    return {"studies": "study", "tables": "tables"}.get(Path(file).parent.name, Path(file).stem)


def content(file: str) -> Any:
    """A params file as JSON has it, where every key is text."""
    return json.loads(json.dumps(yaml.load((ROOT / "params" / file).read_text())))


def faults(file: str, held: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft7Validator(schema(MODELS[of(file)])).iter_errors(held)]


def test_the_schemas_are_those_of_the_models() -> None:
    written = {path.stem: path.read_text() for path in (ROOT / "params" / "schema").iterdir()}
    assert written == schemas(), "run: python -m transmooth.params.schema"


@pytest.mark.parametrize("file", PARAMS)
def test_a_params_file_names_its_schema_and_meets_it(file: str) -> None:
    first = f"# yaml-language-server: $schema={'../' if '/' in file else ''}schema/{of(file)}.json"
    assert (ROOT / "params" / file).read_text().split("\n")[0] == first, f"the first line should be: {first}"
    assert faults(file, content(file)) == []


@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("studies/smoke.yaml", "seedz", [0]),
        ("studies/smoke.yaml", "schedules.finetune.epoch", 3),
        ("studies/smoke.yaml", "schedules.finetune.optimizer", "adam"),
        ("studies/smoke.yaml", "schedules.finetune.epochs", -1),
        ("studies/smoke.yaml", "schedules.finetune.lr", [0.0]),
        ("studies/smoke.yaml", "certify.alpha", 0.5),
        ("studies/smoke.yaml", "roles.Bad Name", {"dataset": "digits", "schedule": "finetune"}),
        ("studies/smoke.yaml", "schedules.finetune.layer_decay", 1.5),
        ("recipes.yaml", "recipes.mixed.sigmas", []),
        ("recipes.yaml", "evaluations.certify", {"kind": "guess", "sigmas": [0.5]}),
        ("datasets.yaml", "datasets.digits.source", {"kind": "digits", "test": 5, "root": "/"}),
        ("tables/cadis.yaml", "tables.table1.titel", "Certified"),
    ],
)
def test_a_fault_is_found_at_its_key(file: str, keys: str, value: Any) -> None:
    held = content(file)
    *parents, last = keys.split(".")
    target = held
    for key in parents:
        target = target[key]
    target[last] = value
    (found,) = faults(file, held)
    assert found.startswith("$" + "".join(f".{key}" for key in parents))


def test_what_docstrings_say_of_a_key_is_shown_at_the_key() -> None:
    made = schema(MODELS["study"])
    assert made["$defs"]["Schedule"]["properties"]["clip"]["description"] == "the largest norm of the gradient."
    recipe = schema(MODELS["recipes"])["$defs"]["Recipe"]
    assert recipe["description"].endswith("on which noise, which parameters.")
    assert recipe["properties"]["epochs"]["description"].startswith("in place of the role's")
    assert recipe["properties"]["options"]["description"] == "its own keywords"


def test_a_key_may_be_called_title() -> None:
    assert {"title", "caption"} <= schema(MODELS["tables"])["$defs"]["Table"]["properties"].keys()


def test_dvc_keeps_the_line_where_it_rewrites_a_file(tmp_path: Path) -> None:
    """As `dvc exp run -S` does."""
    file = tmp_path / "smoke.yaml"
    text = (ROOT / "params" / "studies" / "smoke.yaml").read_text()
    file.write_text(text)
    with modify_yaml(file) as held:
        held["seeds"] = [7]
    assert file.read_text().split("\n")[:2] == text.split("\n")[:2]
    assert yaml.load(file.read_text())["seeds"] == [7]
