"""Params with some values replaced, in memory and as files."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.conftest import ROOT
from transmooth.params.load import load
from transmooth.params.study import Params
from transmooth.plan import Plan

SMOKE = load("smoke", ROOT)
STUDIES = sorted(path.stem for path in (ROOT / "params" / "studies").glob("*.yaml"))

# Whatever YAML can hold.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def changed(**values: Any) -> Plan:
    """The plan of the smoke study with other values: `study__schedules__finetune__lr=(0.5,)`."""
    content = SMOKE.model_dump(mode="python")
    for keys, value in values.items():
        target = content
        *parents, last = keys.split("__")
        for key in parents:
            target = target[key]
        target[last] = value
    return Plan(Params.model_validate(content))


def with_table(*rows: dict[str, Any], **values: Any) -> Plan:
    """The plan of the smoke study where it reports one table, `t`, of these rows; `table__…` are values of it."""
    table = {"title": "", "caption": "", "columns": ("certified@0.25",), "rows": rows}
    table |= {key.removeprefix("table__"): values.pop(key) for key in list(values) if key.startswith("table__")}
    return changed(tables={"tables": {"t": table}}, study__report=("t",), **values)


def copied(to: Path) -> Path:
    """A folder with the project's params."""
    shutil.copytree(ROOT / "params", to / "params")
    return to


def edit(base: Path, file: str, keys: str, value: Any) -> None:
    """Set (or, with `...`, delete) a dotted key of a params file."""
    path = base / "params" / f"{file}.yaml"
    content = yaml.safe_load(path.read_text())
    *parents, last = [int(key) if key.isdigit() else key for key in keys.split(".")]
    target = content
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def places(part: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every key and element below a mapping or list."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *rest) for rest in places(value))
