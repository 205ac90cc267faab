"""Feature shift: how far normalised features move from what a run starts from to the run (Qiu et al., Table 2).

A normalisation layer hands on x' = (x − E) / √V, before its weight and bias.  Batch norm took E and V of the noisy
mixture in pretraining and takes those of clean images in finetuning, so x' moves although no weight does; instance,
group and layer norm take both from the image itself and stay.  The paper argues this; here it is measured, by layer:

    shift = mean ‖x'_after − x'_before‖² / mean ‖x'_before‖²      over test images, clean or with noise of one sigma

    statistics   before: the start; after: the same weights, batch norm's E and V from clean images
    finetuning   before: the start; after: the run
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth import provenance
from transmooth.checkpoint import weights
from transmooth.data.loader import Split, open_split
from transmooth.models.build import Network
from transmooth.noise import add_noise, training_key
from transmooth.records import table as records
from transmooth.specs import ShiftSpec

BATCH = 128


def run(
    spec: ShiftSpec, data: Path, checkpoint: Path, start: Path, out: Path, shard: int, shards: int, batch: int | None
) -> None:
    """Measure the shift from the checkpoint `start` to `checkpoint` and write it; there is one shard."""
    before, _ = weights.load_network(start)
    after, card = weights.load(checkpoint)
    train, test = open_split(data, "train"), open_split(data, "test")
    frame = measure(before, after, train, test, spec.sigmas, spec.images, spec.run.seed)
    made = {"spec": spec.dump(), "model": card["weights_sha256"]}
    made |= {"versions": provenance.versions(), "commit": provenance.commit()}
    records.seal(records.with_metadata(pa.Table.from_pandas(frame, preserve_index=False), made), out)


def finish(spec: ShiftSpec, data: Path, parts: Sequence[Path], out: Path) -> None:
    """Write the records of the one shard as those of the evaluation."""
    (part,) = parts
    records.seal(records.unseal(part), out)


def measure(
    before: Network,
    after: Network,
    train: Split,
    test: Split,
    sigmas: Sequence[float],
    images: int,
    seed: int,
) -> pd.DataFrame:
    """Columns cause, sigma, layer (name), depth (0 at the input), shift; `images` evenly spaced test images.

    Both networks are in eval mode.  Batch norm's statistics of clean images are those of 20 batches of `train`.
    """
    adapted = adapt_statistics(before, train)
    some = np.arange(min(images, len(test))) * len(test) // min(images, len(test))
    clean, _ = test.batch(some)
    rows = []
    for sigma in sigmas:
        generator = torch.Generator().manual_seed(training_key(seed, 3))
        noisy = add_noise(clean, torch.full((len(clean),), sigma), generator)
        start = dict(normalised(before, noisy))
        for cause, network in (("statistics", adapted), ("finetuning", after)):
            for depth, (name, features) in enumerate(normalised(network, noisy)):
                # An instance norm over one pixel gives zeros.
                moved = (features - start[name]).square().mean() / start[name].square().mean().clamp_min(1e-12)
                rows.append({"cause": cause, "sigma": sigma, "layer": name, "depth": depth, "shift": float(moved)})
    return pd.DataFrame(rows)


def adapt_statistics(network: Network, train: Split) -> Network:
    """Return a copy whose batch norms have the mean and variance of clean images of `train`; other norms have none."""
    adapted = copy.deepcopy(network).eval()
    norms = [module for module in adapted.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
        norm.train()
    if norms:
        chosen = np.arange(min(20 * BATCH, len(train))) * len(train) // min(20 * BATCH, len(train))
        with torch.inference_mode():
            for first in range(0, len(chosen), BATCH):
                adapted(train.batch(chosen[first : first + BATCH])[0])
    return adapted.eval()


@torch.inference_mode()
def normalised(network: Network, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and x' of every normalisation layer, from the input on, for images [B, 3, H, W] in [0, 1]."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.BatchNorm2d):
                features = functional.batch_norm(inputs[0], module.running_mean, module.running_var, eps=module.eps)
            else:
                assert isinstance(module, nn.GroupNorm)
                features = functional.group_norm(inputs[0].contiguous(), module.num_groups, eps=module.eps)
            found[name] = features.clone()

        return hook

    layers = [(n, module) for n, module in network.named_modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
    hooks = [module.register_forward_hook(keep(name)) for name, module in layers]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    yield from found.items()
