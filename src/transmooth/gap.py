"""The distribution gap: how far normalised features move between pretraining and finetuning (Table 2 of the paper).

A normalisation layer hands on x' = (x − E) / √V, before its weight and bias.  Batch norm took E and V of the mixture in
pretraining and takes those of clean images in finetuning, so x' moves although no weight does; instance, group and
layer norm take both from the image itself and stay.  The paper argues this; here it is measured, for each layer:

    gap = mean ‖x'_after − x'_before‖² / mean ‖x'_before‖²      over test images, clean or with noise of one sigma

    statistics   before: the pretrained network; after: the same weights, batch norm's E and V from clean images
    finetuning   before: the pretrained network; after: the finetuned one
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth import files
from transmooth.checkpoint import weights
from transmooth.data import Split, open_split
from transmooth.models import Network
from transmooth.noise import add_noise, training_key
from transmooth.report.figures import line_chart
from transmooth.report.tables import markdown_table

BATCH = 128


def write_gap(spec: Mapping[str, Any], results: Path, data: Mapping[str, Path], out: Path, figure: Path) -> None:
    """Write `out`.csv and `out`.md and `figure`.svg, .png for a gap's spec from the checkpoints below `results`.

    data: dataset -> prepared folder.
    """
    frames = []
    for row in spec["rows"]:
        for run in row["runs"]:
            before, _ = weights.load(results / "pretrain" / run["pretrain"] / str(run["seed"]))
            after, _ = weights.load(results / "finetune" / run["path"])
            folder = data[run["dataset"]]
            train, test = open_split(folder, "train"), open_split(folder, "test")
            frame = measure(before, after, train, test, spec["sigmas"], spec["images"], run["seed"])
            frames.append(frame.assign(row=row["label"], seed=run["seed"]))
    lines = pd.concat(frames, ignore_index=True)
    mean = lines.groupby(["row", "cause", "sigma", "layer", "depth"], sort=False, as_index=False)["gap"].mean()
    files.write_text(out.with_suffix(".csv"), mean.to_csv(index=False, float_format="%.6g"))
    files.write_text(out.with_suffix(".md"), _markdown(spec, mean))
    panels = []
    for cause in ("statistics", "finetuning"):
        shown = mean[(mean["cause"] == cause) & (mean["sigma"] == 0)]
        curves = {label: group.set_index("depth")["gap"] for label, group in shown.groupby("row", sort=False)}
        panels.append((f"by {cause}, clean images", pd.DataFrame(curves)))
    line_chart(spec["title"], panels, "normalisation layer, from the input", "gap", figure)


def measure(
    before: Network,
    after: Network,
    train: Split,
    test: Split,
    sigmas: Sequence[float],
    images: int,
    seed: int,
) -> pd.DataFrame:
    """Columns cause, sigma, layer (name), depth (0 at the input), gap; `images` evenly spaced test images.

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
                rows.append({"cause": cause, "sigma": sigma, "layer": name, "depth": depth, "gap": float(moved)})
    return pd.DataFrame(rows)


def adapt_statistics(network: Network, train: Split) -> Network:
    """A copy whose batch norms have the mean and variance of clean images of `train`; other norms have none."""
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


def _markdown(spec: Mapping[str, Any], mean: pd.DataFrame) -> str:
    table = mean.groupby(["row", "cause", "sigma"], sort=False)["gap"].mean()
    head = ["", "moved by", *(f"σ = {sigma:g}" for sigma in spec["sigmas"])]
    rows = [
        [row["label"], cause, *(f"{table[row['label'], cause, sigma]:.3f}" for sigma in spec["sigmas"])]
        for cause in ("statistics", "finetuning")
        for row in spec["rows"]
    ]
    note = f"Mean over the layers, {spec['images']} test images; 0: nothing moves, 1: as much as there is."
    return "\n\n".join([f"# {spec['title']}", spec["caption"], note, markdown_table(head, rows)]) + "\n"
