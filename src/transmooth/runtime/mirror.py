"""What DVC versions of a study: a mirror of its outputs, in a folder that DVC may empty or replace at will.

`dvc exp run` checks every out out by force and removes what its cache lacks, so no out may hold the only copy of a
result.  Snakemake works beside the mirror: at its end `give` brings the mirror up to date, at its start `take` fetches
what DVC put there.  An output and Snakemake's record of what made it travel together.

`outputs` are the names of a study's files, inputs before what is made of them, each with the temporary files that it is
made of: these are gone, but Snakemake asks their records too.  `outside` are files that are not of the study, whose
records it has.  All names are relative to the study's folder.
"""

import filecmp
import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

RECORDS = Path(".snakemake/metadata")  # of the study's folder; the mirror has them in `metadata`
INCOMPLETE = Path(".snakemake/incomplete")  # a marker for each output whose job did not end, under the record's name
LONG_AGO = 1_000_000_000  # in 2001: before any input that does not come from the mirror


def record(name: str) -> Path:
    """The path below `metadata` at which Snakemake keeps the record of an output: base64, cut where it is too long."""
    code = urlsafe_b64encode(name.encode()).decode()
    parts = [code[at : at + 254] for at in range(0, len(code), 254)]
    return Path(*(f"@{part}" for part in parts[:-1]), parts[-1])


def give(study: Path, mirror: Path, outputs: Mapping[str, Sequence[str]], outside: Sequence[str]) -> None:
    """Make the mirror hold the outputs that are whole, their records and those of files outside, and nothing else."""
    whole = [name for name in outputs if _is_whole(study, name)]
    files = {mirror / name: study / name for name in whole}
    recorded = [*whole, *(name for output in whole for name in outputs[output]), *outside]
    records = {mirror / "metadata" / record(name): study / RECORDS / record(name) for name in recorded}
    records = {to: path for to, path in records.items() if path.is_file()}
    for to, path in files.items():
        if not _same(path, to):
            _link(path, to)
    for to, path in records.items():
        if not _same(path, to):
            _copy(path, to)  # Snakemake writes into its records: a link would change with them
    for path in sorted(mirror.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # not empty
                path.rmdir()
        elif path not in files.keys() | records.keys():
            path.unlink()


def take(
    study: Path,
    mirror: Path,
    outputs: Mapping[str, Sequence[str]],
    outside: Sequence[str],
    stored: Callable[[Path], bool],
) -> list[str]:
    """Fetch what DVC put into the mirror; return the outputs that stay as they are, though the mirror's differ.

    `stored` says whether DVC's cache has a file.  An output of the mirror is taken if the cache has it, where the
    study has none or one that the cache has too: whatever this replaces, `dvc checkout` can bring back.
    """
    stay, taken = [], False
    for name, temporary in outputs.items():
        ours = [study / name, study / RECORDS / record(name)]
        theirs = [mirror / name, mirror / "metadata" / record(name)]
        if not all(path.is_file() for path in theirs) or all(map(_same, ours, theirs)) or not all(map(stored, theirs)):
            continue
        if all(stored(path) for path in ours if path.exists()):
            _link(theirs[0], ours[0])
            _copy(theirs[1], ours[1])
            for part in temporary:
                if not (study / part).exists():
                    _take_record(study, mirror, part)
            (study / INCOMPLETE / record(name)).unlink(missing_ok=True)
            taken = True
        elif not _same(ours[0], theirs[0]):
            stay.append(name)
    for name in outside:
        if not (study / RECORDS / record(name)).exists():
            _take_record(study, mirror, name)
    if taken:
        _compare_by_content(study, outputs)
    return stay


def _take_record(study: Path, mirror: Path, name: str) -> None:
    theirs, ours = mirror / "metadata" / record(name), study / RECORDS / record(name)
    if theirs.is_file():
        _copy(theirs, ours)
    else:
        ours.unlink(missing_ok=True)


def _compare_by_content(study: Path, outputs: Iterable[str]) -> None:
    """Make each input newer than what is made of it: only then does Snakemake look whether its content is another."""
    for place, name in enumerate(outputs):
        if (study / name).exists():
            os.utime(study / name, (LONG_AGO - place, LONG_AGO - place))


def _is_whole(study: Path, name: str) -> bool:
    """Return whether its job came to an end, so that its record is about this file and not an earlier one."""
    made = (study / name).is_file() and (study / RECORDS / record(name)).is_file()
    return made and not (study / INCOMPLETE / record(name)).exists()


def _same(ours: Path, theirs: Path) -> bool:
    """Return whether both files are there and equal: by size and time, else by content, and then not again."""
    if not (ours.is_file() and theirs.is_file() and filecmp.cmp(ours, theirs)):
        return False
    if (time := ours.stat().st_mtime_ns) != theirs.stat().st_mtime_ns:
        os.utime(theirs, ns=(time, time))
    return True


def _link(path: Path, to: Path) -> None:
    """Give a file a second name, or copy it where the file system or a DVC that links into its cache forbids that."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    try:
        if not path.stat().st_mode & 0o200:
            raise PermissionError  # the cache's own file, which nothing but DVC may have in hand
        os.link(path, to)
    except OSError:
        _copy(path, to)


def _copy(path: Path, to: Path) -> None:
    """Copy a file with its times, by which `_same` knows it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    shutil.copyfile(path, to)
    shutil.copystat(path, to)
    to.chmod(0o644)
