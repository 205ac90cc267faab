"""What of a study goes into DVC's mirror, and what of the mirror comes back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from transmooth.runtime.mirror import INCOMPLETE, RECORDS, give, record, take

OUTPUTS: dict[str, list[str]] = {"pretrain/weights": [], "finetune/weights": ["certify/1-of-1"], "report.html": []}
TEMPORARY = "certify/1-of-1"
OUTSIDE = ["../../data/digits/manifest.json"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def make(study: Path, made_by: str) -> Path:
    """A study whose files and records have this content."""
    for name in [*OUTPUTS, TEMPORARY, *OUTSIDE]:
        write(study / RECORDS / record(name), json.dumps([name, made_by]))
    for name in OUTPUTS:
        write(study / name, f"{name} {made_by}")
    return study


def state(folder: Path, part: str = "") -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and part in str(path)
    }


def cache(*folders: Path) -> Callable[[Path], bool]:
    held = {text for folder in folders for text in state(folder).values()}
    return lambda path: path.read_text() in held


@pytest.mark.parametrize("name", ["tables/a.md", f"finetune/{'long/' * 100}model.json", "../../data/ö/manifest.json"])
def test_a_record_is_where_snakemake_has_it(tmp_path: Path, name: str) -> None:
    persistence = FilePersistence(path=tmp_path / ".snakemake")
    assert Path(persistence._record_path(tmp_path, name)) == tmp_path / record(name)


def test_the_mirror_has_what_is_whole_and_of_the_plan(tmp_path: Path) -> None:
    study, mirror = make(tmp_path / "study", "a"), tmp_path / "mirror"
    write(study / "finetune/resume.pt", "state")
    write(mirror / "stale/model.json", "of an older plan")
    write(study / INCOMPLETE / record("finetune/weights"), "")  # killed before Snakemake noted its end
    (study / RECORDS / record("report.html")).unlink()
    give(study, mirror, OUTPUTS, OUTSIDE)
    assert state(mirror) == {
        "pretrain/weights": "pretrain/weights a",
        f"metadata/{record('pretrain/weights')}": '["pretrain/weights", "a"]',
        f"metadata/{record(OUTSIDE[0])}": f'["{OUTSIDE[0]}", "a"]',
    }
    assert sorted(path.name for path in mirror.iterdir()) == ["metadata", "pretrain"]
    write(study / RECORDS / record("pretrain/weights"), "in place")
    assert "in place" not in state(mirror).values()


def test_what_dvc_checked_out_is_taken_if_nothing_is_lost_by_it(tmp_path: Path) -> None:
    new, old = make(tmp_path / "study", "new"), make(tmp_path / "old", "old")
    mirror = tmp_path / "mirror"
    give(old, mirror, OUTPUTS, OUTSIDE)
    before = state(new)
    assert take(new, mirror, OUTPUTS, OUTSIDE, cache()) == []  # DVC has nothing: the mirror is left over
    assert take(new, mirror, OUTPUTS, OUTSIDE, cache(mirror)) == [*OUTPUTS]  # nothing of the study is in the cache
    assert state(new) == before
    write(new / "report.html", "never committed")
    assert take(new, mirror, OUTPUTS, OUTSIDE, cache(mirror, tmp_path / "old", make(tmp_path / "x", "new"))) == [
        "report.html"
    ]
    taken = state(new)
    assert [taken[name].split()[-1] for name in OUTPUTS] == ["old", "old", "committed"]
    assert [json.loads(taken[str(RECORDS / record(name))])[1] for name in OUTPUTS] == ["old", "old", "new"]
    assert json.loads(taken[str(RECORDS / record(TEMPORARY))])[1] == "old"
    times = [(new / name).stat().st_mtime for name in OUTPUTS]
    assert times == sorted(times, reverse=True)


def test_what_is_missing_comes_from_the_cache_and_not_from_a_damaged_mirror(tmp_path: Path) -> None:
    study, mirror = make(tmp_path / "study", "a"), tmp_path / "mirror"
    give(study, mirror, OUTPUTS, OUTSIDE)
    stored = cache(mirror)
    write(mirror / "finetune/weights", "damaged")
    for name in OUTPUTS:
        (study / name).unlink()
    write(study / INCOMPLETE / record("pretrain/weights"), "")
    (study / RECORDS / record(OUTSIDE[0])).unlink()
    assert take(study, mirror, OUTPUTS, OUTSIDE, stored) == []
    assert [name for name in OUTPUTS if (study / name).exists()] == ["pretrain/weights", "report.html"]
    assert not (study / INCOMPLETE / record("pretrain/weights")).exists()
    assert (study / RECORDS / record(OUTSIDE[0])).exists()


def test_a_file_that_dvc_protects_is_copied(tmp_path: Path) -> None:
    """A link would be the cache's own file, and Snakemake refuses to replace what is write-protected."""
    study, mirror = make(tmp_path / "study", "a"), tmp_path / "mirror"
    give(study, mirror, OUTPUTS, OUTSIDE)
    assert (study / "report.html").samefile(mirror / "report.html")
    (study / "report.html").unlink()
    (mirror / "report.html").chmod(0o444)
    take(study, mirror, OUTPUTS, OUTSIDE, cache(mirror))
    assert not (study / "report.html").samefile(mirror / "report.html")
    assert (study / "report.html").stat().st_mode & 0o200
