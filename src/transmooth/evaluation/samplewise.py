"""Sample-wise smoothing: each test image certified at a σ of its own, which the ball around it has alone.

What is certified is one classifier, frozen around the test images: it is transductive (docs/statistics.md).  A shard
chooses σ of its images, by their noisy predictions and without their labels, and certifies them there; `finish`, which
has all images, allocates the balls, in any order, and cuts radii to what these leave.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transmooth.data.loader import open_split
from transmooth.data.manifest import read_manifest
from transmooth.evaluation import certify, test_indices
from transmooth.records import table as records
from transmooth.records.journal import Journal, Row
from transmooth.smoothing.bounds import Floats, Ints, max_radius, within
from transmooth.smoothing.choice import choose
from transmooth.smoothing.decision import ABSTAIN
from transmooth.smoothing.regions import Allocation, allocate, one_sigma_for_near, same_pixels
from transmooth.smoothing.sampler import Sampler
from transmooth.specs import SamplewiseSpec

FINISH_READS = ("test",)


def run(
    spec: SamplewiseSpec,
    data: Path,
    checkpoint: Path,
    start: None,
    out: Path,
    shard: int,
    shards: int,
    batch: int | None,
) -> None:
    """Certify a shard of the test images, each at its own sigma, as `certify.run_shard` does.

    The radii are those of smoothing; `finish` cuts them.  A run that goes on chooses again for images that were not
    certified yet: n0 evaluations at each sigma, always of the same noise.
    """

    def todo(given: certify.Shard, finished: Sequence[Row], share: slice) -> Sequence[tuple[float, int]]:
        done = {row["index"] for row in finished}
        mine = [index for index in given.indices if index not in done][share]
        return sorted(zip(own_sigmas(spec, given, np.array(mine, np.int64)).tolist(), mine, strict=True))

    certify.run_shard(spec, data, checkpoint, out, shard, shards, batch, todo, choice=len(spec.sigmas) * spec.n0)


def own_sigmas(spec: SamplewiseSpec, given: certify.Shard, images: Ints) -> Floats:
    """Return σ of test images, float64 [N]: the smallest of those chosen for it and for the images equal to it.

    Also for equal images of other shards, so that whatever the shards are, equal images have one σ.
    """
    every = np.array(given.every, np.int64)
    group = same_pixels(given.test.squares(every))
    asked = every[np.isin(group, group[np.isin(every, images)])]
    counts = {
        sigma: Sampler(engine, lambda index: given.test[index][0], sigma, spec.seed)
        for sigma, engine in given.engines.items()
    }
    chosen = one_sigma_for_near(given.test.squares(asked), choose(counts, asked, spec.n0, spec.alpha))
    return chosen[np.searchsorted(asked, images)]


def finish(spec: SamplewiseSpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Allocate the regions of all test images, and write their records with what the regions leave of the radii.

    Raises RecordError, naming `out`, for shards that do not make up the whole, or certified equal images apart.
    """
    indices = test_indices(read_manifest(data)["counts"]["test"], spec.images)
    table = records.joined(parts, out, indices.tolist(), None).sort_by("index")
    sigmas = table["sigma"].to_numpy()
    reach = float(max_radius(spec.n, spec.alpha, 1.0))
    allocation = allocate(open_split(data, "test").squares(indices), sigmas, reach)
    if (apart := allocation.sigmas != sigmas).any():
        image = table["index"][int(apart.argmax())]
        raise records.RecordError(
            f"{out}: image {image} should have the sigma of the images equal to it, found {sigmas[apart][0]}; its "
            "shards were made on machines that differ: remove them, and the same command redoes them"
        )
    radius = within(table["radius"].to_numpy(), allocation.regions)
    columns = {
        "smoothed_radius": table["radius"].to_numpy(),
        "region": allocation.regions,
        "radius": radius,
        "prediction": np.where(radius > 0, table["prediction"].to_numpy(), ABSTAIN),
        "allocation": [allocation.sha256] * len(table),
    }
    records.write(records.with_columns(table, columns), out)
    for part in parts:
        Journal(part, {}).remove()


def read_allocation(path: Path, data: Path) -> Allocation:
    """Return the regions of a study's records `path`, whose test images are those of the prepared set `data`.

    Raises RecordError for records without regions, or of other images: their hash has the pixels, too.
    """
    table = records.read(path).sort_by("index")
    if table["allocation"].null_count or not len(table) or table["sigma"].null_count:
        raise records.RecordError(f"{path}: has no allocation: should be records of an evaluation of kind samplewise")
    test, indices = open_split(data, "test"), table["index"].to_numpy()
    if indices.max() >= len(test):
        raise records.RecordError(f"{path}: is of test image {indices.max()}, {data} has {len(test)}")
    sigmas, regions = (table[name].to_numpy() for name in ("sigma", "region"))
    allocation = Allocation(test.squares(indices), sigmas, regions)
    if allocation.sha256 != (named := table["allocation"][0].as_py()):
        raise records.RecordError(f"{path}: its allocation, {named}, is not of the test images of {data}")
    return allocation
