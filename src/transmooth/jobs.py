"""The jobs of the workflow: each reads a spec and files, calls one library function, and writes files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def certify(spec: dict[str, Any], data: Path, checkpoint: Path, out: Path, shard: int, shards: int, batch: int) -> None:
    """Certify shard `shard` (from 0) of `shards` of the test images, over all processes that Accelerate started.

    Images that the journals of an interrupted run hold are not certified again.
    """
    import pyarrow as pa
    import torch
    from accelerate import PartialState

    from transmooth import checkpoint as checkpoints
    from transmooth import provenance, records
    from transmooth.certify.chunks import certify_chunks
    from transmooth.data import open_split

    state = PartialState(cpu=not torch.cuda.is_available())
    network, card = checkpoints.load(checkpoint)
    network.to(state.device)
    test = open_split(data, "test")
    if tuple(card["classes"]) != test.classes:
        raise SystemExit(f"{checkpoint}: its classes are not those of {data}")
    indices = test_indices(len(test), spec["images"])[shard::shards]
    header = {"spec": spec, "model": card["weights_sha256"], "shard": shard, "shards": shards}
    journal = records.Journal(out, header, state.process_index)
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = journal.finished()
    state.wait_for_everyone()  # every process has read the journals: now they may change
    if state.is_main_process:
        journal.restart(finished)
        journal.remove(but=journal.path)
    state.wait_for_everyone()
    if not state.is_main_process:
        journal.restart([])
    done = {(row["sigma"], row["index"]) for row in finished}
    wanted = [(sigma, index) for sigma in spec["sigmas"] for index in indices.tolist()]
    todo = [pair for pair in wanted if pair not in done][state.process_index :: state.num_processes]
    triples = [(sigma, index, int(test.labels[index])) for sigma, index in todo]
    for rows in certify_chunks(network, lambda index: test[index][0], triples, spec, batch):
        journal.append([row | {"model": card["weights_sha256"]} for row in rows])
    state.wait_for_everyone()
    if state.is_main_process:
        table = pa.Table.from_pylist(journal.finished(), records.SCHEMA)
        if table.num_rows != len(wanted):
            raise SystemExit(f"{out}: {table.num_rows} rows for {len(wanted)} images and sigmas")
        made = {"spec": spec, "versions": provenance.versions(), "commit": provenance.commit()}
        table = table.replace_schema_metadata({"transmooth": json.dumps(made, sort_keys=True)})
        records.write(table, out)
        journal.remove()
    state.wait_for_everyone()


def merge(spec: dict[str, Any], data: Path, parts: list[Path], out: Path) -> None:
    """Join the shards of one run into its records; every test image exactly once at every sigma."""
    from transmooth import records
    from transmooth.data import read_manifest

    indices = test_indices(read_manifest(data)["counts"]["test"], spec["images"])
    records.merge(parts, out, indices.tolist(), spec["sigmas"])


def test_indices(total: int, images: int | str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`all`, or that many evenly spaced positions of the test split: the same for every network, so rows compare."""
    count = total if images == "all" else min(int(images), total)
    return np.arange(count, dtype=np.int64) * total // count


def threads_per_process() -> None:
    """Use the cores that the scheduler gave to this job, not all of the machine."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
