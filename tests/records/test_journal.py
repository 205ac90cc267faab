from pathlib import Path

import pytest

from tests.helpers.records import row
from transmooth import files
from transmooth.records.journal import Journal


def test_a_journal_forgets_a_torn_line_and_what_is_not_its_own(tmp_path: Path) -> None:
    out, header = tmp_path / "r.parquet", {"n": 1000}
    first, second = Journal(out, header, rank=0), Journal(out, header, rank=1)
    first.restart([row(1)])
    first.append([row(2)])
    second.restart([])
    second.append([row(3)])
    with second.path.open("a") as file:
        file.write('{"index": 4, "lab')
    assert [r["index"] for r in first.finished()] == [1, 2, 3]
    assert first.finished()[0] == row(1)
    assert Journal(out, {"n": 2000}).finished() == []
    first.remove(but=first.path)
    assert [r["index"] for r in first.finished()] == [1, 2]
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    out = tmp_path / "records.parquet"
    with Journal(out, {}) as journal:
        journal.restart([])
        with (
            pytest.raises(files.InUseError, match=r"records.parquet: another process is at work on it"),
            Journal(out, {}),
        ):
            pass
        with Journal(out, {}, rank=1):  # another process of the same job
            pass
    with Journal(out, {}):
        assert Journal(out, {}).finished() == []


def test_rows_that_two_journals_hold_count_once(tmp_path: Path) -> None:
    out = tmp_path / "run[1]*.parquet"  # no pattern
    rows = [{"sigma": 0.5, "index": index} for index in range(3)]
    first, second = Journal(out, {}, rank=0), Journal(out, {}, rank=1)
    first.restart(rows)
    second.restart(rows[1:])
    assert first.finished() == rows
    second.remove()
    assert first.finished() == []


def test_the_images_of_damaged_lines_are_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "records.parquet", {})
    journal.restart([row(1), row(2, radius=0.5), row(3)])
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"radius": 0.5', b'"radius": 0.7'))
    assert [each["index"] for each in journal.finished()] == [1, 3]
    assert "rank0.journal: 1 of 3 lines are damaged" in capsys.readouterr().err
    journal.path.write_text("")
    assert not journal.foreign()
    assert journal.finished() == []
