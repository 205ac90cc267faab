"""What one Snakemake process does around its jobs."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import NETWORK, ROOT
from transmooth import files
from transmooth.cli.main import app
from transmooth.runtime import session

GOOD = NETWORK.text
TYPO = NETWORK.model_copy(update={"options": {"chanels": [8]}}).text
TOLD = "typo: TypeError: ResNet.__init__() got an unexpected keyword argument 'chanels'"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are started; they run in this process."""
    commands: list[list[str]] = []

    def run(command: list[str], **settings: Any) -> Any:
        assert command[1:3] == ["-m", "transmooth"]
        commands.append(command)
        done = CliRunner().invoke(app, command[3:])
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_a_network_that_cannot_be_built_is_told_by_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    assert session.check_networks({"typo": TYPO}, tmp_path) == [TOLD]


def test_good_networks_are_remembered(tmp_path: Path, asked: list[list[str]]) -> None:
    assert session.check_networks({"small": GOOD, "typo": TYPO}, tmp_path) == [TOLD]
    assert session.check_networks({"small": GOOD}, tmp_path) == []
    assert len(asked) == 2
    for name in ("small", "other name"):
        assert session.check_networks({name: GOOD}, tmp_path) == []
    assert len(asked) == 2  # nothing new was to be known
    for _ in range(2):  # a fault is told each time
        assert session.check_networks({"small": GOOD, "typo": TYPO}, tmp_path) == [TOLD]
        assert json.loads(asked[-1][-1]) == {"typo": json.loads(TYPO)}  # the one of which nothing is known
    assert len(asked) == 4


def test_what_was_found_good_is_asked_again_with_other_versions_and_sources(
    tmp_path: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        asked.clear()
        assert session.check_networks({"small": GOOD}, tmp_path) == []
        return len(asked)

    assert (count(), count()) == (1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(session, "version", lambda name: "9.9")
        assert (count(), count()) == (1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(session, "digest", lambda *entries: "others")
        assert (count(), count()) == (1, 0)
    assert count() == 0
    assert session.check_networks({"small": NETWORK.model_copy(update={"groups": 2}).text}, tmp_path) == []
    assert len(asked) == 1


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path: Path, asked: list[list[str]]) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert session.check_networks({"small": GOOD}, tmp_path / "file" / "known") == []
    assert len(asked) == 2


def test_a_state_that_brings_outputs_back_is_forgotten_once_snakemake_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    incomplete = tmp_path / ".snakemake" / "incomplete"
    incomplete.mkdir(parents=True)
    done, running = tmp_path / "done", tmp_path / "running"
    for folder in (done, running):
        folder.mkdir()
        (folder / "resume.pt").touch()
    (done / "model.json").touch()
    (incomplete / "job").touch()
    session.forget_finished_trainings([done, running])
    assert (done / "resume.pt").exists()  # Snakemake does not know yet that some job is done
    (incomplete / "job").unlink()
    session.forget_finished_trainings([done, running, tmp_path / "never"])
    assert not (done / "resume.pt").exists()
    assert (running / "resume.pt").exists()


def test_shards_go_once_their_records_are_there(tmp_path: Path) -> None:
    def written(name: str, seconds: int) -> Path:
        path = tmp_path / "study" / "evaluate" / "layer_norm" / "clean@downstream" / "0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (seconds, seconds))
        return path

    left, records = written("certify/1-of-2.parquet", 1), written("certify/records.parquet", 2)
    newer = written("certify/2-of-2.parquet", 3)  # a new certification, whose records are still the old ones
    alone = written("again/1-of-1.parquet", 1)
    session.hold_folder(tmp_path / "study", tmp_path, {}, []).close()
    assert not left.exists()
    assert all(path.exists() for path in (records, newer, alone))


def test_dvc_is_found_on_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    content = b"a result"
    digest = hashlib.md5(content).hexdigest()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "kept" / "files" / "md5" / digest[:2]).mkdir(parents=True)
    files.write_text(tmp_path / ".dvc" / "config", f"[core]\n no_scm = true\n[cache]\n dir = {tmp_path / 'kept'}\n")
    files.write_bytes(tmp_path / "kept" / "files" / "md5" / digest[:2] / digest[2:], content)
    (tmp_path / "result").write_bytes(content)
    (tmp_path / "other").write_bytes(b"another one")
    assert session._in_cache(tmp_path, tmp_path / "result")
    assert not session._in_cache(tmp_path, tmp_path / "other")


def test_without_dvc_nothing_is_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.py").write_text("raise ModuleNotFoundError(name='dvc')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "result").write_bytes(b"a result")
    assert not session._in_cache(tmp_path, tmp_path / "result")
