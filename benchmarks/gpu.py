"""What a GPU must show, in one command and within so many minutes.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --device cpu --quick --json gpu.json  # tiny sizes: does every part of it run?

Parts, in this order: the peaks of matrix products and 3x3 convolutions; whether counts are equal over batches; where
the processor waits for the GPU; a training step against the network alone; then for each network of
benchmarks/networks.py Cohen's loop and ours, eager, by batch; the sequential method end to end against the loop at its
best batch (see benchmarks/certify.py); last, for compiling takes longest, ours with CUDA graphs at the batch that was
best without.

Precisions: `fp32` without TF32, `tf32` (float32 with TF32 in convolutions and products), `bf16`.  The file is written
after each part and has a unit in each key; what did not fit the time is `left_out`, what broke is `failed`.
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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import train
from benchmarks.certify import ALPHA, N0, Run, cohen, demand, drawn, end_to_end, image, peaks, rate, timed
from benchmarks.networks import MAKERS, SIGMA, make
from benchmarks.waits import waits
from transmooth.params.values import Engine as EngineName
from transmooth.smoothing.bounds import Ints
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.engine import LONGEST, Engine, prepare, processor
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.sequential import GridPlan, certify

PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", True)}  # dtype, TF32
SMI = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
MANY = ("resnet20", "resnet110", "vit", "resnet50", "denoised", "resnet152")


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how large; seconds: of one measurement."""

    networks: tuple[str, ...] = MANY
    end_to_end: tuple[str, ...] = MANY
    graphs: tuple[str, ...] = MANY
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
    ("resnet20", "tiny"),
    ("tiny",),
    ("tiny",),
    "tiny",
    {32: (8, 32)},
    (8, 32),
    dict([train.CPU]),
    (16,),
    0.05,
    1,
    200,
    "quick",
)


@dataclass
class Contest:
    """A network on the device, and what was found of it: rates by contestant and batch, engines by precision."""

    size: int
    network: nn.Module
    flops: int
    rates: dict[str, dict[int, float]] = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 in convolutions and matrix products, or in neither."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def sampled(engine: Engine, size: int) -> Run:
    """One answer of a sampler."""
    sampler = Sampler(engine, partial(image, size=size), SIGMA)
    return lambda n: sampler(ESTIMATION, np.array([0]), np.array([0]), np.array([n]))


def by_batch(maker: Callable[[int], Run], batches: tuple[int, ...], seconds: float) -> dict[int, float]:
    """Evaluations a second at each batch that fits in memory and takes no longer than the product would let it."""
    found: dict[int, float] = {}
    for batch in batches:
        if found and batch / max(found.values()) > LONGEST:
            break
        try:
            run = maker(batch)
            run(batch)
            found[batch] = rate(run, batch, seconds, rate(run, batch, 0, 1))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    return found


def best(rates: dict[int, float]) -> int:
    return max(rates, key=lambda batch: rates[batch])


class Benchmark:
    """The parts, and what they found."""

    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        self.device, self.sizes = device, sizes
        self.tflops: dict[str, float] = {}
        self.contests = cache(self._contest)

    def parts(self) -> dict[str, tuple[float, Callable[[], dict[str, Any]]]]:
        """Each part, and the seconds without which it is not begun."""
        found: dict[str, tuple[float, Callable[[], dict[str, Any]]]] = {
            "peaks": (10, self.peaks),
            "equal counts": (10, self.equal_counts),
            "waits": (10, self.waits),
            "training": (30, self.training),
        }
        found |= {f"eager {name}": (20, partial(self.eager, name)) for name in self.sizes.networks}
        found |= {f"end to end {name}": (20, partial(self.end_to_end, name)) for name in self.sizes.end_to_end}
        for precision in ("bf16", "tf32", "fp32"):
            found |= {
                f"graphs {precision} {name}": (30, partial(self.graphs, name, precision)) for name in self.sizes.graphs
            }
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
        contest, found = self._contest(self.sizes.first), dict[str, Any]()
        some = torch.stack([image(index, 32) for index in range(8)]).to(self.device)
        last = [module for module in contest.network.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.bias -= contest.network(some + SIGMA * torch.randn_like(some)).mean(0)
        ids = np.arange(8)
        asked = ESTIMATION, ids, np.zeros_like(ids), np.full_like(ids, 2 * max(self.sizes.compared))
        for precision in PRECISIONS:
            with tf32(PRECISIONS[precision][1]):
                engine = self._engine(contest, precision, "eager", self.sizes.compared[0])
                engines = [replace(engine, batch=batch) for batch in self.sizes.compared]
                one, other = [Sampler(each, partial(image, size=32), SIGMA)(*asked) for each in engines]
            moved = int(np.abs(one - other).sum()) // 2
            found[precision] = {"predictions": int(one.sum()), "predicted_classes": int((one.sum(0) > 0).sum())}
            found[precision] |= {"moved_predictions": moved, "equal": moved == 0}
        return found | {"batches_images": self.sizes.compared}

    def waits(self) -> dict[str, Any]:
        """A certification, whose answers each wait once, and training steps, none of which should."""
        engine = self._engine(self._contest(self.sizes.first), "tf32", "eager", self.sizes.compared[0])
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
        told: dict[str, Any] = {"certification": {"answers": answers, "waits": found.total(), "waits_by_line": found}}
        for name, options in self.sizes.trained.items():
            step = self._step("transmooth", name, options, self.sizes.training_batches[0])
            step()
            with waits(self.device) as found:
                for _ in range(3):
                    step()
            told[f"training {name}"] = {"steps": 3, "waits": found.total(), "waits_by_line": found}
        return told

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
                told = {f"{who.replace(' ', '_')}_images_per_second": values for who, values in rates.items()}
                found[f"{name} bf16 batch {batch}"] = told | {"share_of_network_alone_percent": shares}
        return found

    def _step(self, who: str, name: str, options: dict[str, Any], batch: int) -> train.Step:
        with tempfile.TemporaryDirectory() as folder:
            pixels = Path(folder) / "train.npy"
            np.save(pixels, np.random.default_rng(0).integers(0, 256, (4096, 32, 32, 3), np.uint8))
            network = train.network(name, "layer", options, self.device)
            return train.CONTESTANTS[who](network, train.pictures(pixels), batch, self.device)

    def _contest(self, name: str) -> Contest:
        if name == "tiny":
            layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
            size, network = 32, cast(nn.Module, nn.Sequential(*layers).eval())
        else:
            size, network = MAKERS[name][0], make(name)
        network.to(self.device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image(0, size)[None].to(self.device))
        return Contest(size, network, counter.get_total_flops())

    def _engine(self, contest: Contest, precision: str, name: EngineName, batch: int) -> Engine:
        some = torch.stack([image(index, contest.size) for index in range(4)])
        return prepare(contest.network, some, SIGMA, 1, dtype=PRECISIONS[precision][0], engine=name, batch=batch)

    def eager(self, name: str) -> dict[str, Any]:
        contest, left_out = self.contests(name), {}
        batches = self.sizes.batches[contest.size]
        for precision, (_, on) in PRECISIONS.items():
            with tf32(on), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if precision != "bf16":
                    loop = partial(cohen, contest.network, SIGMA, size=contest.size)
                    contest.rates[f"cohen_{precision}"] = by_batch(loop, batches, self.sizes.seconds)
                engine = self._engine(contest, precision, "eager", batches[0])
                ours = lambda batch, engine=engine: sampled(replace(engine, batch=batch), contest.size)  # noqa: E731
                contest.rates[f"eager_{precision}"] = by_batch(ours, batches, self.sizes.seconds)
                contest.engines[precision] = replace(engine, batch=best(contest.rates[f"eager_{precision}"]))
            if deployed := [str(each.message) for each in caught if "the network is deployed" in str(each.message)]:
                left_out[precision] = deployed
        return self._told(contest, list(contest.rates)) | {"mflop": contest.flops / 1e6, "deployed_without": left_out}

    def _told(self, contest: Contest, contestants: list[str]) -> dict[str, Any]:
        rates = {who: max(contest.rates[who].values()) for who in contestants}
        usual = max(contest.rates["cohen_tf32"].values())
        peak = {who: self.tflops.get(who.rpartition("_")[2]) for who in contestants}
        return {
            "evaluations_per_second_by_batch": {who: contest.rates[who] for who in contestants},
            "times_cohen_tf32": {who: value / usual for who, value in rates.items()},
            "share_of_peak_percent": {
                who: rates[who] * contest.flops / tflops / 1e10 for who, tflops in peak.items() if tflops
            },
        }

    def end_to_end(self, name: str) -> dict[str, Any]:
        contest, sizes = self.contests(name), self.sizes
        rates = {precision: max(contest.rates[f"eager_{precision}"].values()) for precision in ("tf32", "bf16")}
        precision = max(rates, key=lambda each: rates[each])
        engine, loop = contest.engines[precision], contest.rates["cohen_tf32"]
        seconds = 8 * sizes.seconds
        # As many images as the product takes at once, or as fit the time.
        affordable = seconds * rates[precision] / demand(None, SIGMA, sizes.curve)[2].mean()
        options = argparse.Namespace(log=None, sigma=SIGMA, curve=sizes.curve, seconds=seconds, rounds=sizes.rounds)
        options.images = max(2, min(engine.batch // 8, int(affordable)))
        with tf32(True):
            run = cohen(contest.network, SIGMA, best(loop), contest.size)
            found = end_to_end(engine, (run, best(loop), max(loop.values())), [rates[precision]], contest.size, options)
        told = {f"{key}_times_cohen_tf32": values for key, values in found.items()}
        return told | {"precision": precision, "batch_images": engine.batch, "images_a_round": options.images}

    def graphs(self, name: str, precision: str) -> dict[str, Any]:
        """The engine `compiled`, which on a GPU is one CUDA graph a batch."""
        contest = self.contests(name)
        batch, started = contest.engines[precision].batch, time.perf_counter()
        with tf32(PRECISIONS[precision][1]):
            engine = self._engine(contest, precision, "compiled", batch)
            run = sampled(engine, contest.size)
            timed(partial(run, 3 * batch), self.device)  # a graph is captured in the second run
            compiling = time.perf_counter() - started
            who = f"graphs_{precision}"
            contest.rates[who] = by_batch(lambda _: run, (batch,), self.sizes.seconds)
        eager = contest.rates[f"eager_{precision}"][batch]
        torch.compiler.reset()  # its memory, and the limit on how often one function is compiled
        told = {"compiling_seconds": compiling, "times_eager": contest.rates[who][batch] / eager}
        return self._told(contest, [who]) | told


def smi() -> dict[str, Any]:
    """What nvidia-smi says, where it is."""
    if not shutil.which("nvidia-smi"):
        return {}
    query = ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,nounits"]  # the head has the units
    names, *cards = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines() or [""]
    return {"nvidia_smi": [dict(zip(names.split(", "), card.split(", "), strict=False)) for card in cards]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="what is written")
    parser.add_argument("--minutes", type=float, default=9, help="after which it ends, whatever is left out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs")
    options = parser.parse_args()
    started = time.monotonic()
    device = torch.device(options.device)
    report: dict[str, Any] = {"device": device.type, "processor": processor(), "torch": torch.__version__}
    report |= (
        {"cores": os.cpu_count(), "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d")}
        | smi()
        | {"threads": torch.get_num_threads()}
    )
    if device.type == "cuda":
        report |= {
            "card": torch.cuda.get_device_name(),
            "memory_gib": torch.cuda.get_device_properties(device).total_memory / 2**30,
        }
    parts = Benchmark(device, QUICK if options.quick else Sizes()).parts()
    report |= {"parts": {}, "failed": {}, "left_out": list(parts)}

    def end() -> None:
        print(f"time is over; left out: {', '.join(report['left_out'])}", flush=True)
        os._exit(0)  # a compilation cannot be told to stop; what is found is in the file

    timer = threading.Timer(60 * options.minutes, end)
    timer.daemon = True
    timer.start()
    for name, (needed, part) in parts.items():
        if time.monotonic() - started + (0 if options.quick else needed) > 60 * options.minutes:
            continue
        begun = time.monotonic()
        try:
            report["parts"][name] = part() | {"seconds": time.monotonic() - begun}
            print(f"{name}: {json.dumps(report['parts'][name])}", flush=True)
        except Exception as error:  # the others are still worth their time
            report["failed"][name] = "".join(traceback.format_exception_only(error)).strip()
            print(f"{name} failed: {traceback.format_exc()}", flush=True)
        report["left_out"].remove(name)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    timer.cancel()
    print(f"{time.monotonic() - started:.0f} s; failed: {list(report['failed'])}; left out: {report['left_out']}")


if __name__ == "__main__":
    main()
