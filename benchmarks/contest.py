"""Cohen's loop and ours on one network and one device, by precision and batch: what benchmarks/gpu.py measures.

Precisions: `fp32` without TF32, `tf32` (float32 with TF32 in convolutions and products), `bf16`.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.certify import Run, cohen, demand, end_to_end, image, rate, timed
from benchmarks.networks import MAKERS, SIGMA, make
from transmooth.params.values import Engine as EngineName
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.engine import LONGEST, Engine, prepare
from transmooth.smoothing.sampler import Sampler

MANY = 10_000_000  # evaluations: enough that the product times layouts
PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", True)}  # dtype, TF32


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 in convolutions and matrix products, or in neither."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def sampled(engine: Engine, size: int, batch: int) -> Run:
    """One answer of a sampler."""
    sampler = Sampler(replace(engine, batch=batch), partial(image, size=size), SIGMA)
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


class Contest:
    """A network on a device, and what was found of it: rates by contestant and batch, engines by precision.

    tflops: the peak of each precision that is known; seconds: of one measurement.
    """

    def __init__(self, name: str, device: torch.device, tflops: dict[str, float], seconds: float) -> None:
        self.device, self.tflops, self.seconds = device, tflops, seconds
        self.size, self.network = (32, tiny()) if name == "tiny" else (MAKERS[name][0], make(name))
        self.network.to(device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.network(image(0, self.size)[None].to(device))
        self.flops = counter.get_total_flops()
        self.rates: dict[str, dict[int, float]] = {}
        self.engines: dict[str, Engine] = {}

    def engine(self, precision: str, name: EngineName, batch: int) -> Engine:
        some = torch.stack([image(index, self.size) for index in range(4)])
        return prepare(self.network, some, SIGMA, MANY, dtype=PRECISIONS[precision][0], engine=name, batch=batch)

    def eager(self, by_size: dict[int, tuple[int, ...]]) -> dict[str, Any]:
        """The loop and ours without a compiler."""
        left_out, layouts, batches = {}, {}, by_size[self.size]
        for precision, (_, on) in PRECISIONS.items():
            with tf32(on), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if precision != "bf16":
                    loop = partial(cohen, self.network, SIGMA, size=self.size)
                    self.rates[f"cohen_{precision}"] = by_batch(loop, batches, self.seconds)
                engine = self.engine(precision, "eager", batches[len(batches) // 2])
                layouts[precision] = str(engine.run.layout)  # type: ignore[attr-defined]
                self.rates[f"eager_{precision}"] = by_batch(partial(sampled, engine, self.size), batches, self.seconds)
                self.engines[precision] = replace(engine, batch=best(self.rates[f"eager_{precision}"]))
            if deployed := [str(each.message) for each in caught if "the network is deployed" in str(each.message)]:
                left_out[precision] = deployed
        facts = {"mflop": self.flops / 1e6, "layouts": layouts, "deployed_without": left_out}
        return self._summary(list(self.rates)) | facts

    def end_to_end(self, seconds: float, rounds: int, curve: int) -> dict[str, Any]:
        """The sequential method against the loop; see benchmarks/certify.py."""
        rates = {precision: max(self.rates[f"eager_{precision}"].values()) for precision in ("tf32", "bf16")}
        precision = max(rates, key=lambda each: rates[each])
        engine, loop = self.engines[precision], self.rates["cohen_tf32"]
        # As many images as the product takes at once, or as fit the time.
        affordable = seconds * rates[precision] / demand(None, SIGMA, curve)[2].mean()
        options = argparse.Namespace(log=None, sigma=SIGMA, curve=curve, seconds=seconds, rounds=rounds)
        options.images = max(2, min(engine.batch // 8, int(affordable)))
        with tf32(True):
            run = cohen(self.network, SIGMA, best(loop), self.size)
            found = end_to_end(engine, (run, best(loop), max(loop.values())), [rates[precision]], self.size, options)
        facts = {f"{key}_times_cohen_tf32": values for key, values in found.items()}
        return facts | {"precision": precision, "batch_images": engine.batch, "images_a_round": options.images}

    def graphs(self, precision: str) -> dict[str, Any]:
        """The engine `compiled`, which on a GPU is one CUDA graph a batch."""
        batch, started = self.engines[precision].batch, time.perf_counter()
        with tf32(PRECISIONS[precision][1]):
            run = sampled(self.engine(precision, "compiled", batch), self.size, batch)
            timed(partial(run, 3 * batch), self.device)  # a graph is captured in the second run
            compiling = time.perf_counter() - started
            who = f"graphs_{precision}"
            self.rates[who] = by_batch(lambda _: run, (batch,), self.seconds)
        eager = self.rates[f"eager_{precision}"][batch]
        torch.compiler.reset()  # its memory, and the limit on how often one function is compiled
        facts = {"compiling_seconds": compiling, "times_eager": self.rates[who][batch] / eager}
        return self._summary([who]) | facts

    def _summary(self, contestants: list[str]) -> dict[str, Any]:
        rates = {who: max(self.rates[who].values()) for who in contestants}
        usual = max(self.rates["cohen_tf32"].values())
        peak = {who: self.tflops.get(who.rpartition("_")[2]) for who in contestants}
        shares = {who: rates[who] * self.flops / tflops / 1e10 for who, tflops in peak.items() if tflops}
        return {
            "evaluations_per_second_by_batch": {who: self.rates[who] for who in contestants},
            "times_cohen_tf32": {who: value / usual for who, value in rates.items()},
            "share_of_peak_percent": shares,
        }


def tiny() -> nn.Module:
    """What even a busy CPU compiles in seconds."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
