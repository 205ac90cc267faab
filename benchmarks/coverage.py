"""How often does a certified radius exceed the true one, and what does it cost?

    python benchmarks/coverage.py                      # 10⁶ simulated images at each rate, all three methods
    python benchmarks/coverage.py --json coverage.json
    python benchmarks/coverage.py --log LOG --sigma 0.25   # evaluations a published log would have needed

An image is its failure rate q; a look at it is a binomial draw. Rates: the thresholds of the grid (where a
test may fail with probability α, and no more), just around them, and far away.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import bdtrc, ndtr

from transmooth.records import logs
from transmooth.smoothing import adaptive, sequential
from transmooth.smoothing.bounds import Floats, Ints, max_failures, radius
from transmooth.smoothing.decision import ABSTAIN, SELECTION, Counts, Decisions

SIGMA, ALPHA, RADII, N0 = 0.5, 0.001, (0.0, 0.25, 0.5, 0.75, 1.0), 100
AT_A_TIME = 250_000


def drawn(q: Floats, rng: np.random.Generator) -> Counts:
    """Counts of image i with failure rate q[i]; class 0 is always the one selected."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        failures = np.zeros_like(n) if stream == SELECTION else rng.binomial(n, q[images])
        return np.stack([n - failures, failures], 1)

    return counts


def fixed(counts: Counts, images: Ints, sigma: float, n: int) -> Decisions:
    """Cohen et al.: one look at n samples."""
    every = np.full(len(images), n)
    top = counts(sequential.ESTIMATION, images, np.zeros_like(every), every)[:, 0]
    r = radius(n - top, n, ALPHA, sigma)
    return Decisions(every * 0, np.where(r > 0, 0, ABSTAIN), r, every, top, N0 + every)


def methods(sigma: float, n: int) -> dict[str, Any]:
    grid, real = sequential.GridPlan(sigma, RADII, ALPHA, n), adaptive.RadiusPlan(sigma, ALPHA, n)
    return {
        "fixed": lambda counts, images: fixed(counts, images, sigma, n),
        "sequential": lambda counts, images: sequential.certify(counts, images, grid, N0),
        "adaptive": lambda counts, images: adaptive.certify(counts, images, real, N0),
    }


def simulate(images: int, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per method and true radius; INVALID when so many failures have p < 10⁻⁴ at rate α."""
    true = np.unique([-0.1, 1.6, *RADII, *np.add(RADII, 0.002), *np.subtract(RADII[1:], 0.002)])
    for name, certify in methods(SIGMA, n).items():
        for r in true.tolist():
            rng = np.random.default_rng([seed, round(1000 * (r + 1)), len(name)])
            q = float(ndtr(-r / SIGMA))
            failures = evaluations = 0
            for first in range(0, images, AT_A_TIME):
                ids = np.arange(min(AT_A_TIME, images - first))
                got = certify(drawn(np.full(len(ids), q), rng), ids)
                # On the grid r is true when q < Φ(−r/σ): a claim of exactly the true radius is false.
                false = got.radius >= r if name == "sequential" else got.radius > r
                failures += int((false & (got.prediction != ABSTAIN)).sum())
                evaluations += int(got.evaluations.sum())
            yield {
                "method": name,
                "radius": r,
                "failures": failures,
                "failures/alpha": failures / images / ALPHA,
                "error": math.sqrt(max(failures, 1)) / images / ALPHA,
                "evaluations": evaluations / images,
                "verdict": "valid" if bdtrc(failures - 1, images, ALPHA) >= 1e-4 else "INVALID",
            }


def replay(path: Path, sigma: float, n: int, seed: int) -> dict[str, Any]:
    """What the images of a log would have cost, with labels known: wrong ones stop after the selection.

    The failure rate of an image is read back from its radius. Images that abstained count as wrong.
    """
    frame = logs.read(path)
    right = (frame["correct"] & (frame["radius"] > 0)).to_numpy()
    failed = np.maximum(max_failures(frame["radius"].to_numpy()[right], n, ALPHA, sigma), 0)
    # The median failure rate behind a count: what was saturated is not free of failures.
    q = (failed + 0.7) / (n + 0.4)
    rng, ids = np.random.default_rng(seed), np.arange(right.sum())
    counts = drawn(q, rng)
    certify = methods(sigma, n)
    got, real = certify["sequential"](counts, ids), certify["adaptive"](counts, ids)
    # A fixed run on the same noise: it goes on to n where the sequential one stopped. And one on other noise.
    same = radius(got.n - got.top_count + rng.binomial(n - got.n, q), n, ALPHA, sigma)
    other = certify["fixed"](counts, ids).radius

    def decisions(r: Floats, certified: Any) -> Any:
        return certified[:, None] & (r[:, None] >= np.array(RADII))

    asked, one, two = (
        decisions(got.radius, got.prediction == 0),
        decisions(same, same > 0),
        decisions(other, other > 0),
    )
    wrong = len(frame) - len(ids)
    cost = {name: (float(d.evaluations.sum()) + N0 * wrong) / len(frame) for name, d in (("s", got), ("a", real))}
    full = (float(N0 + n) * len(ids) + N0 * wrong) / len(frame)
    return {
        "log": path.name,
        "sigma": sigma,
        "images": len(frame),
        "sequential evaluations": cost["s"],
        "times fewer than Cohen": (N0 + n) / cost["s"],
        "times fewer, labels known to both": full / cost["s"],
        "same noise: all decisions equal": 1 - float((asked != one).any(1).sum()) / len(frame),
        "two fixed runs: all equal": 1 - float((two != one).any(1).sum()) / len(frame),
        "certified accuracy changes by": float(np.abs(asked.sum(0) - one.sum(0)).max()) / len(frame),
        "adaptive evaluations": cost["a"],
        "adaptive: times fewer, labels known": full / cost["a"],
        "ACR given up": 1 - float(real.radius.sum() / same.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="replay this log instead")
    parser.add_argument("--sigma", type=float, help="the sigma of the log")
    arguments = parser.parse_args()
    if (arguments.log is None) != (arguments.sigma is None):
        parser.error("--log and --sigma go together")
    rows = []
    if arguments.log:
        rows.append(replay(arguments.log, arguments.sigma, arguments.n, arguments.seed))
        for name, value in rows[0].items():
            print(f"{name:34} {value:.5g}" if isinstance(value, float) else f"{name:34} {value}")
    else:
        print(f"sigma {SIGMA}, alpha {ALPHA}, n {arguments.n}, {arguments.images} images at each true radius")
        print(f"{'method':10} {'radius':>7} {'failures/alpha':>15} {'±':>6} {'evaluations':>12}  verdict")
        for row in simulate(arguments.images, arguments.n, arguments.seed):
            print(
                f"{row['method']:10} {row['radius']:7.3f} {row['failures/alpha']:15.4f} {row['error']:6.3f} "
                f"{row['evaluations']:12.0f}  {row['verdict']}",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
