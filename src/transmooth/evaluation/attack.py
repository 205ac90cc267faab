"""Attack of the base classifier: for each test image, whether a point near it is answered wrongly (see attacks/).

A batch is cut from the test images by position, attacked by one process and, after a kill, as a whole again: so records
depend neither on shards nor on processes nor on where a run was interrupted.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from transmooth.attacks.robust import Settings, attack_batches, base_target, cut, left
from transmooth.data.loader import open_split
from transmooth.data.manifest import read_manifest
from transmooth.evaluation import test_indices
from transmooth.loading.denoisers import load_classifier
from transmooth.records import attacked
from transmooth.records.journal import Journal, Row, journaled
from transmooth.runtime.progress import telling
from transmooth.specs import AttackSpec


def run(
    spec: AttackSpec, data: Path, checkpoint: Path, start: None, out: Path, shard: int, shards: int, batch: int | None
) -> None:
    """Attack a shard of the test images, whole batches of the spec, over all processes that Accelerate started.

    Behind a denoiser it is the classifier alone that is attacked, as it is for clean accuracy.  Batches that the
    journals of an interrupted run hold are not attacked again.
    """
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    network, card, sha256 = load_classifier(checkpoint)
    network.to(state.device)
    test = open_split(data, "test")
    if tuple(card["classes"]) != test.classes:
        raise SystemExit(f"{checkpoint}: its classes are not those of {data}")
    batches = cut(test_indices(len(test), spec.images).tolist(), spec.batch)[shard::shards]
    labels = {index: int(test.labels[index]) for each in batches for index in each}
    header = {"spec": spec.dump(), "model": sha256, "shard": shard, "shards": shards}

    def write(done: Sequence[Row], made: Row) -> None:
        attacked.write(attacked.complete(attacked.from_rows(done, made), out, labels), out)

    with journaled(state, out, header, write) as (journal, finished):
        todo = left(batches, finished)[state.process_index :: state.num_processes]
        total = len(finished) + sum(map(len, todo))
        with telling(good="robust") as show:
            show(finished, total)
            for rows in attack_batches(base_target(network), lambda i: test[i][0], labels, todo, settings_of(spec)):
                named = [row | {"model": sha256} for row in rows]
                journal.append(named)
                show(named, total)


def finish(spec: AttackSpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Join the shards of one run into its records; every test image exactly once."""
    indices = test_indices(read_manifest(data)["counts"]["test"], spec.images)
    attacked.merge(parts, out, indices.tolist())
    for part in parts:
        Journal(part, {}).remove()


def settings_of(spec: AttackSpec) -> Settings:
    """Return the part of a spec that attacks read."""
    return Settings(spec.norm, spec.epsilon, spec.steps, spec.losses, spec.restarts, spec.batch, spec.seed)
