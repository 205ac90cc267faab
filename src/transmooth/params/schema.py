"""JSON Schemas of the params files, by which editors complete keys and check values while they are typed.

`python -m transmooth.params.schema`, in a checkout, writes params/schema/, which the first line of each params file
names.  They know each key by itself; what concerns several keys or files is checked by `load` alone.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transmooth import files
from transmooth.params.datasets import Datasets
from transmooth.params.recipes import Recipes
from transmooth.params.study import Study
from transmooth.params.tables import Tables
from transmooth.params.values import Model

# By the name of its file.
MODELS: dict[str, type[Model]] = {"study": Study, "tables": Tables, "recipes": Recipes, "datasets": Datasets}
# Limits that stand behind another validator keep pydantic's names.
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def schemas() -> dict[str, str]:
    """Return the schemas as text, by the name of their file without .json."""
    return {name: _text(schema(model)) + "\n" for name, model in MODELS.items()}


def schema(model: type[Model]) -> dict[str, Any]:
    """Return the JSON Schema (draft 7, which editors know) of a params file."""
    made: dict[str, Any] = _plain(model.model_json_schema())
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | made


def _plain(node: Any) -> Any:
    """Return a schema of pydantic's with standard limits, closed mappings and descriptions of keys; without titles."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {
        LIMITS.get(key, key): _plain(value)
        for key, value in node.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }
    if "patternProperties" in made:
        made["additionalProperties"] = False
    if isinstance(made.get("properties"), dict) and isinstance(made.get("description"), str):
        made["description"], keys = _descriptions(made["description"], made["properties"])
        for key, text in keys.items():
            made["properties"][key]["description"] = text
    return made


def _descriptions(docstring: str, keys: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of the whole, and of each key that it explains as `key: …` or `key, key: …`."""
    names = "|".join(keys)
    head, *parts = re.split(rf"(?:^|(?<=\n)|(?<= {{2}})|(?<=; ))((?:{names})(?:, (?:{names}))*): ", docstring)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return _sentence(head), {key: _sentence(text) for group, text in pairs for key in group.split(", ")}


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(";")


def _text(node: Any, indent: str = "") -> str:
    """JSON with a line for each key of the params."""
    if not (isinstance(node, dict) and node.keys() & {"properties", "$defs"}):
        return json.dumps(node, ensure_ascii=False)
    return _mapping(node, indent, ("properties", "$defs"))


def _mapping(node: dict[str, Any], indent: str, expanded: tuple[str, ...]) -> str:
    def lines() -> Iterator[str]:
        for key, value in node.items():
            inner = f"{indent} "
            text = _mapping(value, inner, ()) if key in expanded else _text(value, inner)
            yield f"{inner}{json.dumps(key)}: {text}"

    return "{\n" + ",\n".join(lines()) + f"\n{indent}}}"


if __name__ == "__main__":
    for name, text in schemas().items():
        files.write_text(Path("params/schema") / f"{name}.json", text)
