"""What looks at a trained run, one file a kind.  The file's name is the registry: an evaluation's `kind` names it.

    run(spec, data, checkpoint, start, out, shard, shards, batch)   one shard of the test images → records, `out`
    finish(spec, data, parts, out)                                  all shards → the records of the evaluation, `out`

data: a prepared dataset; checkpoint: of the run; start: of the run without its last stage, for kinds that compare the
two; shard counts from 0; batch: images in one forward pass where records do not depend on it, None where the job
chooses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from transmooth import provenance
from transmooth.records.journal import Journal

Row = Mapping[str, Any]


def load_evaluation(kind: str) -> Any:
    """Return the module `evaluation/<kind>.py`."""
    return import_module(f"transmooth.evaluation.{kind}")


def test_indices(total: int, images: int | str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the positions of all test images, or `images` evenly spaced ones: the same for every network."""
    count = total if images == "all" else min(int(images), total)
    return np.arange(count, dtype=np.int64) * total // count


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
