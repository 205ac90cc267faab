import errno
import fcntl
import re
from pathlib import Path

import pytest

from tests.helpers.disk import full_disk
from transmooth import files


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "card.json"
    files.write_text(path, "old")
    with full_disk(100), pytest.raises(OSError, match=r"new/card\.json") as caught:
        files.write_text(path, "new" * 100)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["card.json"]


def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    with pytest.raises(OSError, match="/proc/nowhere"):
        files.write_text(Path("/proc/nowhere/card.json"), "")
    with pytest.raises(OSError, match="/proc/nowhere"), files.locked(Path("/proc/nowhere/run")):
        pass


def test_an_output_has_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    with files.locked(tmp_path / "run"), files.locked(tmp_path / "other"):
        with (
            pytest.raises(files.InUseError, match="run: another process is at work on it"),
            files.locked(tmp_path / "run"),
        ):
            pass
        assert capsys.readouterr().err.count("waiting") == 1
    with files.locked(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who locks the removed file would be alone with it: the next one makes a new file."""
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    flock, removed = fcntl.flock, list[Path]()

    def after_removal(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(tmp_path / ".run.lock")
            removed[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_removal)
    with files.locked(tmp_path / "run"):
        assert removed
        with pytest.raises(files.InUseError), files.locked(tmp_path / "run"):
            pass


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for left in ("run/.model.safetensors.17.tmp", ".run.json.17.tmp", "run/model.json", ".runner.json.17.tmp"):
        files.write_text(tmp_path / left, "")
    (tmp_path / ".run.abcdef.tmp").mkdir()
    (tmp_path / ".run.abcdef.tmp" / "test.npy").touch()
    (tmp_path / ".run.lock").touch()  # of a killed process: it locks nothing
    with files.locked(run):
        pass
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {"run/model.json", ".runner.json.17.tmp"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting"),
        (b"\xff{}", "'utf-8' codec can't decode byte 0xff"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["a"]', "should be a JSON object, found list"),
        (b'{"a": "aaaa"}', "it has 13 bytes, should have at most 12"),
    ],
)
def test_what_is_no_json_object_is_said_in_one_line_with_its_file(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    if "bytes, should" in reason:
        monkeypatch.setattr(files, "MOST_JSON", 12)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a card: ")) as fault:
        files.read_json(path, "a card")
    assert reason in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_json_object_is_read_with_what_json_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(b'{"a": "\\ud83d\\ude00 \\u00e9"}')
    monkeypatch.setattr(files, "MOST_JSON", path.stat().st_size)
    assert files.read_json(path, "a card") == {"a": "\U0001f600 é"}
