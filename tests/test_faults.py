"""Damage, full disks, folders that cannot be written to, two at work: detected, named, redone or refused.

A damaged file never gives another number than the whole one: its reader refuses it by name, or reads what it always
read, where a flipped bit changes only how a number is spelt.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.helpers.disk import full_disk
from tests.helpers.records import row
from tests.helpers.specs import certify_spec, train_spec
from transmooth import files
from transmooth.checkpoint import resume, weights
from transmooth.checkpoint.card import read_card
from transmooth.cli.main import app
from transmooth.data.prepare import prepare, verify
from transmooth.evaluation import certify
from transmooth.records import table as records
from transmooth.records.journal import Journal
from transmooth.report.training import write_training
from transmooth.training.loop import train

HEADER = {"n": 1000}
DIGITS = {"source": {"kind": "digits", "seed": 0, "test": 300}, "size": 8, "stored": 8, "validation": 0.1, "seed": 0}
ROWS = [row(index, radius=0.1 + index / 7) for index in range(30)]


@pytest.fixture(scope="module")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that is kept: data, a checkpoint, the state of a training, records, a journal."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(digits, folder / "data")
    train(train_spec(epochs=1, warmup_epochs=0), digits, folder / "model")
    state = resume.new_state({}) | {"network": weights.load(folder / "model")[0].state_dict()}
    resume.save_state(folder / "resume.pt", state)
    records.write(records.from_rows(ROWS, {"spec": {"alpha": 0.001}}), folder / "records.parquet")
    Journal(folder / "shard.parquet", HEADER).restart(ROWS)
    return folder


def training_curve(made: Path) -> str:
    write_training([made / "model"], made / "training.csv")
    return (made / "training.csv").read_text()


@dataclass(frozen=True)
class Kept:
    """A file that is kept, and how it is read: from the folder that `made` gives to what can be compared."""

    file: str
    read: Callable[[Path], Any]


REFUSED = [
    Kept("data/test.npy", lambda made: verify(made / "data", ["test"])),
    Kept("data/test.labels.npy", lambda made: verify(made / "data", ["test"])),
    Kept("data/train.npy", lambda made: verify(made / "data")),
    Kept("data/manifest.json", lambda made: verify(made / "data", [])),
    Kept("model/model.safetensors", lambda made: weights.load(made / "model")[1]),
    Kept("model/model.json", lambda made: read_card(made / "model")),
    Kept("model/metrics.jsonl", training_curve),
    Kept(
        "records.parquet",
        lambda made: (
            records.read(made / "records.parquet").to_pylist(),
            records.metadata(made / "records.parquet"),
        ),
    ),
]


def outcome(kept: Kept, made: Path) -> tuple[Any, str | None]:
    """What was read, or what was said instead."""
    try:
        return kept.read(made), None
    except ValueError as error:
        return None, str(error)


def damaged(content: bytes, place: float, bit: int | None) -> bytes:
    """With one bit flipped at a place from 0 to 1, or cut off there."""
    at = min(int(place * len(content)), len(content) - 1)
    if bit is None:
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


places = st.floats(0, 1)
bits = st.one_of(st.none(), st.integers(0, 7))
few = settings(max_examples=40)


@pytest.mark.parametrize("kept", REFUSED, ids=lambda kept: kept.file)
@few
@given(place=places, bit=bits)
def test_a_damaged_file_is_refused_by_name(made: Path, kept: Kept, place: float, bit: int | None) -> None:
    path = made / kept.file
    whole, expected = path.read_bytes(), kept.read(made)
    path.write_bytes(damaged(whole, place, bit))
    found, said = outcome(kept, made)
    path.write_bytes(whole)
    if said is None:
        assert path.suffix == ".json"
        assert found == expected
    else:
        assert path.name in said


@few
@given(place=places, bit=bits)
def test_a_damaged_training_state_is_not_gone_on_with(made: Path, place: float, bit: int | None) -> None:
    path = made / "damaged.pt"
    path.write_bytes(damaged((made / "resume.pt").read_bytes(), place, bit))
    assert resume.load_state(path, {}) is None
    assert resume.load_state(made / "resume.pt", {}) is not None


@few
@given(place=places, bit=bits)
def test_a_damaged_journal_loses_rows_and_changes_none(made: Path, place: float, bit: int | None) -> None:
    whole = Journal(made / "shard.parquet", HEADER)
    journal = Journal(made / "damaged.parquet", HEADER)
    journal.path.write_bytes(damaged(whole.path.read_bytes(), place, bit))
    found = journal.finished()
    assert all(each in ROWS for each in found)
    assert bit is None or len(found) in (0, len(ROWS) - 2, len(ROWS) - 1)  # the header, a line's end, a line
    assert whole.finished() == ROWS


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(*arguments: Any) -> str:
    """What a command that must fail says."""
    done = call(*arguments)
    assert done.exit_code == 1, done.output
    assert not isinstance(done.exception, ValueError | OSError)  # nothing but the exit, so no traceback
    assert done.stderr.strip().splitlines()[-1].startswith("transmooth: ")
    return str(done.stderr)


COMMANDS = {
    "train": "job train --spec {train} --data {made}/data --out {out}",
    "evaluate": "job evaluate --spec {certify} --data {made}/data --checkpoint {made}/model --out {out}",
    "certify": "certify {made}/model {made}/data --sigma 0.5 --n 100 --out {out}.parquet",
    "predict": "predict {made}/model {made}/data --sigma 0.5",
    "prepare": "job prepare --spec {nothing} --base . --out {out}",
    "finish": "job finish --spec {certify} --data {made}/data --out {out} {made}/part",
    "table": "job table --spec {nothing} --results . --base . --published p --out {out} --metrics {out}.json",
    "figure": "job figure --spec {nothing} --results . --base . --out {out}",
    "shift": "job shift --spec {nothing} --results . --out {out} --figure {out}.svg",
    "course": "job course --spec {nothing} --results . --out {out}",
    "gain": "job gain --spec {nothing} --results . --base . --out {out}",
    "training": "job training --out {out} {made}/model",
    "report": "job report --spec {nothing} --results . --base . --published p --data {made}/data --out {out}",
}
SPECS = {"train": train_spec().text, "certify": certify_spec().text, "nothing": "{}"}
WRITERS = ["train", "evaluate", "prepare", "finish", "table", "figure", "shift", "course", "gain", "training", "report"]


def command(name: str, made: Path, out: Path) -> list[str]:
    return [part.format(made=made, out=out, **SPECS) for part in COMMANDS[name].split()]


@pytest.mark.parametrize(
    ("name", "file"),
    [(name, "data/test.npy") for name in ("train", "evaluate", "certify", "predict", "report")]
    + [(name, "data/manifest.json") for name in ("train", "evaluate", "certify", "predict", "finish", "report")]
    + [(name, "model/model.safetensors") for name in ("evaluate", "certify", "predict")]
    + [("training", "model/metrics.jsonl")],
)
def test_a_command_that_meets_damage_says_so_in_one_line(made: Path, tmp_path: Path, name: str, file: str) -> None:
    path = made / file
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, 0.5, 0))
    try:
        assert path.name in one_line(*command(name, made, tmp_path / "out"))
    finally:
        path.write_bytes(whole)
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_job_whose_output_another_one_writes_is_refused(
    made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with files.locked(tmp_path / "out"):
        assert "out: another process is at work on it" in one_line(*command(name, made, tmp_path / "out"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_job_whose_output_cannot_be_written_says_so(made: Path, name: str) -> None:
    assert "/proc/nowhere" in one_line(*command(name, made, Path("/proc/nowhere/out")))


# By the file that does not fit: how large it may become, and what writes it.
WRITES: dict[str, tuple[int, Callable[[Path, Path], Any]]] = {
    "model.safetensors": (2000, lambda made, out: weights.save(out, *weights.load(made / "model"))),
    "resume.pt": (2000, lambda made, out: resume.save_state(out / "resume.pt", {"history": [0.0] * 10_000})),
    "records.parquet": (2000, lambda made, out: records.write(records.from_rows(ROWS, {}), out / "records.parquet")),
    "r.parquet.rank0.journal": (2000, lambda made, out: Journal(out / "r.parquet", HEADER).append(ROWS)),
    "train.labels.npy": (2000, lambda made, out: prepare(DIGITS, out / "set", ROOT)),
    "train.npy": (20_000, lambda made, out: prepare(DIGITS, out / "set", ROOT)),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_told_with_the_name_of_the_file(made: Path, tmp_path: Path, name: str) -> None:
    size, write = WRITES[name]
    with full_disk(size), pytest.raises(OSError, match=rf"/{name}\b"):
        write(made, tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.name != name or path.suffix != ".journal"] == []


def test_a_journal_that_a_full_disk_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.parquet", HEADER)
    journal.restart(ROWS[:5])
    with full_disk(journal.path.stat().st_size + 100), pytest.raises(OSError, match=r"rank0\.journal"):
        journal.append(ROWS[5:])
    journal.restart(journal.finished())
    journal.append(ROWS[5:])
    assert journal.finished() == ROWS


def test_what_a_job_redoes_after_damage_equals_what_it_was(made: Path, digits: Path, tmp_path: Path) -> None:
    spec = certify_spec()

    def certified(out: Path) -> list[dict[str, Any]]:
        certify.run(spec, digits, made / "model", None, out, 0, 1, 256)
        return [{k: v for k, v in each.items() if k != "seconds"} for each in records.read(out).to_pylist()]

    whole = certified(tmp_path / "whole.parquet")
    card = read_card(made / "model")
    header = {"spec": spec.dump(), "model": card["weights_sha256"], "shard": 0, "shards": 1}
    journal = Journal(tmp_path / "out.parquet", header)
    journal.restart(records.read(tmp_path / "whole.parquet").to_pylist())
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"top_count": 1', b'"top_count": 2'))
    assert 0 < len(journal.finished()) < len(whole)
    assert certified(tmp_path / "out.parquet") == whole


@pytest.mark.skipif("KILLS" not in os.environ, reason="takes minutes: set KILLS to a number of kills, such as 2")
def test_a_study_that_is_killed_ends_as_one_that_was_not() -> None:
    """The short form of the harness, whose long one is `python benchmarks/faults/kill.py`."""
    kills = os.environ["KILLS"]
    harness = [sys.executable, str(ROOT / "benchmarks/faults/kill.py"), "--kills", kills, "--seed", "0", "--json"]
    done = subprocess.run(harness, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == int(kills)
    assert found["different"] == 0
