"""Certification of one classifier of several sigmas: the jobs of `certify`, with another spec.

Its thresholds may be chosen by validation images, anew in each job and of the same noise, so alike in all of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from transmooth.data.loader import open_split
from transmooth.evaluation import test_indices
from transmooth.evaluation.certify import finish, run_shard, to_certify
from transmooth.smoothing.decision import CHOICE, ESTIMATION, draw
from transmooth.smoothing.engine import Engine
from transmooth.smoothing.methods import Settings
from transmooth.smoothing.multi_sigma import choose
from transmooth.smoothing.sampler import Sampler
from transmooth.specs import MultiSigmaSpec

__all__ = ["finish", "run"]


def run(
    spec: MultiSigmaSpec,
    data: Path,
    checkpoint: Path,
    start: None,
    out: Path,
    shard: int,
    shards: int,
    batch: int | None,
) -> None:
    """Certify a shard of the test images, as `run_shard` does."""
    settle = partial(with_chosen_thresholds, spec, data) if spec.chosen_on else None
    run_shard(spec, data, checkpoint, out, shard, shards, batch, partial(to_certify, spec), settle=settle)


def with_chosen_thresholds(
    spec: MultiSigmaSpec, data: Path, settings: Settings, engines: Mapping[float, Engine]
) -> Settings:
    """Return the settings with the thresholds that certify most, by ACR, of evenly spaced validation images.

    n samples of each at each sigma are of noise that no certification draws.  See `multi_sigma.choose`.
    """
    validation = open_split(data, "validation")
    indices = test_indices(len(validation), spec.chosen_on or "all")
    every = np.full(len(indices), spec.n)
    seen = [
        draw(
            Sampler(engines[sigma], lambda index: validation[index][0], sigma, spec.seed),
            *(CHOICE + ESTIMATION, indices, 0 * every, every),
        )
        for sigma in spec.sigmas
    ]
    labels = validation.labels[indices]
    stages, _ = choose(np.stack(seen, 1), labels, spec.sigmas, spec.method, spec.alpha, whole=True)
    return replace(settings, stages=tuple(zip(stages.sigmas, stages.thresholds, strict=True)))
