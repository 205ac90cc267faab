"""The journal of a job: JSON lines, each with its CRC-32, so that a kill loses at most the images it was on."""

import glob
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from transmooth import files, provenance

Row = Mapping[str, Any]


class Journal:
    """The rows that one process has finished, of a job whose `header` says what they are rows of.

    `with journal:` keeps it for this process: two runs of one job would spoil each other's work.  Entering raises
    files.InUseError where another process has it and does not end soon.
    """

    def __init__(self, out: Path, header: Row, rank: int = 0) -> None:
        self.path = out.with_name(f"{out.name}.rank{rank}.journal")
        self.header = json.dumps(header, sort_keys=True)
        self.out = out
        self.lock = files.locked(out if rank == 0 else self.path)

    def __enter__(self) -> Self:
        self.lock.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.__exit__(None, None, None)

    def finished(self) -> list[dict[str, Any]]:
        """The rows of all processes' journals with this header, each image and sigma once (None is one, too).

        Lines that were torn or damaged, and journals of another header, are left out.
        """
        rows: dict[tuple[float | None, int], dict[str, Any]] = {}
        for path in self._paths():
            header, *lines = _lines(path)
            if header == self.header:
                if damaged := lines.count(None):
                    message = f"{path}: {damaged} of {len(lines)} lines are damaged: their images are done again"
                    print(message, file=sys.stderr)
                for row in map(json.loads, filter(None, lines)):
                    # Who was killed while it restarted left rows in two journals: they are equal.
                    rows[row["sigma"], row["index"]] = row
        return list(rows.values())

    def foreign(self) -> dict[str, Any] | None:
        """The header of a journal that another job left under this name, if there is one that can be read."""
        headers = [next(_lines(path)) for path in self._paths()]
        return next((json.loads(header) for header in headers if header not in (None, self.header)), None)

    def restart(self, rows: Iterable[Row]) -> None:
        """Begin this process's journal anew with these rows."""
        files.write_bytes(self.path, b"".join(_line(text) for text in (self.header, *map(json.dumps, rows))))

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows and see them on the disk."""
        with files.naming(self.path), self.path.open("ab") as file:
            file.writelines(_line(json.dumps(row)) for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, but: Path | None = None) -> None:
        """Remove the journals of all processes, but for one."""
        for path in self._paths():
            if path != but:
                path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{glob.escape(self.out.name)}.rank*.journal"))


@contextmanager
def journaled(
    state: Any, out: Path, header: Row, write: Callable[[Sequence[Row], Row], None]
) -> Iterator[tuple[Journal, list[dict[str, Any]]]]:
    """Give the journal of this process of a shard's job, and the rows that an interrupted run has finished.

    So has a run that finished by the same sources.  After the block the main process calls write(rows, made) with the
    rows of all processes and what they were made with; the journals stay until `finish`.
    state: Accelerate's PartialState.  header: of the journals, with the job's `spec`.
    """
    complete = Journal(out, {**header, "sources": provenance.sources()})
    with Journal(out, header, state.process_index) as journal:
        finished = complete.finished() or journal.finished()
        state.wait_for_everyone()  # every process has read the journals: now they may change
        if state.is_main_process:
            journal.restart(finished)
            journal.remove(but=journal.path)
        state.wait_for_everyone()
        if not state.is_main_process:
            journal.restart([])
        yield journal, finished
        state.wait_for_everyone()
        if state.is_main_process:
            done = journal.finished()
            write(done, {"spec": header["spec"], "versions": provenance.versions(), "commit": provenance.commit()})
            # Kept until the shards are joined: Snakemake removes the output of a job that was killed before it could
            # tell that it is done.
            complete.restart(done)
            journal.remove(but=complete.path)
        state.wait_for_everyone()


def _line(text: str) -> bytes:
    """A line of a journal: its CRC-32 in hex, a space, the text."""
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _lines(path: Path) -> Iterator[str | None]:
    """The text of each line of a journal, its header first; None for one that is torn or damaged."""
    for line in path.read_bytes().split(b"\n")[:-1] or [b""]:
        checksum, _, text = line.partition(b" ")
        yield text.decode() if checksum == b"%08x" % zlib.crc32(text) else None
