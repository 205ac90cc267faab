"""How fast is certification, against the loop of Cohen et al. and the Adversarial Robustness Toolbox?

    python benchmarks/certify.py --quick                  # under 10 minutes on 2 cores
    python benchmarks/certify.py --json                   # ends with one line of JSON
    python benchmarks/certify.py --log LOG --sigma 0.25   # success rates of the images from a published log

Random CIFAR ResNets at 32x32.  All contestants take turns in one process, several rounds; a ratio is taken within a
round, and shown as median (lowest to highest).  The loop of Cohen et al. is written here from its description: repeat
the image, add randn * sigma, argmax, count on the CPU, in float32.

Fixed n: evaluations a second.  End to end: the sequential method with labels known, at radii 0, 0.25, 0.5, 0.75, 1 and
n_max = 100 000, against that loop at n = 100 000 and its best batch.  A random network answers one class only, so its
evaluations are timed and its answers replaced by draws at the success rates of the log, or of a curve: that of Cohen et
al. at sigma 0.5 (params/published.csv: 65 % right at radius 0, 32 % at 0.75, 22 % at 1), linear between.  It decides
much: at sigma 0.25, where radius 1 is out of reach and many images sit near thresholds, the same method saves half as
much.  Two linear extrapolations: the 100 100 evaluations of the loop from its rate, and the sequential seconds
an evaluation, measured on a few images, to the mean number of evaluations over the whole log or curve.
"""

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from transmooth.records import logs
from transmooth.smoothing.bounds import Floats, Ints, max_failures
from transmooth.smoothing.decision import ESTIMATION, SELECTION, Counts
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.sequential import GridPlan, certify

RADII, ALPHA, N0, N, CLASSES = (0.0, 0.25, 0.5, 0.75, 1.0), 0.001, 100, 100_000, 10
COHEN_BATCHES, OUR_BATCHES = (32, 64, 128, 256, 1000), (64, 256)

# Evaluate this many noisy samples.
Run = Callable[[int], Any]


class Block(nn.Module):
    """A basic block; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut = shortcut if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet(depth: int, sigma: float) -> nn.Module:
    """The CIFAR ResNet of 6n + 2 layers (He et al. 2016), random weights, running statistics of noisy images."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for out in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(Block(channels, out, 1 + (out != channels)))
            channels = out
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)).train()
    with torch.no_grad():
        for _ in range(10):
            network(torch.rand(32, 3, 32, 32) + sigma * torch.randn(32, 3, 32, 32))
    return network.eval()


def image(index: int) -> Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))


def cohen(network: nn.Module, sigma: float, batch: int) -> Run:
    x = image(0)

    @torch.no_grad()
    def run(n: int) -> Ints:
        counts = np.zeros(CLASSES, np.int64)
        while n > 0:
            size = min(n, batch)
            repeated = x.repeat(size, 1, 1, 1)
            predictions = network(repeated + torch.randn_like(repeated) * sigma).argmax(1)
            counts += np.bincount(predictions.cpu().numpy(), minlength=CLASSES)
            n -= size
        return counts

    return run


def art(network: nn.Module, sigma: float, batch: int) -> Run:
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    loss = nn.CrossEntropyLoss()
    peer = PyTorchRandomizedSmoothing(
        network, loss, (3, 32, 32), CLASSES, device_type="cpu", sample_size=1, scale=sigma, alpha=ALPHA
    )
    return lambda n: peer.certify(image(0).numpy()[None], n=n - 1, batch_size=batch)


def ours(network: nn.Module, sigma: float, batch: int, dtype: str, compile: bool) -> tuple[Run, Sampler]:
    sampler = Sampler(network, image, sigma, batch=batch, dtype=dtype, compile=compile)

    def run(n: int) -> Ints:
        return sampler(ESTIMATION, np.array([0]), np.array([0]), np.array([n]))

    return run, sampler


def convolution_peak(batch: int) -> float:
    """FLOP/s of the fastest of the networks' three kinds of 3x3 convolution, alone, in bf16 and channels-last."""
    best = 0.0
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        x = torch.randn(batch, channels, size, size, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        for _ in range(30):
            started = time.perf_counter()
            F.conv2d(x, w, padding=1)
            seconds = time.perf_counter() - started
            best = max(best, 2 * 9 * channels**2 * size**2 * batch / seconds)
    return best


def rate(run: Run, batch: int, seconds: float, guess: float) -> float:
    """Evaluations a second over about that many seconds of full batches."""
    n = max(1, round(guess * seconds / batch)) * batch
    started = time.perf_counter()
    run(n)
    return n / (time.perf_counter() - started)


def spread(values: list[float], digits: int = 2) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def failure_rates(log: Path | None, sigma: float) -> tuple[Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Of each image, the failure rate of the selected class and whether that class is right.

    Rates are read back from the radii of a log.  Who abstained is taken as right, with a rate of 1/2: it costs samples.
    """
    if log is None:
        rng = np.random.default_rng(0)
        shares, radii_over_sigma = (1, 0.32 / 0.65, 0.22 / 0.65, 0), (0, 1.5, 2, 4)
        q = ndtr(-np.interp(1 - rng.random(10_000), [1 - share for share in shares], radii_over_sigma))
        return q, rng.random(10_000) < 0.65
    frame = logs.read(log)
    some = (frame["radius"] > 0).to_numpy()
    q = np.full(len(frame), 0.5)
    q[some] = (np.maximum(max_failures(frame["radius"].to_numpy()[some], N, ALPHA, sigma), 0) + 0.7) / (N + 0.4)
    return q, frame["correct"].to_numpy(bool) | ~some


def drawn(q: Floats, network: Counts | None = None) -> Counts:
    """Counts at failure rates q, equal for equal requests; `network` is asked too, for the time it takes."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        if network is not None:
            network(stream, images, start, n)
        if stream == SELECTION:
            return np.stack([n, np.zeros_like(n)], 1)
        draws = zip(images.tolist(), start.tolist(), n.tolist(), strict=True)
        failures = np.array([np.random.default_rng([i, first]).binomial(m, q[i]) for i, first, m in draws])
        return np.stack([n - failures, failures], 1)

    return counts


def bench(depth: int, options: argparse.Namespace) -> dict[str, Any]:
    sigma, seconds = options.sigma, options.seconds
    network = resnet(depth, sigma)
    with FlopCounterMode(display=False) as counter:
        network(image(0)[None])
    flops = counter.get_total_flops()
    print(f"\nResNet-{depth}, {flops / 1e6:.0f} MFLOP an evaluation, sigma {sigma}")

    def fastest(make: Callable[[int], Run], batches: tuple[int, ...]) -> tuple[int, float]:
        """The best batch, each tried twice in turn."""
        runs = {batch: make(batch) for batch in batches}
        for batch, run in runs.items():
            run(min(batch, 128))
        tried = {b: max(rate(run, b, seconds / 2, 1000 * 20 / depth) for _ in range(2)) for b, run in runs.items()}
        print("  batches tried:", ", ".join(f"{batch}: {value:.0f}/s" for batch, value in tried.items()), flush=True)
        return max(tried.items(), key=lambda item: item[1])

    contestants: dict[str, tuple[Run, int, float]] = {}
    print(" Cohen's loop")
    best, guess = fastest(lambda batch: cohen(network, sigma, batch), COHEN_BATCHES)
    contestants["Cohen's loop, batch 1000"] = cohen(network, sigma, 1000), 1000, guess / 2
    contestants[f"Cohen's loop, batch {best}"] = cohen(network, sigma, best), best, guess
    reference = f"Cohen's loop, batch {best}"
    peer = None
    if importlib.util.find_spec("art"):
        print(" Adversarial Robustness Toolbox")
        batch, guess = fastest(lambda batch: art(network, sigma, batch), COHEN_BATCHES[:-1])
        peer = f"ART certify, batch {batch}"
        contestants[peer] = art(network, sigma, batch), batch, guess
    else:
        print(" Adversarial Robustness Toolbox: not installed, not compared")
    print(" transmooth, bf16")
    batch, guess = fastest(lambda batch: ours(network, sigma, batch, "bf16", False)[0], OUR_BATCHES)
    samplers: dict[str, Sampler] = {}
    for dtype, compile in (("fp32", True), ("bf16", True), ("fp32", False), ("bf16", False)):
        name = f"transmooth, {dtype}{', compiled' * compile}, batch {batch}"
        run, samplers[name] = ours(network, sigma, batch, dtype, compile)
        started = time.perf_counter()
        run(batch)
        if compile:
            print(f"  {name}: first batch, compilation included, {time.perf_counter() - started:.0f} s")
        contestants[name] = run, batch, guess
    us = name  # the last one, bf16 as the commands run it: no command compiles

    rates: dict[str, list[float]] = {name: [] for name in contestants}
    peaks, shares = [], []
    for _ in range(options.rounds):
        for name, (run, size, guess) in contestants.items():
            rates[name].append(rate(run, size, seconds, guess))
        peaks.append(convolution_peak(batch))
        shares.append(100 * rates[us][-1] * flops / peaks[-1])
    print(f" {'fixed n':40} evaluations/s                s an image, n = 100 000    x Cohen's best")
    against = {name: [a / b for a, b in zip(mine, rates[reference], strict=True)] for name, mine in rates.items()}
    for name, mine in rates.items():
        times = [(N0 + N) / value for value in mine]
        print(f" {name:40} {spread(mine, 0):28} {spread(times, 1):26} {spread(against[name])}")
    print(
        f" bf16 convolution peak {spread([peak / 1e9 for peak in peaks], 0)} GFLOP/s; {us}: {spread(shares, 0)} % of it"
    )

    ratios = end_to_end(samplers[us], contestants[reference], rates[us], options)
    return {
        "fixed_vs_cohen_best": against[us],
        "fixed_vs_cohen_1000": [a / b for a, b in zip(rates[us], rates["Cohen's loop, batch 1000"], strict=True)],
        "fixed_vs_art": [a / b for a, b in zip(rates[us], rates[peer], strict=True)] if peer else None,
        **ratios,
        "percent_of_convolution_peak": shares,
        "evaluations_per_second": rates,
    }


def end_to_end(
    sampler: Sampler, loop: tuple[Run, int, float], fixed: list[float], options: argparse.Namespace
) -> dict[str, list[float]]:
    q, right = failure_rates(options.log, options.sigma)
    plan = GridPlan(options.sigma, RADII, ALPHA, N)
    ids, labels = np.arange(len(q)), np.where(right, 0, 1)
    cost = certify(drawn(q), ids, plan, N0, labels).evaluations
    unknown = certify(drawn(q), ids, plan, N0).evaluations.mean()
    print(
        f" end to end: sequential needs {cost.mean():.0f} evaluations an image, {(N + N0) / cost.mean():.1f} times "
        f"fewer than {N + N0} (labels not known: {unknown:.0f}, {(N + N0) / unknown:.1f} times)"
    )
    # Images that fit the time, from the cheapest to the dearest, a different set in each round.
    affordable = ids[right & (cost <= options.seconds * 2 * np.median(fixed))]
    affordable = affordable[np.argsort(cost[affordable], kind="stable")]
    picks = affordable[np.linspace(0, len(affordable) - 1, options.rounds * options.images).astype(int)]
    ours_seconds, cohen_seconds = [], []
    for turn in range(options.rounds):
        some = picks[turn :: options.rounds]
        started = time.perf_counter()
        decisions = certify(drawn(q, sampler), some, plan, N0, labels[some])
        ours_seconds.append((time.perf_counter() - started) / decisions.evaluations.sum() * cost.mean())
        cohen_seconds.append((N0 + N) / rate(loop[0], loop[1], options.seconds, loop[2]))
    ratios = [b / a for a, b in zip(ours_seconds, cohen_seconds, strict=True)]
    print(f" s an image: sequential {spread(ours_seconds)}, Cohen's loop {spread(cohen_seconds, 1)}")
    print(f" ratio {spread(ratios, 1)}; labels not known {spread([r * cost.mean() / unknown for r in ratios], 1)}")
    return {
        "end_to_end_vs_cohen_best": ratios,
        "end_to_end_vs_cohen_best_labels_unknown": [float(r * cost.mean() / unknown) for r in ratios],
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of short runs instead of 7 longer ones")
    parser.add_argument("--log", type=Path, help="take the success rates from this log")
    parser.add_argument("--sigma", type=float, default=0.5, help="of the noise, and of the log")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine that is otherwise idle")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    options.rounds, options.seconds, options.images = (3, 3.0, 6) if options.quick else (7, 8.0, 12)
    torch.set_num_threads(options.threads)
    print(f"{processor()}, {options.threads} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"torch {torch.__version__}, {options.rounds} rounds, success rates: {options.log or 'curve'}")
    networks = {f"resnet{depth}": bench(depth, options) for depth in (20, 110)}

    def lowest(key: str) -> float | None:
        """Median over the rounds, of the network where we gain least."""
        found = [float(np.median(network[key])) for network in networks.values() if network[key]]
        return round(min(found), 3) if found else None

    keys = ("fixed_vs_cohen_best", "fixed_vs_cohen_1000", "fixed_vs_art", "end_to_end_vs_cohen_best")
    summary = {key: lowest(key) for key in keys}
    print("\nlowest of the networks' medians:", summary)
    if options.json:
        print(json.dumps(summary | {"threads": options.threads, "networks": networks}))


if __name__ == "__main__":
    main()
