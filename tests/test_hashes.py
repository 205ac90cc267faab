"""benchmarks/hashes.py: the same for the same results, another for a changed bit, whatever the seconds."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.helpers.records import row, table
from transmooth.records.table import write

RUN = "layer_norm/clean@downstream/0"


def hashes(results: Path) -> dict[str, str]:
    found = runpy.run_path(str(ROOT / "benchmarks" / "hashes.py"))["hashes"](results)
    return {path: digest for digest, path in found}


def study(folder: Path, weights: bytes = b"weights", **changes: Any) -> Path:
    """A study's folder with one run; changes: of its second record."""
    (folder / "train" / RUN).mkdir(parents=True)
    (folder / "train" / RUN / "model.safetensors").write_bytes(weights)
    write(table(row(0), row(1) | changes), folder / "evaluate" / RUN / "certify" / "records.parquet")
    return folder


def test_seconds_do_not_count(tmp_path: Path) -> None:
    first = hashes(study(tmp_path / "a"))
    assert list(first) == [f"evaluate/{RUN}/certify/records.parquet", f"train/{RUN}/model.safetensors"]
    assert first == hashes(study(tmp_path / "b", seconds=9.0))


@pytest.mark.parametrize(
    ("changes", "changed"),
    [({"radius": 0.1}, "records.parquet"), ({"weights": b"other"}, "model.safetensors")],
)
def test_a_result_that_differs_shows(changes: dict[str, Any], changed: str, tmp_path: Path) -> None:
    first, second = hashes(study(tmp_path / "a")), hashes(study(tmp_path / "b", **changes))
    assert [Path(path).name for path in first if first[path] != second[path]] == [changed]
