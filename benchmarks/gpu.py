"""What a GPU must show, in one command and within so many minutes.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --device cpu --quick --json gpu.json  # tiny sizes: does every part of it run?

Parts, in this order: the peaks of matrix products and 3x3 convolutions; whether counts are equal over batches; where
the processor waits for the GPU; a training step against the network alone; then for each network of
benchmarks/networks.py Cohen's loop and ours, eager, by batch, and ours with CUDA graphs in bf16 at the batch that was
best without; the sequential method end to end against the loop at its best batch (see benchmarks/certify.py); last,
for compiling takes longest, CUDA graphs in the other precisions.

The file is written after each part and has a unit in each key; what did not fit the time is `left_out`, what broke is
`failed`.  Precisions: see benchmarks/contest.py.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import train
from benchmarks.certify import ALPHA, N0, drawn, image, peaks
from benchmarks.contest import PRECISIONS, Contest, tf32
from benchmarks.networks import SIGMA
from benchmarks.waits import waits
from transmooth import files
from transmooth.smoothing.bounds import Ints
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.engine import processor
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.sequential import GridPlan, certify

SMI = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
MANY = ("resnet20", "resnet50", "vit", "resnet152", "resnet110", "denoised")
# Each part, and the seconds without which it is not begun.
Parts = dict[str, tuple[float, Callable[[], dict[str, Any]]]]


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how large; seconds: of one measurement."""

    networks: tuple[str, ...] = MANY
    longer: tuple[str, ...] = MANY  # end to end, and with CUDA graphs
    first: str = "resnet20"  # of which counts are compared and waits are found
    batches: dict[int, tuple[int, ...]] = field(
        default_factory=lambda: {32: (256, 512, 1024, 2048, 4096), 224: (64, 128, 256, 512)}
    )
    compared: tuple[int, int] = (256, 1024)
    trained: dict[str, dict[str, Any]] = field(default_factory=lambda: {"resnet50": {}, "resnet152": {}})
    training_batches: tuple[int, ...] = (128, 512)
    seconds: float = 0.25
    rounds: int = 2
    curve: int = 10_000  # images whose evaluations are simulated
    peaks: str = "cuda"


QUICK = Sizes(
    ("resnet20", "tiny"), ("tiny",), "tiny", {32: (4, 16)}, (4, 16), dict([train.CPU]), (8,), 0.05, 1, 100, "quick"
)


class Benchmark:
    """The parts, and what they found."""

    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        self.device, self.sizes = device, sizes
        self.tflops: dict[str, float] = {}
        self.contest = partial(Contest, device=device, tflops=self.tflops, seconds=sizes.seconds)
        self.contests = cache(self.contest)

    def eager(self, name: str) -> dict[str, Any]:
        return self.contests(name).eager(self.sizes.batches)

    def end_to_end(self, name: str) -> dict[str, Any]:
        return self.contests(name).end_to_end(8 * self.sizes.seconds, self.sizes.rounds, self.sizes.curve)

    def graphs(self, name: str, precision: str) -> dict[str, Any]:
        return self.contests(name).graphs(precision)

    def parts(self) -> Parts:
        found: Parts = {"peaks": (10, self.peaks), "equal counts": (10, self.equal_counts)}
        found |= {"waits": (10, self.waits), "training": (30, self.training)}
        for name in self.sizes.networks:
            found[f"eager {name}"] = 20, partial(self.eager, name)
            if name in self.sizes.longer:
                found[f"graphs bf16 {name}"] = 30, partial(self.graphs, name, "bf16")
        found |= {f"end to end {name}": (20, partial(self.end_to_end, name)) for name in self.sizes.longer}
        for each in ("tf32", "fp32"):
            found |= {f"graphs {each} {name}": (30, partial(self.graphs, name, each)) for name in self.sizes.longer}
        return found

    def peaks(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for precision, (dtype, on) in PRECISIONS.items():
            with tf32(on):
                flops = peaks(self.device, torch.bfloat16 if dtype == "bf16" else torch.float32, self.sizes.peaks)
            self.tflops[precision] = max(flops.values()) / 1e12
            found[precision] = {f"{kind}_tflop_per_second": value / 1e12 for kind, value in flops.items()}
        return found | smi()

    def equal_counts(self) -> dict[str, Any]:
        """Of the same noise, over two batches; the last bias is such that a random network answers many classes."""
        contest, found = self.contest(self.sizes.first), dict[str, Any]()
        some = torch.stack([image(index, 32) for index in range(8)]).to(self.device)
        last = [module for module in contest.network.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.bias.sub_(contest.network(some + SIGMA * torch.randn_like(some)).mean(0))
        ids = np.arange(8)
        asked = ESTIMATION, ids, np.zeros_like(ids), np.full_like(ids, 2 * max(self.sizes.compared))
        for precision in PRECISIONS:
            with tf32(PRECISIONS[precision][1]):
                engine = contest.engine(precision, "eager", self.sizes.compared[0])
                engines = [replace(engine, batch=batch) for batch in self.sizes.compared]
                one, other = [Sampler(each, partial(image, size=32), SIGMA)(*asked) for each in engines]
            moved = int(np.abs(one - other).sum()) // 2
            found[precision] = {"predictions": int(one.sum()), "predicted_classes": int((one.sum(0) > 0).sum())}
            found[precision] |= {"moved_predictions": moved, "equal": moved == 0}
        return found | {"batches_images": self.sizes.compared}

    def waits(self) -> dict[str, Any]:
        """A certification, whose answers each wait once, and training steps, none of which should."""
        engine = self.contest(self.sizes.first).engine("tf32", "eager", self.sizes.compared[0])
        sampler, answers = Sampler(engine, partial(image, size=32), SIGMA), 0

        def counted(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
            nonlocal answers
            answers += 1
            return sampler(stream, images, start, n)

        plan, ids = GridPlan(SIGMA, (0.0, 0.25), ALPHA, 1000), np.arange(2)
        counted(ESTIMATION, ids, ids * 0, ids * 0 + 1)  # what only the first answer does
        answers = 0
        with waits(self.device) as found:
            certify(drawn(np.full(2, 0.3), counted), ids, plan, N0)
        facts: dict[str, Any] = {"certification": {"answers": answers, "waits": found.total(), "waits_by_line": found}}
        for name, options in self.sizes.trained.items():
            step = self._step("transmooth", name, options, self.sizes.training_batches[0])
            step()
            with waits(self.device) as found:
                for _ in range(3):
                    step()
            facts[f"training {name}"] = {"steps": 3, "waits": found.total(), "waits_by_line": found}
        return facts

    def training(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, options in self.sizes.trained.items():
            for batch in self.sizes.training_batches:
                steps = {who: self._step(who, name, options, batch) for who in ("transmooth", "network alone")}
                for step in steps.values():
                    train.rate(step, batch, 2 * self.sizes.seconds)
                rates: dict[str, list[float]] = {who: [] for who in steps}
                for _ in range(self.sizes.rounds):
                    for who, step in steps.items():
                        rates[who].append(train.rate(step, batch, 4 * self.sizes.seconds))
                shares = [100 * a / b for a, b in zip(*rates.values(), strict=True)]
                facts = {f"{who.replace(' ', '_')}_images_per_second": values for who, values in rates.items()}
                found[f"{name} bf16 batch {batch}"] = facts | {"share_of_network_alone_percent": shares}
        return found

    def _step(self, who: str, name: str, options: dict[str, Any], batch: int) -> train.Step:
        with tempfile.TemporaryDirectory() as folder:
            pixels = Path(folder) / "train.npy"
            np.save(pixels, np.random.default_rng(0).integers(0, 256, (4096, 32, 32, 3), np.uint8))
            network = train.network(name, "layer", options, self.device)
            return train.CONTESTANTS[who](network, train.pictures(pixels), batch, self.device)


def smi() -> dict[str, Any]:
    """What nvidia-smi says, where it is."""
    if not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,nounits"]  # the head has the units
    names, *cards = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines() or [""]
    return {"nvidia_smi": [dict(zip(names.split(", "), card.split(", "), strict=False)) for card in cards]}


def account(found: dict[str, Any]) -> Iterator[str]:
    """A line for each measurement, of three digits."""
    for key, value in found.items():
        if isinstance(value, dict):
            inner = list(account(value))
            yield from [f"{key} {line}" for line in inner] if len(inner) < 9 else [f"{key}:", *inner]
        else:
            values = value if isinstance(value, list) else [value]
            yield f"{key}: {', '.join(f'{each:.3g}' if isinstance(each, float) else str(each) for each in values)}"


def measure(parts: Parts, report: dict[str, Any], path: Path, deadline: float) -> None:
    """Measure what fits the time, in `report` and in its file."""
    for name, (needed, part) in parts.items():
        files.write_text(path, json.dumps(report, indent=1) + "\n")
        begun = time.monotonic()
        if begun + needed > deadline:
            continue
        try:
            found = part()
            report["parts"][name] = found | {"seconds": time.monotonic() - begun}
            print(f"{name}:", *account(found), sep="\n  ", flush=True)
        except Exception as error:  # the remaining networks are still worth their time
            report["failed"][name] = "".join(traceback.format_exception_only(error)).strip()
            print(f"{name} failed: {traceback.format_exc()}", flush=True)
        report["left_out"].remove(name)
    files.write_text(path, json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="what is written")
    parser.add_argument("--minutes", type=float, default=9, help="after which it ends, whatever is left out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    options = parser.parse_args()
    started = time.monotonic()
    device = torch.device(options.device)
    report: dict[str, Any] = {"device": device.type, "processor": processor(), "threads": torch.get_num_threads()}
    report |= {"torch": torch.__version__, "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d")} | smi()
    if device.type == "cuda":
        report["card"] = torch.cuda.get_device_name()
    print(json.dumps(report))
    parts = Benchmark(device, QUICK if options.quick else Sizes()).parts()
    report |= {"parts": {}, "failed": {}, "left_out": list(parts)}

    def end() -> None:
        print(f"time is over; left out: {', '.join(report['left_out'])}", flush=True)
        os._exit(0)  # a compilation cannot be stopped; the results are in the file

    timer = threading.Timer(60 * options.minutes, end)
    timer.start()
    measure(parts, report, options.json, started + 60 * options.minutes)
    timer.cancel()
    print(f"{time.monotonic() - started:.0f} s; failed: {list(report['failed'])}; left out: {report['left_out']}")


if __name__ == "__main__":
    main()
