"""What does a study cost?  GPU-hours and disk by stage, from the plan and the FLOPs of its networks.

    python benchmarks/cost.py --study paper --tflops 100

Computed, not measured: images of a stage x FLOP an image (three forwards for a training step; one where only the head
learns) / the FLOP a second that a GPU sustains, which the caller states.  `benchmarks/train.py` measures that for one
machine.  Sizes of the data sets are those that their authors state.
"""

import argparse
import json
from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from transmooth.models.build import build
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.specs import CertifySpec, NetworkSpec

# Training and test images.
SIZES = {
    "imagenet32": (1_281_167, 50_000),
    "imagenet": (1_281_167, 50_000),
    "cifar10": (50_000, 10_000),
    "cifar10_folder": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tinyimagenet32": (100_000, 10_000),
    "pets": (3_680, 3_669),
    "food101": (75_750, 25_250),
    "flowers102": (2_040, 6_149),
    "dtd": (3_760, 1_880),
    "digits": (1_297, 500),
    "characters": (12_000, 1_240),
    "textures": (3_000, 600),
}


@cache
def flops(network: str, size: int) -> tuple[float, float]:
    """FLOP of a forward of one image (2 for a multiplication and an addition), and bytes of the weights.

    network: its spec as canonical JSON.
    """
    # A name with a tag, of published weights, builds the same network.
    spec = NetworkSpec.of(json.loads(network)).model_copy(update={"weights": "random"})
    with torch.device("meta"):
        model = build(spec, 1000, (0.5,) * 3, (0.25,) * 3)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    return float(counter.get_total_flops()), 4.0 * sum(p.numel() for p in model.parameters())


def cost(plan: Plan) -> dict[str, dict[str, float]]:
    """Stage -> FLOP, bytes on disk and jobs."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"jobs": 0, "flop": 0, "bytes": 0})

    def add(stage: str, flop: float, size: float) -> None:
        for key, value in (("jobs", 1), ("flop", flop), ("bytes", size)):
            found[stage][key] += value

    datasets = plan.params.datasets
    for name in plan.datasets:
        side = datasets[name].stored or datasets[name].size
        add("prepare", 0, sum(SIZES[name]) * side * side * 3)
    for run in plan.runs.values():
        spec, dataset = plan.train_spec(run), plan.dataset(run)
        images = SIZES[dataset][0] * (1 - datasets[dataset].validation) * spec.views
        images *= spec.schedule.epochs * len(spec.schedule.lr)
        forward, weights = flops(plan.network_spec(run.network).text, datasets[dataset].size)
        stage = f"train, stage {len(run.stages)}"
        add(stage, images * forward * (3 if spec.trainable == "all" else 1), weights)
    for run, name in plan.evaluations:
        evaluation, dataset = plan.evaluate_spec(run, name), plan.dataset(run)
        forward, _ = flops(plan.network_spec(run.network).text, datasets[dataset].size)
        images = SIZES[dataset][1] if evaluation.images == "all" else min(evaluation.images, SIZES[dataset][1])
        if isinstance(evaluation, CertifySpec):
            samples, rows = evaluation.n0 + evaluation.n, images * len(evaluation.sigmas)
            add(name, rows * samples * forward, rows * 100)
        else:  # of the run, of what it starts from, and of that with other statistics
            add(name, images * len(evaluation.sigmas) * 3 * forward, 0)
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
