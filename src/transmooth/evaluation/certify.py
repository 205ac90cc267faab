"""Certification: for each test image and sigma a class and a radius (see smoothing/).

One of a classifier of several sigmas, kind `multi_sigma`, has the same class and radius at each of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from transmooth.data.loader import Split, open_split
from transmooth.data.manifest import read_manifest
from transmooth.evaluation import test_indices
from transmooth.loading.denoisers import load_classifier
from transmooth.records import table as records
from transmooth.records.journal import Journal, Row, journaled
from transmooth.runtime.progress import telling
from transmooth.smoothing.chunks import certify_chunks
from transmooth.smoothing.engine import EXAMPLES, Engine, prepare_each
from transmooth.smoothing.methods import Settings, evaluations
from transmooth.specs import CertifySpec, MultiSigmaSpec, SamplewiseSpec

# (shard, rows that are finished, this process's share) → (sigma, image) pairs that are left to certify
Todo = Callable[["Shard", Sequence[Row], slice], Sequence[tuple[float, int]]]


@dataclass(frozen=True)
class Shard:
    """What a shard certifies with.

    indices: of its test images; every: of those of all shards.
    """

    settings: Settings
    engines: Mapping[float, Engine]
    test: Split
    indices: Sequence[int]
    every: Sequence[int]


def run(
    spec: CertifySpec,
    data: Path,
    checkpoint: Path,
    start: None,
    out: Path,
    shard: int,
    shards: int,
    batch: int | None,
) -> None:
    """Certify a shard of the test images at every sigma, as `run_shard` does."""
    run_shard(spec, data, checkpoint, out, shard, shards, batch, partial(to_certify, spec))


def to_certify(
    spec: CertifySpec | MultiSigmaSpec, given: Shard, finished: Sequence[Row], share: slice
) -> Sequence[tuple[float, int]]:
    """Return what is left of a shard at every sigma, this process's share."""
    return left(spec, given.indices, finished)[share]


def run_shard(
    spec: CertifySpec | MultiSigmaSpec | SamplewiseSpec,
    data: Path,
    checkpoint: Path,
    out: Path,
    shard: int,
    shards: int,
    batch: int | None,
    todo: Todo,
    choice: int | None = None,
    settle: Callable[[Settings, Mapping[float, Engine]], Settings] | None = None,
) -> None:
    """Certify a shard of the test images, over all processes that Accelerate started.

    todo: says which pairs.  choice: evaluations that chose the sigma of an image where it has one of its own, which
    its row counts, too; None where each image is certified at every sigma.  settle: changes how images are certified,
    by what the network answers.
    Images that the journals of an interrupted run hold are not certified again.
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
    each = len(spec.sigmas) * evaluations(settings) if choice is None else choice + evaluations(settings)
    with state.local_main_process_first():  # which times the network; the others read what it found
        some = test.batch(every[:EXAMPLES])[0]
        engines = prepare_each(network, some, spec.sigmas, len(every) * each, dtype=spec.dtype, batch=batch)
    if settle is not None:
        settings = settle(settings, engines)
    header = {"spec": spec.dump(), "model": sha256, "shard": shard, "shards": shards}
    sigmas = spec.sigmas if choice is None else None

    def write(done: Sequence[Row], made: Row) -> None:
        records.write(records.complete(records.from_rows(done, made), out, indices, sigmas), out)

    with journaled(state, out, header, write) as (journal, finished):
        started = time.perf_counter()
        given = Shard(settings, engines, test, indices, every)
        pairs = todo(given, finished, slice(state.process_index, None, state.num_processes))
        chosen = (choice, (time.perf_counter() - started) / max(len(pairs), 1)) if choice is not None else (0, 0.0)
        labels = [int(test.labels[index]) for _, index in pairs]

        def known(index: int) -> Row:
            return {"model": sha256}

        with telling() as show:
            total = len(answers(finished)) + len(pairs)
            show(answers(finished), total)
            for rows in certify(settings, engines, known, lambda i: test[i][0], pairs, labels, journal, chosen):
                show(answers(rows), total)


def finish(spec: CertifySpec | MultiSigmaSpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Join the shards of one run into its records; every test image exactly once at every sigma."""
    indices = test_indices(read_manifest(data)["counts"]["test"], spec.images)
    records.merge(parts, out, indices.tolist(), spec.sigmas)
    for part in parts:
        Journal(part, {}).remove()


def left(
    spec: CertifySpec | MultiSigmaSpec, indices: Sequence[int], finished: Sequence[Row]
) -> list[tuple[float, int]]:
    """Return the (sigma, image) pairs that a certification has still to do.

    Of several sigmas that an image is certified at together the first stands for all.
    """
    done = {(row["sigma"], row["index"]) for row in finished}
    groups = settings_of(spec).together(spec.sigmas)
    return [(group[0], index) for group in groups for index in indices if not done.issuperset(product(group, [index]))]


def certify(
    settings: Settings,
    engines: Mapping[float, Engine],
    known: Callable[[int], Row],
    fetch: Callable[[int], Tensor],
    todo: Sequence[tuple[float, int]],
    labels: Sequence[int],
    journal: Journal,
    chosen: tuple[int, float] = (0, 0.0),
) -> Iterator[Sequence[Row]]:
    """Certify (sigma, image) pairs, as of `left`, and yield their rows, each time after the journal has them.

    known: image → the columns of its rows that the certification does not give, such as the model.  fetch: image →
    float32 [3, H, W] in [0, 1].  labels: one for each pair.  chosen: evaluations and seconds of each pair that were
    spent before.
    """
    spent = dict(zip(("evaluations", "seconds"), chosen, strict=True))
    triples = [(sigma, index, label) for (sigma, index), label in zip(todo, labels, strict=True)]
    for rows in certify_chunks(engines, fetch, triples, settings):
        named = [{**row, **{k: row[k] + more for k, more in spent.items()}, **known(row["index"])} for row in rows]
        journal.append(named)
        yield named


def answers(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each answer: of a classifier of several sigmas that of its first stage."""
    return [row for row in rows if not row.get("stage")]


def settings_of(spec: CertifySpec | MultiSigmaSpec | SamplewiseSpec) -> Settings:
    """Return the part of a spec that certifiers read."""
    if isinstance(spec, MultiSigmaSpec):
        stages = tuple(zip(spec.sigmas, spec.thresholds or [0.0] * len(spec.sigmas), strict=True))
        return Settings(spec.method, spec.n0, spec.n, spec.alpha, spec.radii, spec.seed, stages=stages)
    return Settings(spec.method, spec.n0, spec.n, spec.alpha, spec.radii, spec.seed, spec.tolerance)
