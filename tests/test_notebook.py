"""The notebook of the docs, run cell by cell as Jupyter would, without Jupyter."""

import json
from typing import Any

import nbformat
import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """The names that its cells leave."""
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}: {cell['id']}", "exec"), names)
    return names


def test_it_is_a_notebook_of_ten_code_cells_or_fewer_without_outputs() -> None:
    content = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    nbformat.validate(content)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert 0 < len(code) <= 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_certifies_the_network_that_it_trained(run: dict[str, Any]) -> None:
    frame, certified = run["frame"], run["certified"]
    assert len(frame) == len(run["images"]) == 20
    assert list(certified.values()) == sorted(certified.values(), reverse=True)
    assert certified[0.2] > 0.5  # a guess has a third
    assert 0 < frame["radius"].max() <= run["largest"] + 1e-6
    assert len(run["answers"]) == 5
