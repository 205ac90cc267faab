"""Certification records: what was observed, one row per image and sigma, from which every number is derived.

    index        position in the test split              method       how radius follows from the counts
    label        right class                             n0, n        selection and estimation samples
    prediction   certified class, -1 for abstain         top_count    estimation samples of class `selected`
    radius       certified l2 radius, 0 for abstain      alpha        failure probability of this row
    selected     class chosen by the selection samples   evaluations  forward passes spent on this row
    sigma        standard deviation of the noise         seed, dtype  of the noise, of the network
    seconds      time spent on this row                  model        SHA-256 of the weights

A label that nobody knows, and what an imported log does not tell, is null.

Files are Parquet; their metadata hold the spec, the versions and the commit.  While a job runs, each process keeps a
journal (JSON lines), so that a killed job loses at most the images it was on.
"""

import fcntl
import glob
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from transmooth import files

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("label", pa.int64()),
        ("prediction", pa.int64()),
        ("radius", pa.float64()),
        ("selected", pa.int64()),
        ("method", pa.string()),
        ("sigma", pa.float64()),
        ("alpha", pa.float64()),
        ("n0", pa.int64()),
        ("n", pa.int64()),
        ("top_count", pa.int64()),
        ("evaluations", pa.int64()),
        ("seed", pa.int64()),
        ("dtype", pa.string()),
        ("model", pa.string()),
        ("seconds", pa.float64()),
    ]
)


class RecordError(ValueError):
    """Records that are damaged, incomplete, doubled or of different models.  The message names the file."""


def read(path: Path) -> pa.Table:
    """Read one file of records; `.to_pandas()` makes it a DataFrame.  Raises RecordError if it is not one."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise RecordError(f"{path}: not a readable Parquet file: {error}") from None
    if missing := set(SCHEMA.names) - set(table.schema.names):
        raise RecordError(f"{path}: not records: the columns {', '.join(sorted(missing))} are missing")
    return table.select(SCHEMA.names).cast(SCHEMA.with_metadata(table.schema.metadata))


def write(table: pa.Table, path: Path) -> None:
    """Write records, sorted by sigma and index.  Raises RecordError if an image is there twice at one sigma."""
    table = table.sort_by([("sigma", "ascending"), ("index", "ascending")])
    keys = list(zip(table["sigma"].to_pylist(), table["index"].to_pylist(), strict=True))
    if doubled := [key for key, following in pairwise(keys) if key == following]:
        raise RecordError(f"{path}: image {doubled[0][1]} is there twice at sigma = {doubled[0][0]}")
    if len(models := table["model"].unique().to_pylist()) > 1:
        raise RecordError(f"{path}: records of {len(models)} models: {', '.join(models)}")
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary)


def made_with(path: Path) -> dict[str, Any]:
    """What the file says it was made with: the spec, the versions, the commit; empty if it does not say."""
    text = (pq.read_schema(path).metadata or {}).get(b"transmooth", b"{}")
    made: dict[str, Any] = json.loads(text)
    return made


def from_rows(rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> pa.Table:
    """Rows as a table that says what it was made with."""
    table = pa.Table.from_pylist(list(rows), SCHEMA)
    return table.replace_schema_metadata({"transmooth": json.dumps(made, sort_keys=True)})


def merge(parts: Sequence[Path], out: Path, indices: Iterable[int], sigmas: Iterable[float]) -> None:
    """Join shards.

    Raises RecordError unless they are of one spec, with every image exactly once at every sigma, and nothing else.
    """
    tables = [read(part) for part in parts]
    specs = [made_with(part).get("spec") for part in parts]
    if other := next((part for part, spec in zip(parts, specs, strict=True) if spec != specs[0]), None):
        raise RecordError(f"{other}: certified by another spec than {parts[0]}")
    table = pa.concat_tables(tables)
    write(complete(table, out, indices, sigmas), out)


def complete(table: pa.Table, path: Path, indices: Iterable[int], sigmas: Iterable[float]) -> pa.Table:
    """The table itself.  Raises RecordError, naming `path`, if an image is missing at a sigma or was not asked for."""
    expected = set(product(sigmas, indices))
    found = set(zip(table["sigma"].to_pylist(), table["index"].to_pylist(), strict=True))
    if found != expected:
        lost, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise RecordError(f"{path}: (sigma, image) pairs lost: {lost or 'none'}; not asked for: {extra or 'none'}")
    return table


class Journal:
    """The rows that one process has finished, of a job whose `header` says what they are rows of.

    `with journal:` keeps it for this process: two runs of one job would spoil each other's work.  Entering raises
    RecordError where another process has it; the system lets go of it when a process ends, however that happens.
    """

    def __init__(self, out: Path, header: Mapping[str, Any], rank: int = 0) -> None:
        self.path = out.with_name(f"{out.name}.rank{rank}.journal")
        self.header = json.dumps(header, sort_keys=True)
        self.out = out

    def __enter__(self) -> Self:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the journal, which is replaced.
        self.lock = self.path.with_name(f".{self.path.name}.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.lock.close()
            raise RecordError(f"{self.out}: another process is at work on it; wait for it or stop it") from None
        return self

    def __exit__(self, *error: object) -> None:
        Path(self.lock.name).unlink(missing_ok=True)
        self.lock.close()

    def finished(self) -> list[dict[str, Any]]:
        """The rows of all processes' journals with this header, each image and sigma once.

        A torn last line and other headers are left out.  Raises RecordError for a line that is damaged.
        """
        rows: dict[tuple[float, int], dict[str, Any]] = {}
        for path in self._paths():
            header, *lines = path.read_text(encoding="utf-8").split("\n")
            if header == self.header:
                for number, line in enumerate(lines[:-1], 2):  # what follows the last newline is torn, or nothing
                    try:
                        row = json.loads(line)
                        # Who was killed while it restarted left rows in two journals: they are equal.
                        rows[row["sigma"], row["index"]] = row
                    except (ValueError, KeyError, TypeError):
                        raise RecordError(f"{path}: line {number} is damaged; remove the file to start anew") from None
        return list(rows.values())

    def foreign(self) -> dict[str, Any] | None:
        """The header of a journal that another job left under this name, if there is one."""
        headers = [path.read_text(encoding="utf-8").split("\n")[0] for path in self._paths()]
        return next((_header(header) for header in headers if header != self.header), None)

    def restart(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Begin this process's journal anew with these rows."""
        files.write_text(self.path, "".join(f"{line}\n" for line in (self.header, *map(json.dumps, rows))))

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows and see them on the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, but: Path | None = None) -> None:
        """Remove the journals of all processes, but for one."""
        for path in self._paths():
            if path != but:
                path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{glob.escape(self.out.name)}.rank*.journal"))


def _header(text: str) -> dict[str, Any]:
    """What a journal says that it is of; nothing if it was torn before it could."""
    try:
        header = json.loads(text)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
