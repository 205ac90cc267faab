"""How often does a certified radius exceed the true one, and what does it cost?

    python benchmarks/coverage.py                      # 10⁶ simulated images at each rate, all three methods
    python benchmarks/coverage.py --several            # the same of one classifier of several σ
    python benchmarks/coverage.py --json coverage.json
    python benchmarks/coverage.py --log LOG --sigma 0.25   # evaluations a published log would have needed

Of several σ an image is the scores of the class and of the others at each σ: equal ones where any of the bounds may be
too large, different ones where the next stage, or a wrong class, decides.

Otherwise an image is its failure rate q; a look at it is a binomial draw. Rates: the thresholds of the grid (where a
test may fail with probability α, and no more), just around them, and far away.

Of a log: the evaluations of Cohen et al. over those of the sequential method, three ways. A wrong image is one with
another class than the label: a program that knows the labels stops there after the selection. An abstention costs
all, n0 + n by Cohen and what the method takes at q = 1/2 by us, with labels too: the log does not tell which class it
had selected.

Of the bound: samples that any sequential test needs which certifies r_j with the probabilities p_j(·) that ours has,
over the samples that ours takes, both on average over the images that are right (Wald 1945; Hoeffding 1960):

    E_q[N] ≥ sup over q' of max_j d(p_j(q), p_j(q')) / d(q, q'),   d(a, b) = a log(a/b) + (1 − a) log((1 − a)/(1 − b))
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import bdtrc, ndtr, ndtri, rel_entr

from transmooth.records import logs
from transmooth.smoothing import adaptive, multi_sigma, sequential
from transmooth.smoothing.bounds import Floats, Ints, max_failures, radius
from transmooth.smoothing.crossing import crossing_probability
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, SELECTION, Counts, Decisions

SIGMA, ALPHA, RADII, N0 = 0.5, 0.001, (0.0, 0.25, 0.5, 0.75, 1.0), 100
AT_A_TIME = 250_000
REPEATS = 20  # runs of each image of a log, in the mean


def drawn(q: Floats, rng: np.random.Generator) -> Counts:
    """Counts of image i with failure rate q[i]; class 0 is always the one selected."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        failures = np.zeros_like(n) if stream == SELECTION else rng.binomial(n, q[images])
        return np.stack([n - failures, failures], 1)

    return counts


def fixed(counts: Counts, images: Ints, sigma: float, n: int) -> Decisions:
    """Cohen et al.: one look at n samples."""
    every = np.full(len(images), n)
    top = counts(ESTIMATION, images, np.zeros_like(every), every)[:, 0]
    r = radius(n - top, n, ALPHA, sigma)
    return Decisions(every * 0, np.where(r > 0, 0, ABSTAIN), r, every, top, n - top, N0 + every)


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


def several(images: int, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per rule and image; `radius` is the true one."""
    sigmas = np.array([1.0, 0.5, 0.25])
    wrong = np.full(3, -1.5)  # of σ: each of three other classes is rare
    scenes = {
        "equal": (np.full(3, 0.3) / sigmas, wrong),
        "last": (np.array([-0.2, -0.1, 2.0]), wrong),
        "wrong": (np.array([-0.2, 0.5, 2.0]), np.array([-0.4, -1.0, -2.2])),
    }
    for name in multi_sigma.RULES:
        stages = multi_sigma.Stages(name, (1.0, 0.5, 0.25), (0.0, 0.0, 0.0))
        for scene, (own, others) in scenes.items():
            second = np.minimum(ndtr(others), 1 - ndtr(own))
            rest = (1 - ndtr(own) - second) / 2
            p = np.stack([ndtr(own), second, rest, rest], 1)
            top, other = sigmas * ndtri(p[:, 0]), sigmas * ndtri(p[:, 1:].max(1))
            true = float(multi_sigma.RULES[name].radius(top[None], other[None], np.zeros(3))[0])
            rng, failures = np.random.default_rng([seed, len(scene)]), 0
            for first in range(0, images, AT_A_TIME):
                size = min(AT_A_TIME, images - first)
                drawn = np.stack([rng.multinomial(n, each, size) for each in p], 1)
                found = stages.radius(drawn[..., 0], drawn[..., 1:].max(2), np.full((size, 3), n), ALPHA)
                failures += int((found > max(true, 0)).sum())
            yield {
                "method": f"{name}, {scene}",
                "radius": true,
                "failures": failures,
                "failures/alpha": failures / images / ALPHA,
                "error": math.sqrt(max(failures, 1)) / images / ALPHA,
                "evaluations": 3.0 * (N0 + n),
                "verdict": "valid" if bdtrc(failures - 1, images, ALPHA) >= 1e-4 else "INVALID",
            }


def replay(path: Path, sigma: float, n: int, seed: int) -> dict[str, Any]:
    """What the images of a log would have cost; the failure rate of an image is read back from its radius."""
    frame = logs.read(path)
    r, right = frame["radius"].to_numpy(), (frame["correct"] & (frame["radius"] > 0)).to_numpy()
    abstained = ~(r > 0)
    # The median failure rate behind a count: what was saturated is not free of failures.
    q = np.full(len(frame), 0.5)
    q[~abstained] = (np.maximum(max_failures(r[~abstained], n, ALPHA, sigma), 0) + 0.7) / (n + 0.4)
    tried, rng, certify = right | abstained, np.random.default_rng(seed), methods(sigma, n)

    def cost(method: str, images: Any) -> float:
        """Evaluations an image of the log, of those that are tried; the caller counts the rest."""
        rates = np.repeat(q[images], REPEATS)
        return float(certify[method](drawn(rates, rng), np.arange(len(rates))).evaluations.sum()) / REPEATS / len(frame)

    stopped = N0 * float((~tried).mean())
    labels, none, real = (
        cost("sequential", tried) + stopped,
        cost("sequential", q > 0),
        cost("adaptive", tried) + stopped,
    )
    both = float(N0 + n) * float(tried.mean()) + stopped

    counts, ids = drawn(q[right], rng), np.arange(right.sum())
    got, adapted = certify["sequential"](counts, ids), certify["adaptive"](counts, ids)
    # A fixed run on the same noise: it goes on to n where the sequential one stopped. And one on other noise.
    same = radius(got.n - got.top_count + rng.binomial(n - got.n, q[right]), n, ALPHA, sigma)
    other = certify["fixed"](counts, ids).radius

    def decisions(r: Floats, certified: Any) -> Any:
        return certified[:, None] & (r[:, None] >= np.array(RADII))

    asked, one, two = (
        decisions(got.radius, got.prediction == 0),
        decisions(same, same > 0),
        decisions(other, other > 0),
    )
    return {
        "log": path.name,
        "sigma": sigma,
        "images": len(frame),
        "sequential evaluations, with labels": labels,
        "sequential evaluations, no labels": none,
        "times fewer, labels for ours only": (N0 + n) / labels,
        "times fewer, labels known to both": both / labels,
        "times fewer, no labels": (N0 + n) / none,
        "share of the bound": share_of_bound(np.sort(q[right]), sigma, n, rng),
        "same noise: all decisions equal": 1 - float((asked != one).any(1).sum()) / len(frame),
        "two fixed runs: all equal": 1 - float((two != one).any(1).sum()) / len(frame),
        "certified accuracy changes by": float(np.abs(asked.sum(0) - one.sum(0)).max()) / len(frame),
        "adaptive evaluations": real,
        "adaptive: times fewer, labels known": both / real,
        "ACR given up": 1 - float(adapted.radius.sum() / same.sum()),
    }


def share_of_bound(rates: Floats, sigma: float, n: int, rng: np.random.Generator) -> float:
    """The bound on the samples over the samples taken, at 200 quantiles of the sorted failure rates."""
    plan = sequential.GridPlan(sigma, RADII, ALPHA, n)
    q = rates[((np.arange(200) + 0.5) / 200 * len(rates)).astype(int)]
    z = np.linspace(-0.1, 4.0, 400)  # the other rates
    every, at = np.unique(np.concatenate([q, ndtr(-z)]), return_inverse=True)
    bounds = list(zip(plan.certify_at, plan.give_up_at, strict=True))
    p = np.array([[crossing_probability(plan.looks, *pair, rate)[-1] for pair in bounds] for rate in every.tolist()])
    mine, p = np.minimum(p[at[: len(q)]], 1), np.clip(p, 1e-12, 1 - 1e-12)  # dropped tails must not raise the bound
    apart = rel_entr(q[:, None], every) + rel_entr(1 - q[:, None], 1 - every)
    decided = (rel_entr(mine[:, None], p) + rel_entr(1 - mine[:, None], 1 - p)).max(2)
    needed = np.divide(decided, apart, out=np.zeros_like(apart), where=apart > 1e-9).max(1)
    many = np.repeat(q, 500)
    return float(needed.mean() / sequential.certify(drawn(many, rng), np.arange(len(many)), plan, N0).n.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=Path, help="replay this log instead")
    parser.add_argument("--sigma", type=float, help="the sigma of the log")
    parser.add_argument("--several", action="store_true", help="simulate one classifier of several sigmas")
    arguments = parser.parse_args()
    if (arguments.log is None) != (arguments.sigma is None):
        parser.error("--log and --sigma go together")
    rows = []
    if arguments.log:
        rows.append(replay(arguments.log, arguments.sigma, arguments.n, arguments.seed))
        for name, value in rows[0].items():
            print(f"{name:34} {value:.5g}" if isinstance(value, float) else f"{name:34} {value}")
    else:
        sigmas = "1, 0.5, 0.25" if arguments.several else str(SIGMA)
        print(f"sigma {sigmas}, alpha {ALPHA}, n {arguments.n}, {arguments.images} images at each true radius")
        width = 16 if arguments.several else 10
        print(f"{'method':{width}} {'radius':>7} {'failures/alpha':>15} {'±':>6} {'evaluations':>12}  verdict")
        for row in (several if arguments.several else simulate)(arguments.images, arguments.n, arguments.seed):
            print(
                f"{row['method']:{width}} {row['radius']:7.3f} {row['failures/alpha']:15.4f} {row['error']:6.3f} "
                f"{row['evaluations']:12.0f}  {row['verdict']}",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
