"""The table and the figure of feature shifts."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tests.helpers.report import evaluated, row_spec, run_spec
from transmooth.records import table as records
from transmooth.report.shift import write_shift
from transmooth.specs import EvaluatedSpec, ShiftReportSpec


def write(results: Path, given: EvaluatedSpec, scale: float, sigmas: Sequence[float] = (0.0, 0.5)) -> None:
    """Records of shifts that are scale x (1 + depth + sigma), ten times that by finetuning."""
    lines = [
        {
            "cause": cause,
            "sigma": sigma,
            "layer": f"norm{depth}",
            "depth": depth,
            "shift": f * scale * (1 + depth + sigma),
        }
        for cause, f in (("statistics", 1), ("finetuning", 10))
        for sigma in sigmas
        for depth in (0, 1)
    ]
    made = {"spec": {"images": 7}}
    for each in given.records:
        records.seal(records.with_metadata(pa.Table.from_pylist(lines), made), results / each.path)


@pytest.fixture
def spec(tmp_path: Path) -> ShiftReportSpec:
    """Three rows: one of two seeds, one of the same label in a block, one that was measured at fewer sigmas."""
    seeds = [evaluated(run_spec("bn/a@up/b@down", seed), "shift", kind="shift") for seed in (0, 1)]
    other = evaluated(run_spec("ln/a@up/b@down"), "shift", kind="shift")
    few = evaluated(run_spec("gn/a@up/b@down"), "clean_shift", kind="shift")
    certified = evaluated(run_spec("ln/a@up/b@down"), "certify")
    for each, scale in zip([*seeds, other], (0.1, 0.3, 0.5), strict=True):
        write(tmp_path, each, scale)
    write(tmp_path, few, 1.0, [0.0])
    # What is no shift is not read: there is no such file.
    both = other.model_copy(update={"records": (*certified.records, *other.records)})
    rows = (
        row_spec("norm", *([each] for each in seeds)),
        row_spec("norm", [both], block="other"),
        row_spec("few", [few]),
    )
    return ShiftReportSpec(name="moved", title="Moved", caption="How far.", rows=rows)


def test_the_table_has_the_mean_over_seeds_and_layers_for_each_row(tmp_path: Path, spec: ShiftReportSpec) -> None:
    write_shift(spec, tmp_path, tmp_path / "moved", tmp_path / "moved")
    lines = pd.read_csv(tmp_path / "moved.csv").set_index(["row", "cause", "sigma", "depth"])["shift"]
    assert lines["norm", "statistics", 0.0, 1] == pytest.approx(0.2 * 2)  # of two seeds
    assert lines["other: norm", "finetuning", 0.5, 0] == pytest.approx(0.5 * 15)
    text = (tmp_path / "moved.md").read_text()
    assert text.startswith("# Moved\n\nHow far.\n\nMean over the layers, 7 test images; ")
    assert "|  | moved by | σ = 0 | σ = 0.5 |\n" in text
    assert "| norm | statistics | 0.300 | 0.400 |\n" in text
    assert "| other: norm | finetuning | 7.500 | 10.000 |\n" in text
    assert "| few | statistics | 1.500 | – |\n" in text
    assert (tmp_path / "moved.svg").read_text().startswith("<?xml")
    assert (tmp_path / "moved.png").read_bytes().startswith(b"\x89PNG")


def test_damaged_records_are_refused_by_name(tmp_path: Path, spec: ShiftReportSpec) -> None:
    path = tmp_path / spec.rows[0].runs[1][0].records[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(records.RecordError, match=f"{spec.rows[0].runs[1][0].run.path}/shift/records.parquet: "):
        write_shift(spec, tmp_path, tmp_path / "moved", tmp_path / "moved")
