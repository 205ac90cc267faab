"""What does a study cost?  GPU-hours and disk by stage, from the plan and the FLOPs of its networks.

    python benchmarks/cost.py --study paper --tflops 100

Computed, not measured: images of a stage x FLOP an image (three forwards for a training step; one where only the head
learns) / the FLOP a second that a GPU sustains, which the caller states.  `benchmarks/train.py` measures that for one
machine.  A step of an attack costs two forwards, for its gradient is of the images alone.  Behind a denoiser each
copy of an image costs one forward of the denoiser, too.  FT-CADIS adds its attack and a second pass; all images are
counted as attacked, which is an upper bound.  Sizes of the data sets are those that their authors state.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from transmooth.models.build import Network, create
from transmooth.models.denoiser import UNET, of_config
from transmooth.params.load import load
from transmooth.plan import Plan, Run
from transmooth.specs import (
    AttackSpec,
    CertifySpec,
    MultiSigmaSpec,
    NetworkSpec,
    SamplewiseSpec,
    ShiftSpec,
    TrainSpec,
)

# OpenAI's U-Net of CIFAR-10, which a spec names by its file.
CIFAR10_UNET = {
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 3,
    "out_channels": 6,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 64,
}
# What objectives take where the recipe does not say.
USUAL: Mapping[str, Mapping[str, int]] = defaultdict(
    lambda: {"copies": 1, "steps": 0},
    confidence={"copies": 4, "steps": 4},
    consistency={"copies": 2, "steps": 0},
    adversarial={"copies": 1, "steps": 3},
    smooth_adversarial={"copies": 2, "steps": 2},
)
# Training and test images.
SIZES = {
    "imagenet32": (1_281_167, 50_000),
    "imagenet": (1_281_167, 50_000),
    "cifar10": (50_000, 10_000),
    "cifar10_folder": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "cifar10_100": (1_000, 10_000),
    "cifar10_500": (5_000, 10_000),
    "cifar10_1000": (10_000, 10_000),
    "cifar10_224": (50_000, 10_000),
    "cifar100_224": (50_000, 10_000),
    "birdsnap": (47_386, 2_443),
    "sun397": (19_850, 19_850),
    "cars": (8_144, 8_041),
    "aircraft": (6_667, 3_333),
    "caltech101": (3_030, 5_647),
    "caltech256": (15_420, 15_187),
    "tinyimagenet32": (100_000, 10_000),
    "pets": (3_680, 3_669),
    "food101": (75_750, 25_250),
    "flowers102": (2_040, 6_149),
    "dtd": (3_760, 1_880),
    "digits": (1_297, 500),
    "digits_20": (200, 500),
    "digits_60": (600, 500),
    "characters": (12_000, 1_240),
    "textures": (3_000, 600),
    "textures_60": (480, 600),
}


@cache
def flops(network: str, size: int) -> tuple[float, float]:
    """FLOP of a forward of one image (2 for a multiplication and an addition), and bytes of the weights.

    network: its spec as canonical JSON.
    """
    # A name with a tag, of published weights, builds the same network.
    spec = NetworkSpec.of(json.loads(network)).model_copy(update={"weights": "random"})
    with torch.device("meta"):
        known = "from" not in spec.options
        model = create(spec, 1000, (0.5,) * 3, (0.25,) * 3) if known else of_config(CIFAR10_UNET, {})
    with FlopCounterMode(display=False) as counter:
        image = torch.empty(1, 3, size, size, device="meta")
        model(image) if isinstance(model, Network) else model(image, torch.empty(1, device="meta"))
    return float(counter.get_total_flops()), 4.0 * sum(p.numel() for p in model.parameters())


def training(spec: TrainSpec, forward: float, denoiser: float) -> float:
    """FLOP of an image of a training step, of forwards of the network and of its denoiser, which is 0 without one."""
    passes = 1 if spec.trainable.startswith("head") else 3
    copies, steps = (int(str(spec.options.get(name, usual))) for name, usual in USUAL[spec.objective].items())
    if spec.objective == "confidence":
        return copies * (denoiser + (2 * passes + 3 * steps) * forward)
    attack = 2 * steps + 1 if steps else 0
    return spec.views * copies * (denoiser + (passes + attack) * forward)


def cost(plan: Plan) -> dict[str, dict[str, float]]:
    """Stage -> FLOP, bytes on disk and jobs."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"jobs": 0, "flop": 0, "bytes": 0})

    def add(stage: str, flop: float, size: float) -> None:
        for key, value in (("jobs", 1), ("flop", flop), ("bytes", size)):
            found[stage][key] += value

    datasets = plan.params.datasets

    def denoising(run: Run) -> float:
        cleaner = plan.denoiser(run)
        return flops(plan.network_spec(cleaner.network).text, datasets[plan.dataset(run)].size)[0] if cleaner else 0

    for name in plan.datasets:
        side = datasets[name].stored or datasets[name].size
        add("prepare", 0, sum(SIZES[name]) * side * side * 3)
    for run in plan.runs.values():
        spec, dataset = plan.train_spec(run), plan.dataset(run)
        images = SIZES[dataset][0] * (1 - datasets[dataset].validation)
        images *= spec.schedule.epochs * len(spec.schedule.lr)
        forward, weights = flops(plan.network_spec(run.network).text, datasets[dataset].size)
        stage = "denoiser" if plan.network_spec(run.network).name == UNET else f"train, stage {len(run.stages)}"
        add(stage, images * training(spec, forward, denoising(run)), weights)
    for run, name in plan.evaluations:
        evaluation, dataset = plan.evaluate_spec(run, name), plan.dataset(run)
        forward, _ = flops(plan.network_spec(run.network).text, datasets[dataset].size)
        images = SIZES[dataset][1] if evaluation.images == "all" else min(evaluation.images, SIZES[dataset][1])
        if isinstance(evaluation, CertifySpec | MultiSigmaSpec):
            samples, rows = evaluation.n0 + evaluation.n, images * len(evaluation.sigmas)
            add(name, rows * samples * (forward + denoising(run)), rows * 100)
        elif isinstance(evaluation, SamplewiseSpec):  # chooses by n0 samples at each sigma
            samples = (len(evaluation.sigmas) + 1) * evaluation.n0 + evaluation.n
            add(name, images * samples * (forward + denoising(run)), images * 100)
        elif isinstance(evaluation, AttackSpec):  # as if no image fell before the last run
            runs = len(evaluation.losses) * evaluation.restarts
            add(name, images * (1 + runs * (2 * evaluation.steps + 3)) * forward, images * 100)
        elif isinstance(evaluation, ShiftSpec):  # of the run, of what it starts from, and of that with other statistics
            add(name, images * len(evaluation.sigmas) * 3 * forward, 0)
        else:
            add(name, images * forward, images * 100)
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="paper")
    parser.add_argument("--tflops", type=float, default=100, help="10^12 FLOP a second that one GPU sustains")
    options = parser.parse_args()
    plan = Plan(load(options.study, Path(__file__).parents[1]))
    print(f"study {options.study}, at {options.tflops:g} TFLOP/s a GPU:\n")
    print("| stage | jobs | EFLOP | GPU-hours | disk, GB |\n|---|---|---|---|---|")
    for stage, total in cost(plan).items():
        hours = total["flop"] / (options.tflops * 1e12) / 3600
        print(
            f"| {stage} | {total['jobs']:.0f} | {total['flop'] / 1e18:.4g} | {hours:.4g} | {total['bytes'] / 1e9:.3g} |"
        )


if __name__ == "__main__":
    main()
