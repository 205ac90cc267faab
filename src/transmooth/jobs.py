"""The jobs of the workflow: each reads a spec and files, calls one library function, and writes files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transmooth.loading.images import ImageSet
    from transmooth.loading.models import LoadedModel


def certify(spec: dict[str, Any], data: Path, checkpoint: Path, out: Path, shard: int, shards: int, batch: int) -> None:
    """Certify shard `shard` (from 0) of `shards` of the test images, over all processes that Accelerate started.

    Images that the journals of an interrupted run hold are not certified again, nor those of a finished one by the same
    sources. The journals stay until `merge`.
    """
    import torch
    from accelerate import PartialState

    from transmooth import provenance
    from transmooth.checkpoint import weights
    from transmooth.data import open_split
    from transmooth.records import table as records
    from transmooth.records.journal import Journal
    from transmooth.smoothing.chunks import certify_chunks

    state = PartialState(cpu=not torch.cuda.is_available())
    network, card = weights.load(checkpoint)
    network.to(state.device)
    test = open_split(data, "test")
    if tuple(card["classes"]) != test.classes:
        raise SystemExit(f"{checkpoint}: its classes are not those of {data}")
    indices = test_indices(len(test), spec["images"])[shard::shards]
    header = {"spec": spec, "model": card["weights_sha256"], "shard": shard, "shards": shards}
    complete = Journal(out, header | {"sources": provenance.sources()})
    with Journal(out, header, state.process_index) as journal:
        finished = complete.finished() or journal.finished()
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
            made = {"spec": spec, "versions": provenance.versions(), "commit": provenance.commit()}
            rows = journal.finished()
            records.write(records.complete(records.from_rows(rows, made), out, indices.tolist(), spec["sigmas"]), out)
            # Kept until the shards are merged: Snakemake removes the output of a job that was killed before it could
            # tell that it is done.
            complete.restart(rows)
            journal.remove(but=complete.path)
        state.wait_for_everyone()


def certify_anything(
    spec: dict[str, Any],
    model: "LoadedModel",
    images: "ImageSet",
    out: Path,
    batch: int,
    progress: Callable[[list[dict[str, Any]], int], None],
) -> list[str]:
    """Certify images of a set by anyone's model, in this process, and write records (.parquet) or a log (.tsv).

    spec: as of the job, for one sigma. An interrupted call goes on where it was; a finished one has nothing left to do.
    progress: called with the rows that are new, and the number of all; at the start with those of an earlier call.
    Returns what one should know of the radii and a log cannot say: nothing for records, which say it.
    Raises ValueError before any work, for settings, model and images that do not fit, and for an `out` of another job.
    """
    import torch

    from transmooth import provenance
    from transmooth.loading.models import check_classes
    from transmooth.records import logs
    from transmooth.records import table as records
    from transmooth.records.journal import Journal
    from transmooth.smoothing.chunks import certify_chunks
    from transmooth.smoothing.methods import check
    from transmooth.smoothing.smoothed import check_model

    if out.suffix not in (".parquet", ".tsv"):
        raise ValueError(f"{out}: should end in .parquet (records) or .tsv (log)")
    (sigma,) = spec["sigmas"]
    check(spec, sigma)
    network = model.module.to("cuda" if torch.cuda.is_available() else "cpu")
    check_classes(model, check_model(network, images.fetch(0)), images)
    header = {"spec": spec, "model": model.identity, "data": images.identity}
    indices = test_indices(len(images), spec["images"]).tolist()
    with Journal(out, header) as journal:
        if out.exists():
            if out.suffix == ".tsv":
                raise ValueError(f"{out}: is there already; remove it or choose another name")
            _same_job(records.metadata(out), header, out)
            progress(records.read(out).to_pylist(), len(indices))
            return []
        if other := journal.foreign():
            _same_job(other, header, journal.path)
        finished = journal.finished()
        journal.restart(finished)  # without a line that was torn
        progress(finished, len(indices))
        done = {row["index"] for row in finished}
        todo = [(sigma, index, int(images.labels[index])) for index in indices if index not in done]
        for rows in certify_chunks(network, images.fetch, todo, spec, batch):
            named = [row | {"model": model.sha256} for row in rows]
            journal.append(named)
            progress(named, len(indices))
        made = header | {"versions": provenance.versions(), "commit": provenance.commit()}
        table = records.complete(records.from_rows(journal.finished(), made), out, indices, [sigma])
        if out.suffix == ".tsv":
            frame = table.to_pandas().sort_values("index")
            logs.write(frame, out)
            unsaid = logs.export_notes(frame, made)
        else:
            records.write(table, out)
            unsaid = []
        journal.remove()
    return unsaid


def _same_job(found: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError, naming what differs, unless the file at `path` is of the job that is asked for."""
    there, ours = (
        dict(job.get("spec", {}))
        | {f"{part}.{key}": value for part in ("model", "data") for key, value in dict(job.get(part) or {}).items()}
        for job in (found, asked)
    )
    if differing := sorted(key for key in there.keys() | ours.keys() if there.get(key) != ours.get(key)):
        shown = "; ".join(f"{key}: {there.get(key)} there, {ours.get(key)} asked for" for key in differing)
        raise ValueError(f"{path}: is of another job ({shown}); remove it or choose another --out")


def merge(spec: dict[str, Any], data: Path, parts: list[Path], out: Path) -> None:
    """Join the shards of one run into its records; every test image exactly once at every sigma."""
    from transmooth.data import read_manifest
    from transmooth.records import table as records
    from transmooth.records.journal import Journal

    indices = test_indices(read_manifest(data)["counts"]["test"], spec["images"])
    records.merge(parts, out, indices.tolist(), spec["sigmas"])
    for part in parts:
        Journal(part, {}).remove()


def test_indices(total: int, images: int | str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`all`, or that many evenly spaced positions of the test split: the same for every network, so rows compare."""
    count = total if images == "all" else min(int(images), total)
    return np.arange(count, dtype=np.int64) * total // count
