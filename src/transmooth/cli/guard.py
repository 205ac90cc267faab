"""What a job does around its work: one writer for an output, and data that are still what they were."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from transmooth import files


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Keep an output for this job; of several processes, each has a lock of its own.  Raises files.InUseError."""
    rank = int(os.environ.get("RANK", 0))
    with files.locked(out.with_name(f"{out.name}.rank{rank}") if rank else out):
        yield


def verify(data: Path, splits: Collection[str] | None = None) -> None:
    """Compare a prepared set with its manifest, once on each machine; raises as `data.verify`."""
    from transmooth.data.prepare import verify

    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        verify(data, splits)
