"""The lookup: each test image has a radius without any noise, which puts transductive certificates in their place.

    h(z) = f(x_i),   x_i the test image nearest to z

is frozen before any query, too.  Let d be the distance from x_i to the nearest test image that f puts into another
class.  Whatever f is, h is constant within d/2 of x_i: no image of another class is nearer to such a point z.  So test
images that are far apart suffice, and a robust network is not needed.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from transmooth import provenance
from transmooth.checkpoint import weights
from transmooth.data.loader import open_split, to_device
from transmooth.data.manifest import read_manifest
from transmooth.evaluation import test_indices
from transmooth.records import table as records
from transmooth.smoothing.bounds import within
from transmooth.smoothing.regions import room
from transmooth.specs import LookupSpec

FINISH_READS = ("test",)
BATCH = 256


def run(
    spec: LookupSpec, data: Path, checkpoint: Path, start: None, out: Path, shard: int, shards: int, batch: int | None
) -> None:
    """Classify a shard of the test images, without noise and without a denoiser; the first process does it."""
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    if not state.is_main_process:
        return
    network, card = weights.load(checkpoint)
    network.to(state.device)
    test = open_split(data, "test")
    if tuple(card["classes"]) != test.classes:
        raise SystemExit(f"{checkpoint}: its classes are not those of {data}")
    indices, rows = test_indices(len(test), spec.images)[shard::shards], []
    started = time.perf_counter()
    for first in range(0, len(indices), batch or BATCH):
        some = indices[first : first + (batch or BATCH)]
        images, labels = test.batch(some)
        with torch.inference_mode():
            classes = network(to_device(images, state.device)).argmax(1).tolist()
        rows += [
            {"index": index, "label": label, "prediction": found, "selected": found, "radius": 0.0}
            for index, label, found in zip(some.tolist(), labels.tolist(), classes, strict=True)
        ]
    common = {"method": records.LOOKUP, "n0": 0, "n": 0, "evaluations": 1, "dtype": "fp32", "engine": "eager"}
    common |= {"model": card["weights_sha256"], "batch": batch or BATCH}
    common |= {"seconds": (time.perf_counter() - started) / max(len(rows), 1)}
    made = {"spec": spec.dump(), "versions": provenance.versions(), "commit": provenance.commit()}
    records.write(records.from_rows([row | common for row in rows], made), out)


def finish(spec: LookupSpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Write the records of all test images, each with half the distance to the nearest of another class.

    No query in [0, 1] is farther from an image than the diagonal: that is the radius where all are of one class.
    """
    indices = test_indices(read_manifest(data)["counts"]["test"], spec.images)
    table = records.joined(parts, out, indices.tolist(), None).sort_by("index")
    images = open_split(data, "test").squares(indices)
    region = room(images, table["prediction"].to_numpy(), np.sqrt(images[0].size))
    records.write(records.with_columns(table, {"region": region, "radius": within(np.inf, region)}), out)
