"""Rows of tables: their specs, what is read from records, and files to read them from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.records import attacked_row, row
from transmooth.checkpoint.card import write_card
from transmooth.params.tables import parse_column
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.report.accuracy import AttackResult, RowResult, Settings
from transmooth.specs import ColumnSpec, EvaluatedSpec, LogSpec, RecordsSpec, RowSpec, RunSpec, TableSpec

COHEN = Settings("cohen", 50, 200, 0.001)


def result(
    curves: Mapping[float, Sequence[Sequence[float]]], clean: Sequence[float] = (0.9,), **named: Any
) -> RowResult:
    """A row of a table.  curves: sigma → seeds → each image's radius, -inf where wrong; named: its other fields."""
    fields: dict[str, Any] = {"label": "ours", "block": "", "published": "method=ours", "dataset": None}
    fields |= {"clean_images": 400, "settings": COHEN} | named
    arrays = {sigma: np.array(radii, np.float64) for sigma, radii in curves.items()}
    return RowResult(curves=arrays, clean=np.array(clean), **fields)


# Two seeds, four images; the small sigma wins at 0.25, the large one at 0.75.
TWO = result(
    {0.25: [[0.5, 0.5, 0.5, -np.inf], [0.5, 0.5, -np.inf, -np.inf]], 1.0: [[1.0, 1.0, -np.inf, -np.inf]] * 2},
    [0.9, 0.8],
)


def attack_result(right: Sequence[Sequence[int]], robust: Sequence[Sequence[int]], norm: str = "l2") -> AttackResult:
    """What an attack left.  right, robust: seeds → images, 1 or 0."""
    return AttackResult(np.array(right, bool), np.array(robust, bool), norm, f"AutoPGD in {norm}")


def columns(*texts: str) -> tuple[ColumnSpec, ...]:
    """Columns as the params name them."""
    return tuple(ColumnSpec(**parse_column(text).model_dump()) for text in texts)


def table_spec(texts: Sequence[str], rows: Sequence[RowSpec] = (), **named: Any) -> TableSpec:
    """A table with these columns; named: its other fields."""
    fields = {"name": "table", "title": "Title", "caption": "Caption."} | named
    return TableSpec(columns=columns(*texts), rows=tuple(rows), **fields)


def run_spec(text: str, seed: int = 0, dataset: str = "digits") -> RunSpec:
    """A run, `network/recipe@role/…`."""
    network, *stages = text.split("/")
    return RunSpec(network=network, stages=tuple(stages), seed=seed, dataset=dataset, path=f"{text}/{seed}")


def evaluated(run: RunSpec, *evaluations: str, kind: str = "certify") -> EvaluatedSpec:
    """A run and where the records of its evaluations are."""
    paths = [f"evaluate/{run.path}/{name}/records.parquet" for name in evaluations]
    return EvaluatedSpec(run=run, records=tuple(RecordsSpec(kind=kind, path=path) for path in paths))


def row_spec(label: str, *runs: Sequence[EvaluatedSpec], **named: Any) -> RowSpec:
    """A row.  runs: for each seed those that it pools; named: its other fields."""
    return RowSpec(label=label, runs=tuple(map(tuple, runs)), **{"block": "", **named})


def write_records(results: Path, given: EvaluatedSpec, rows: Sequence[Mapping[str, Any]], **made: Any) -> Path:
    """Write the records of a run with one evaluation, and return their file; made: what they were made with."""
    (each,) = given.records
    spec = {"n": 1000, "run": given.run.dump()} | made.pop("spec", {})
    records.write(records.from_rows(rows, {"spec": spec} | made), results / each.path)
    return results / each.path


def write_attack(results: Path, given: EvaluatedSpec, rows: Sequence[Mapping[str, Any]], **made: Any) -> Path:
    """Write the records of a run with one evaluation, an attack, and return their file."""
    (each,) = given.records
    made = {"spec": {"run": given.run.dump()}} | made
    attacked.write(attacked.from_rows(rows, made), results / each.path)
    return results / each.path


def left(outcomes: str, epsilon: float, **changes: Any) -> list[dict[str, Any]]:
    """Rows of an attack: for each image `r`obust, `f`ound or `w`rong before it."""
    found = {"robust": False, "adversarial": 5, "distance": epsilon, "loss": "margin", "restart": 0}
    kinds: dict[str, dict[str, Any]] = {"r": {}, "f": found, "w": {"robust": False, "prediction": 7}}
    return [attacked_row(index, epsilon=epsilon, **kinds[outcome], **changes) for index, outcome in enumerate(outcomes)]


def write_clean(results: Path, run: RunSpec, correct: int, images: int = 10, **card: Any) -> Path:
    """Write the card of a run, and return its folder."""
    folder = results / "train" / run.path
    folder.mkdir(parents=True)
    write_card(folder, {"test": {"images": images, "correct": correct}} | card)
    return folder


def radii_as_rows(radii: Sequence[float], sigma: float, **changes: Any) -> list[dict[str, Any]]:
    """Rows of images with these radii at one sigma; -inf for one that is wrong."""
    return [
        row(index, sigma, radius=max(radius, 0.0), prediction=3 if radius >= 0 else 4, **changes)
        for index, radius in enumerate(radii)
    ]


def log_files(folder: Path, last: str = "6\t1\t1\t1.9\t1\t0:00:01\n", **named: Any) -> RowSpec:
    """A row of two logs of the same three images; last: the last line of the second."""
    head = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
    lines = "0\t1\t1\t0.4\t1\t0:00:01\n3\t2\t2\t0.5\t1\t0:00:01\n6\t1\t-1\t0.0\t0\t0:00:01\n"
    (folder / "quarter.tsv").write_text(head + lines)
    (folder / "one.tsv").write_text(head + "0\t1\t2\t0.4\t0\t0:00:01\n3\t2\t-1\t0.0\t0\t0:00:01\n" + last)
    files = (LogSpec(sigma=0.25, file="quarter.tsv"), LogSpec(sigma=1.0, file=str(folder / "one.tsv")))
    return RowSpec(label="theirs", block="", files=files, **named)
