"""Where the time of a certification goes: noise, network, counting; and within the network, which kernels.

    python -m benchmarks.shares resnet20 resnet110        # of benchmarks/networks.py, fp32
    python -m benchmarks.shares vit --dtype bf16

The engine is the one that `transmooth certify` chooses.  Noise and counting are the sampler's time with a network that
answers at once; kernels are those of the deployed network run eagerly, whose names a compiled program does not keep.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.certify import ALPHA, IMAGES, N0, N, image, rate
from benchmarks.certify import ours as certification
from benchmarks.networks import MAKERS, make
from transmooth.smoothing.engine import prepare, processor

SIGMA, SECONDS = 0.5, 4.0
# By a part of the kernel's name: what the field calls it.
KINDS = {
    "conv": "convolutions",
    "mkldnn_reorder": "changes of layout",
    "mm": "matrix products",
    "attention": "attention",
    "norm": "norms",
    "relu": "activations",
    "gelu": "activations",
    "silu": "activations",
    "clamp": "activations",
    "add": "sums",
    "copy": "copies",
    "pool": "pooling",
    "mean": "pooling",
}


def kernels(network: torch.nn.Module, noisy: torch.Tensor) -> dict[str, float]:
    """Return the share of each kind of kernel in the network's own time, the largest first."""
    with torch.no_grad():
        network(noisy)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            network(noisy)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        kind = next((kind for part, kind in KINDS.items() if part in event.key), "everything else")
        times[kind] += event.self_cpu_time_total
    whole = sum(times.values())
    return {kind: spent / whole for kind, spent in times.most_common() if spent / whole >= 0.01}


def shares(name: str, dtype: str) -> None:
    size, network = MAKERS[name][0], make(name)
    some = torch.stack([image(index, size) for index in range(4)])
    engine = prepare(network, some, SIGMA, IMAGES * (N0 + N), dtype=dtype)
    deployed = prepare(network, some, SIGMA, 0, dtype=dtype, engine="eager", batch=engine.batch)
    noisy = torch.rand(engine.batch, size, size, 3)
    with torch.no_grad():
        logits = engine.run(noisy)
        started = time.perf_counter()
        engine.run(noisy)
        alone = engine.batch / (time.perf_counter() - started)
    idle = replace(engine, run=lambda noisy: logits)
    whole = rate(certification(engine, SIGMA, size), engine.batch, SECONDS, alone)
    rest = rate(certification(idle, SIGMA, size), engine.batch, SECONDS / 4, 20 * alone)
    print(f"\n{name}, {dtype}, {engine.name}, batch {engine.batch}: {whole:.1f} evaluations a second")
    print(f"  {whole / rest:6.1%}  noise, counting, rows")
    print(f"  {1 - whole / rest:6.1%}  network, of which, run eagerly:")
    for kind, share in kernels(deployed.run, noisy).items():  # type: ignore[arg-type]
        print(f"          {share:6.1%}  {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=MAKERS, metavar="NETWORK", help=", ".join(MAKERS))
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, torch {torch.__version__}, one thread, alpha {ALPHA}")
    for name in options.networks:
        shares(name, options.dtype)


if __name__ == "__main__":
    main()
