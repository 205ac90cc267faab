"""Certification: for each test image and sigma a class and a radius (see smoothing/)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transmooth import provenance
from transmooth.data.loader import open_split
from transmooth.data.manifest import read_manifest
from transmooth.evaluation import test_indices
from transmooth.loading.denoisers import load_classifier
from transmooth.records import table as records
from transmooth.records.journal import Journal
from transmooth.runtime.progress import telling
from transmooth.smoothing.chunks import certify_chunks
from transmooth.smoothing.engine import EXAMPLES, Engine, prepare_each
from transmooth.smoothing.methods import Settings, evaluations
from transmooth.specs import CertifySpec

Row = Mapping[str, Any]


def run(
    spec: CertifySpec, data: Path, checkpoint: Path, start: None, out: Path, shard: int, shards: int, batch: int | None
) -> None:
    """Certify a shard of the test images, over all processes that Accelerate started.

    Images that the journals of an interrupted run hold are not certified again, nor those of a finished one by the same
    sources.  The journals stay until `finish`.
    """
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    network, card, sha256 = load_classifier(checkpoint)
    network.to(state.device)
    test = open_split(data, "test")
    if tuple(card["classes"]) != test.classes:
        raise SystemExit(f"{checkpoint}: its classes are not those of {data}")
    every = test_indices(len(test), spec.images).tolist()
    indices = every[shard::shards]
    settings = settings_of(spec)
    planned = len(every) * len(spec.sigmas) * evaluations(settings)
    with state.local_main_process_first():  # which times the network; the others read what it found
        some = test.batch(every[:EXAMPLES])[0]
        engines = prepare_each(network, some, spec.sigmas, planned, dtype=spec.dtype, batch=batch)
    header = {"spec": spec.dump(), "model": sha256, "shard": shard, "shards": shards}
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
        todo = left(spec, indices, finished)[state.process_index :: state.num_processes]
        labels = [int(test.labels[index]) for _, index in todo]
        with telling() as show:
            show(finished, len(finished) + len(todo))
            for rows in certify(
                settings, engines, lambda i: {"model": sha256}, lambda i: test[i][0], todo, labels, journal
            ):
                show(rows, len(finished) + len(todo))
        state.wait_for_everyone()
        if state.is_main_process:
            done = journal.finished()
            made = {"spec": spec.dump(), "versions": provenance.versions(), "commit": provenance.commit()}
            records.write(records.complete(records.from_rows(done, made), out, indices, spec.sigmas), out)
            # Kept until the shards are joined: Snakemake removes the output of a job that was killed before it could
            # tell that it is done.
            complete.restart(done)
            journal.remove(but=complete.path)
        state.wait_for_everyone()


def finish(spec: CertifySpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Join the shards of one run into its records; every test image exactly once at every sigma."""
    indices = test_indices(read_manifest(data)["counts"]["test"], spec.images)
    records.merge(parts, out, indices.tolist(), spec.sigmas)
    for part in parts:
        Journal(part, {}).remove()


def left(spec: CertifySpec, indices: Sequence[int], finished: Sequence[Row]) -> list[tuple[float, int]]:
    """Return the (sigma, image) pairs that a certification has still to do."""
    done = {(row["sigma"], row["index"]) for row in finished}
    return [pair for pair in ((sigma, index) for sigma in spec.sigmas for index in indices) if pair not in done]


def certify(
    settings: Settings,
    engines: Mapping[float, Engine],
    known: Callable[[int], Row],
    fetch: Callable[[int], Tensor],
    todo: Sequence[tuple[float, int]],
    labels: Sequence[int],
    journal: Journal,
) -> Iterator[Sequence[Row]]:
    """Certify (sigma, image) pairs and yield their rows, each time after the journal has them.

    known: image → the columns of its rows that the certification does not give, such as the model.  fetch: image →
    float32 [3, H, W] in [0, 1].  labels: one for each pair.
    """
    triples = [(sigma, index, label) for (sigma, index), label in zip(todo, labels, strict=True)]
    for rows in certify_chunks(engines, fetch, triples, settings):
        named = [{**row, **known(row["index"])} for row in rows]
        journal.append(named)
        yield named


def settings_of(spec: CertifySpec) -> Settings:
    """Return the part of a spec that certifiers read."""
    return Settings(spec.method, spec.n0, spec.n, spec.alpha, spec.radii, spec.seed, spec.tolerance)
