"""How fast is certification, against the loop of Cohen et al. and the Adversarial Robustness Toolbox?

    python -m benchmarks.certify --quick                  # resnet20 and resnet110, three short rounds
    python -m benchmarks.certify --networks vit,denoised  # other networks of benchmarks/networks.py
    python -m benchmarks.certify --json                   # ends with one line of JSON
    python -m benchmarks.certify --device cuda            # on a GPU; benchmarks/gpu.py measures more there
    python -m benchmarks.certify --log LOG --sigma 0.25   # success rates of the images from a published log

What is measured is what `transmooth certify` runs: the engine that it chooses for 1000 images at n = 100 000, and its
loop over images, from the counts to the rows.  At the end the command itself runs on a few images, and its own rate
stands beside.  All contestants take turns in one process, several rounds; a ratio is taken within a round, and shown as
median (lowest to highest).  The loop of Cohen et al. is written here from its description: repeat the image, add randn
* sigma, argmax, count on the CPU, in float32, at its best batch.

Fixed n: evaluations a second.  End to end: the sequential method at radii 0, 0.25, 0.5, 0.75, 1 and n_max = 100 000,
against that loop at n = 100 000, with labels known to ours only, and to neither.  A random network answers one class
only, so its evaluations are timed and its answers replaced by draws at the success rates of the log, or of a curve:
that of Cohen et al. at sigma 0.5 (params/published.csv: 65 % right at radius 0, 32 % at 0.75, 22 % at 1), linear
between.  It decides much: at sigma 0.25, where radius 1 is out of reach and many images sit near thresholds, the same
method saves half as much.  Two numbers are extrapolated linearly.  The seconds of the loop are 100 100
evaluations at its measured rate.  The seconds of the sequential method are the mean number of evaluations over the
whole log or curve, at the rate that a few images show.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import ndtr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import MAKERS, make
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.smoothing.bounds import Floats, Ints, max_failures
from transmooth.smoothing.chunks import certify_chunks
from transmooth.smoothing.decision import SELECTION, Counts
from transmooth.smoothing.engine import Engine, prepare, processor
from transmooth.smoothing.methods import Settings
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.sequential import GridPlan, certify

ROOT = Path(__file__).parents[1]
RADII, ALPHA, N0, N, IMAGES = (0.0, 0.25, 0.5, 0.75, 1.0), 0.001, 100, 100_000, 1000
QUICK = ("resnet20", "resnet110")
COHEN_BATCHES = {"cpu": (8, 32, 64, 128, 256, 1000), "cuda": (256, 512, 1024, 2048, 4096)}
# What shows a peak, or how: images, (channels, size) of 3x3 convolutions, the side of a matrix, calls in a row.
PEAKS = {
    "cpu": (64, ((16, 32), (32, 16), (64, 8), (128, 16)), 1024, 1),
    "quick": (4, ((16, 32),), 128, 1),
    "cuda": (1024, ((128, 32), (256, 16), (512, 8)), 8192, 10),
}

# Evaluate this many noisy samples.
Run = Callable[[int], Any]


@cache
def image(index: int, size: int) -> Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(index))


def cohen(network: nn.Module, sigma: float, batch: int, size: int) -> Run:
    x = image(0, size).to(next(network.parameters()).device)

    @torch.no_grad()
    def run(n: int) -> int:
        counts: Ints | int = 0
        while n > 0:
            now = min(n, batch)
            repeated = x.repeat(now, 1, 1, 1)
            predictions = network(repeated + torch.randn_like(repeated) * sigma).argmax(1)
            counts = counts + np.bincount(predictions.cpu().numpy(), minlength=1000)
            n -= now
        return int(np.argmax(counts))

    return run


def art(network: nn.Module, sigma: float, batch: int, size: int) -> Run:
    from art.estimators.certification.randomized_smoothing import (  # type: ignore[import-not-found]
        PyTorchRandomizedSmoothing,
    )

    device = next(network.parameters()).device
    classes = int(network(image(0, size)[None].to(device)).shape[1])
    peer = PyTorchRandomizedSmoothing(
        network,
        nn.CrossEntropyLoss(),
        (3, size, size),
        classes,
        device_type="cpu" if device.type == "cpu" else "gpu",
        sample_size=1,
        scale=sigma,
        alpha=ALPHA,
    )
    return lambda n: peer.certify(image(0, size).numpy()[None], n=n - 1, batch_size=batch)


def ours(engine: Engine, sigma: float, size: int) -> Run:
    """The command's loop over images, for one, in full batches: a selection sample of one would cost a batch."""

    def run(n: int) -> Any:
        settings = Settings("cohen", engine.batch, n - engine.batch, ALPHA)
        return list(certify_chunks({sigma: engine}, lambda index: image(index, size), [(sigma, 0, 0)], settings))

    return run


def command(name: str, classes: int, engine: Engine, dtype: str, sigma: float, n: int) -> float:
    """Evaluations a second of `transmooth certify`, by its records, on two images of a folder."""
    size = MAKERS[name][0]
    with tempfile.TemporaryDirectory() as folder:
        pictures, out = Path(folder) / "pictures", Path(folder) / "records.parquet"
        for index in range(classes):
            (pictures / f"{index:04}").mkdir(parents=True)
            Image.new("RGB", (size, size), (index % 256, 100, 100)).save(pictures / f"{index:04}" / "0.png")
        line = [sys.executable, "-m", "transmooth", "certify", f"benchmarks.networks:{name}", pictures, "--images", 2]
        line += ["--sigma", sigma, "--n", n, "--engine", engine.name, "--batch", engine.batch, "--dtype", dtype]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        if engine.device.type == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""  # it takes a GPU that it sees
        subprocess.run([*map(str, line), "--out", str(out)], check=True, capture_output=True, env=environment)
        frame = records.read(out).to_pandas()
        return float(frame["evaluations"].sum() / frame["seconds"].sum())


def peaks(device: torch.device, dtype: torch.dtype, sizes: str) -> dict[str, float]:
    """FLOP/s of the fastest 3x3 convolution of a few, channels-last, and of a matrix product, alone."""
    batch, shapes, side, calls = PEAKS[sizes]
    found = {"convolution": 0.0, "product": 0.0}
    for channels, size in shapes:
        x = torch.randn(batch, channels, size, size, dtype=dtype, device=device).to(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, dtype=dtype, device=device).to(memory_format=torch.channels_last)
        for _ in range(10):
            seconds = timed(partial(F.conv2d, x, w, padding=1), device, calls)
            flops = 2 * 9 * channels**2 * size**2 * batch * calls / seconds
            found["convolution"] = max(found["convolution"], flops)
    a = torch.randn(side, side, dtype=dtype, device=device)
    for _ in range(10):
        seconds = timed(partial(torch.matmul, a, a), device, calls)
        found["product"] = max(found["product"], 2 * side**3 * calls / seconds)
    return found


def timed(run: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Seconds of so many calls, and of what they leave a GPU to do."""
    wait: Callable[[], Any] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return time.perf_counter() - started


def rate(run: Run, batch: int, seconds: float, guess: float) -> float:
    """Evaluations a second over about that many seconds of full batches, two at least."""
    n = max(2, round(guess * seconds / batch)) * batch
    started = time.perf_counter()
    run(n)
    return n / (time.perf_counter() - started)


def spread(values: list[float], digits: int = 2) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def failure_rates(log: Path | None, sigma: float, images: int) -> tuple[Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Of each image, the failure rate of the selected class and whether that class is right.

    Rates are read back from the radii of a log.  An abstention is taken as right, with a rate of 1/2: it costs samples.
    """
    if log is None:
        rng = np.random.default_rng(0)
        shares, radii_over_sigma = (1, 0.32 / 0.65, 0.22 / 0.65, 0), (0, 1.5, 2, 4)
        q = ndtr(-np.interp(1 - rng.random(images), [1 - share for share in shares], radii_over_sigma))
        return q, rng.random(images) < 0.65
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


def bench(name: str, options: argparse.Namespace) -> dict[str, Any]:
    sigma, seconds, size = options.sigma, options.seconds, MAKERS[name][0]
    device = torch.device(options.device)
    network = make(name).to(device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classes = network(image(0, size)[None].to(device)).shape[1]
    flops = counter.get_total_flops()
    print(f"\n{name}: {flops / 1e6:.0f} MFLOP an evaluation at {size}x{size}, sigma {sigma}")
    with torch.no_grad():
        first = 8 / timed(lambda: network(image(0, size).repeat(8, 1, 1, 1).to(device)), device)

    def fastest(make: Callable[..., Run]) -> tuple[Run, int, float]:
        """The contestant at its best batch, each tried twice in turn."""
        batches = [
            batch
            for batch in COHEN_BATCHES[device.type]
            if batch <= max(256 if device.type == "cuda" else 8, 2 * seconds * first)
        ]
        runs = {batch: make(network, sigma, batch, size) for batch in batches}
        tried = {b: max(rate(run, b, seconds / 4, first) for _ in range(2)) for b, run in runs.items()}
        print("  batches tried:", ", ".join(f"{batch}: {value:.1f}/s" for batch, value in tried.items()), flush=True)
        best, value = max(tried.items(), key=lambda item: item[1])
        return runs[best], best, value

    contestants: dict[str, tuple[Run, int, float]] = {}
    print(" Cohen's loop")
    contestants["cohen"] = fastest(cohen)
    if importlib.util.find_spec("art"):
        print(" Adversarial Robustness Toolbox")
        contestants["art"] = fastest(art)
    engines: dict[str, Engine] = {}
    some = torch.stack([image(index, size) for index in range(4)])
    for dtype in ("fp32", "bf16"):
        started = time.perf_counter()
        engine = prepare(network, some, sigma, IMAGES * (N0 + N), dtype=dtype)
        print(
            f" transmooth {dtype}: {engine.name}, batch {engine.batch}; chosen in {time.perf_counter() - started:.0f} s"
        )
        engines[dtype] = engine
        contestants[dtype] = ours(engine, sigma, size), engine.batch, engine.rate or first
        rate(*contestants[dtype][:2], 0, 1)

    rates: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    shares: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(options.rounds):
        for contestant, (run, batch, guess) in contestants.items():
            rates[contestant].append(rate(run, batch, seconds, guess))
        for dtype in engines:
            peak = max(peaks(device, torch.float32 if dtype == "fp32" else torch.bfloat16, device.type).values())
            shares[dtype].append(100 * rates[dtype][-1] * flops / peak)
    against = {each: [a / b for a, b in zip(mine, rates["cohen"], strict=True)] for each, mine in rates.items()}
    print(f" {'fixed n':10} {'evaluations/s':28} {'s an image, n = 100 000':30} x Cohen's loop")
    for contestant, mine in rates.items():
        times = [(N0 + N) / value for value in mine]
        print(f" {contestant:10} {spread(mine, 1):28} {spread(times, 1):30} {spread(against[contestant])}")
    best = max(engines, key=lambda dtype: float(np.median(rates[dtype])))
    print(f" {spread(shares[best], 0)} % of the peak of convolutions and products in {best}")
    n = max(2 * engines[best].batch, int(np.median(rates[best]) * seconds))
    typed = command(name, classes, engines[best], best, sigma, n)
    print(f" `transmooth certify benchmarks.networks:{name} … --dtype {best}`: {typed:.1f}/s by its records")
    run, batch, guess = contestants["cohen"]
    ratios = end_to_end(engines[best], (run, batch, guess), rates[best], size, options)
    return {
        "dtype": best,
        "engines": {dtype: [engine.name, engine.batch] for dtype, engine in engines.items()},
        "fixed_vs_cohen": against[best],
        "fixed_vs_art": [a / b for a, b in zip(rates[best], rates["art"], strict=True)] if "art" in rates else None,
        **ratios,
        "percent_of_peak": shares,
        "evaluations_per_second": rates,
        "command": typed,
    }


@cache
def demand(
    log: Path | None, sigma: float, images: int
) -> tuple[Floats, np.ndarray[Any, np.dtype[np.bool_]], Ints, float]:
    """Failure rates and rightness of images, the evaluations that each needs, and their mean without labels."""
    q, right = failure_rates(log, sigma, images)
    plan, ids = GridPlan(sigma, RADII, ALPHA, N), np.arange(len(q))
    cost = certify(drawn(q), ids, plan, N0, np.where(right, 0, 1)).evaluations
    return q, right, cost, float(certify(drawn(q), ids, plan, N0).evaluations.mean())


def end_to_end(
    engine: Engine, loop: tuple[Run, int, float], fixed: list[float], size: int, options: argparse.Namespace
) -> dict[str, list[float]]:
    sampler = Sampler(engine, lambda index: image(index % 100, size), options.sigma)
    q, right, cost, unknown = demand(options.log, options.sigma, options.curve)
    plan = GridPlan(options.sigma, RADII, ALPHA, N)
    ids, labels = np.arange(len(q)), np.where(right, 0, 1)
    print(
        f" end to end: sequential needs {cost.mean():.0f} evaluations an image, {(N + N0) / cost.mean():.1f} times "
        f"fewer than {N + N0} (labels not known: {unknown:.0f}, {(N + N0) / unknown:.1f} times)"
    )
    # Images that fit the time, from the cheapest to the dearest, a different set in each round.
    affordable = ids[right & (cost <= options.seconds * 2 * np.median(fixed))]
    affordable = affordable[np.argsort(cost[affordable], kind="stable")]
    if affordable.size < options.rounds * options.images:
        print(" end to end: this network is too slow to be timed on images")
        return {}
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
        "end_to_end": ratios,
        "end_to_end_without_labels": [float(r * cost.mean() / unknown) for r in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of short runs instead of 7 longer ones")
    parser.add_argument("--networks", help=f"of {','.join(MAKERS)}; else {','.join(QUICK)}")
    parser.add_argument("--log", type=Path, help="take the success rates from this log")
    parser.add_argument("--sigma", type=float, default=0.5, help="of the noise, and of the log")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 only on a machine that is otherwise idle")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    options.rounds, options.seconds, options.images = (3, 3.0, 6) if options.quick else (7, 8.0, 12)
    options.curve = 10_000
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        print(torch.cuda.get_device_name())
    print(f"{processor()}, {options.threads} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"torch {torch.__version__}, {options.rounds} rounds, success rates: {options.log or 'curve'}")
    networks = {name: bench(name, options) for name in (options.networks or ",".join(QUICK)).split(",")}
    keys = ("fixed_vs_cohen", "fixed_vs_art", "end_to_end", "end_to_end_without_labels")
    medians = {
        name: {key: round(float(np.median(found[key])), 2) for key in keys if found.get(key)}
        for name, found in networks.items()
    }
    print("\nmedians:", json.dumps(medians))
    if options.json:
        print(json.dumps({"processor": processor(), "threads": options.threads, "networks": networks}))


if __name__ == "__main__":
    main()
