"""Certify a grid of radii with as few samples as each image needs: an exact group-sequential test.

Reports show certified accuracy at a few radii r_1 < … < r_J, so an image only has to be decided there. r_j is
certified when the failure rate q (of the selected class, under noise) is shown to be below q_j = Φ(−r_j/σ).
Failures are looked at after n_1 < … < n_K samples only:

    certify r_j    at look k, when failures ≤ C[j, k], and only if all smaller radii are certified
    give up r_j    at look k, when failures ≥ F[j, k]: a certificate by n_K has become too unlikely

Validity, for every image: P[certified radius > true radius] ≤ α.
- C[j] comes from the exact law of the failures under q = q_j: P[failures ≤ C[j, k] at some look k] ≤ α. For
  q > q_j the failures are stochastically larger, so the probability only falls.
- No correction over the grid: a false claim needs the FIRST radius of the sequence that is not true to be
  crossed.
- None for giving up: stopping early, by any rule, can only lose certificates.
The selected class comes from other samples, the looks are those of the plan, and the stopped counts are never
handed to a fixed-n bound such as Clopper–Pearson (that fails 8 to 22 times too often).

Sources: Lan and DeMets (1983), error spending; Maurer, Hothorn and Lehmacher (1995), fixed sequence; the
thresholds are those of Cohen et al. (2019).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, ndtr, ndtri, xlog1py, xlogy

from transmooth.smoothing.bounds import Floats, Ints, check_probability, check_sigma
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, Counts, Decisions, draw, select, split

_CUT = 1e-18  # tail mass the recursion may drop at a look; it is booked as spent, so dropping is safe


@dataclass(frozen=True)
class GridPlan:
    """When to look, and what to conclude, for a grid of radii in the units of the image.

    alpha: failure probability per image. n_max: the last look; radii that even n_max clean samples cannot
    certify are never sampled for. batch, ratio: looks are multiples of `batch`, growing by `ratio`. final:
    share of α kept for the last look (the rest is spread over the earlier ones). futility: give up a radius
    when the chance to certify it by n_max falls below this; 0 only gives up what is impossible. All but alpha
    trade samples for power, never validity.

        GridPlan(sigma=0.5, radii=(0.0, 0.25, 0.5, 0.75, 1.0))
    """

    sigma: float
    radii: tuple[float, ...]
    alpha: float = 0.001
    n_max: int = 100_000
    batch: int = 256
    ratio: float = 1.1
    final: float = 0.8
    futility: float = 0.002

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_probability("alpha", self.alpha)
        grid = np.asarray(self.radii, np.float64)
        rising = grid.ndim == 1 and grid.size > 0 and grid[0] >= 0 and bool((np.diff(grid) > 0).all())
        if not (rising and np.isfinite(grid).all()):
            raise ValueError(
                f"radii must be a non-empty list of finite numbers ≥ 0 in increasing order, each once, got {self.radii}"
            )
        if self.n_max < 1 or self.batch < 1:
            raise ValueError(f"n_max and batch must be at least 1, got n_max {self.n_max} and batch {self.batch}")
        if not 1 <= self.ratio < math.inf:
            raise ValueError(f"ratio (growth from look to look) must be at least 1, got {self.ratio}")
        if not 0 < self.final <= 1:
            raise ValueError(f"final (share of alpha for the last look) must be in (0, 1], got {self.final}")
        if not 0 <= self.futility < 0.5:
            raise ValueError(
                f"futility (chance below which a radius is given up) must be in [0, 0.5), got {self.futility}"
            )

    @cached_property
    def looks(self) -> Ints:
        """Sample sizes n_1 < … < n_K = n_max [K]."""
        sizes, x = [self.n_max], float(self.batch)
        while x < 0.97 * self.n_max:  # a look just before the last would cost α and save nothing
            sizes.append(math.ceil(x / self.batch) * self.batch)
            x = max(x * self.ratio, x + self.batch)
        looks = np.unique(sizes)
        return looks[looks <= self.n_max]

    @cached_property
    def thresholds(self) -> Floats:
        """Failure rates q_j = Φ(−r_j/σ) [J]; r_j is true exactly when q < q_j."""
        return np.asarray(ndtr(-np.asarray(self.radii) / self.sigma), np.float64)

    @cached_property
    def certify_at(self) -> Ints:
        """C [J, K]: the most failures that certify; −1 where none does. Falls with j and rises with k."""
        early = np.arange(1, len(self.looks)) * (1 - self.final) / max(len(self.looks) - 1, 1)
        budget = np.append(early, 1.0) * self.alpha * (1 - 1e-6)  # leaves room for rounding
        bounds = [efficacy(self.looks, float(q), budget) for q in self.thresholds]
        return np.minimum.accumulate(np.stack(bounds), axis=0)

    @cached_property
    def give_up_at(self) -> Ints:
        """F [J, K] > C: the fewest failures that give a radius up; 0 for a radius out of reach."""
        last = self.certify_at[:, -1:]
        bounds = np.where(last < 0, 0, np.maximum(futility(self.looks, last, self.futility), self.certify_at + 1))
        return np.minimum.accumulate(bounds, axis=0)


def efficacy(looks: Ints, q: float, budget: Floats) -> Ints:
    """C [K], as large as possible with P_q[failures ≤ C_i at some look i ≤ k] ≤ budget_k.

    Forward recursion on the exact law of the failures not yet certified; what the integers leave of a look's
    budget passes on to the next. A look that can certify nothing new repeats the C before it, which no path
    can newly cross.
    """
    bounds, best = np.empty(len(looks), np.int64), -1
    law, offset, spent = np.ones(1), 0, 0.0
    for k, step in enumerate(np.diff(looks, prepend=0)):
        law, offset = _add(law, offset, int(step), q)
        spent += _CUT
        below = np.cumsum(law)
        cross = int(np.searchsorted(below, budget[k] - spent, side="right"))
        if cross:
            best = offset + cross - 1
            spent += float(below[cross - 1])
            law, offset = law[cross:], offset + cross
        bounds[k] = best
    return bounds


def crossing_probability(looks: ArrayLike, bounds: ArrayLike, q: float) -> float:
    """P_q[failures ≤ bounds_k at some look k]: power at a true rate q, type-I error at a threshold."""
    law, offset, crossed = np.ones(1), 0, 0.0
    for step, bound in zip(np.diff(np.asarray(looks), prepend=0), np.asarray(bounds), strict=True):
        law, offset = _add(law, offset, int(step), q)
        cross = min(max(int(bound) - offset + 1, 0), law.size)
        crossed += float(law[:cross].sum())
        law, offset = law[cross:], offset + cross
        if not law.size:
            break
    return crossed


def _add(law: Floats, offset: int, trials: int, q: float) -> tuple[Floats, int]:
    """The law of X + Bin(trials, q), where P[X = offset + i] = law[i]; far upper tail dropped (≤ _CUT)."""
    spread = 12 * math.sqrt(trials * q * (1 - q)) + 52  # Bernstein: less than 1e-30 lies outside
    low, high = max(0, math.floor(trials * q - spread)), min(trials, math.ceil(trials * q + spread))
    k = np.arange(low, high + 1)
    choose = gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)
    law = np.convolve(law, np.exp(choose + xlogy(k, q) + xlog1py(trials - k, -q)))
    tail = int(np.searchsorted(np.cumsum(law[::-1]), _CUT / 2))
    return law[: law.size - tail], offset + low


def futility(looks: Ints, last: Ints, eps: float) -> Ints:
    """F [J, K]: the fewest failures at which P[failures at n_K ≤ last] < eps, for last [J, 1].

    Predictive probability under a uniform prior on q: beta-binomial, in its normal approximation, which is
    good enough since giving up costs no validity. At the last look it is certain: F = last + 1.
    """
    n, rest = looks[:-1], looks[-1] - looks[:-1]
    low, high = np.broadcast_arrays(np.zeros_like(last), n + 1)
    low, high = low.copy(), high.copy()
    while (low < high).any():
        f = (low + high) // 2
        a, b = f + 1, n - f + 1
        mean = a / (a + b)
        sd = np.sqrt(rest * mean * (1 - mean) * (1 + (rest - 1) / (a + b + 1)))
        hopeless = (f > last) | ((last - f + 0.5 - rest * mean) / sd < ndtri(eps))
        high = np.where(hopeless, f, high)
        low = np.where(hopeless | (low >= high), low, f + 1)
    return np.concatenate([low, last + 1], axis=1)


def certify(
    counts: Counts, images: ArrayLike, plan: GridPlan, n0: int = 100, labels: ArrayLike | None = None
) -> Decisions:
    """Certify images on the grid of `plan`; all images still undecided ask for their next look together.

    radius is the largest certified one of the grid; the prediction abstains when not even r_1 is certified.
    With `labels`, an image whose selected class is wrong stops after the selection and abstains: it scores 0
    at every radius either way, and `selected` tells it from an image that was tried. Raises ValueError.
    """
    ids = np.asarray(images, np.int64)
    selected = select(counts, ids, n0)
    # level: how many radii of the grid are certified so far
    level, n = np.zeros_like(ids), np.zeros_like(ids)
    seen: Ints = np.zeros((len(ids), 1), np.int64)
    tried = np.ones(len(ids), bool) if labels is None else selected == np.asarray(labels)
    active = np.flatnonzero(tried & (plan.give_up_at[:, 0] > 0).any())
    for look, most, fewest in zip(plan.looks, plan.certify_at.T, plan.give_up_at.T, strict=True):
        if not active.size:
            break
        new = draw(counts, ESTIMATION, ids[active], n[active], look - n[active])
        if not seen.any():
            seen = np.zeros((len(ids), new.shape[1]), np.int64)
        seen[active] += new
        n[active] = look
        failures = look - np.take_along_axis(seen[active], selected[active][:, None], 1)
        level[active] = np.maximum(level[active], (failures <= most).sum(1))
        active = active[level[active] < (failures < fewest).sum(1)]
    top, second = split(seen, selected) if seen.any() else (np.zeros_like(ids), np.zeros_like(ids))
    return Decisions(
        selected=selected,
        prediction=np.where(level > 0, selected, ABSTAIN),
        radius=np.where(level > 0, np.asarray(plan.radii, np.float64)[level - 1], 0.0),
        n=n,
        top_count=top,
        runner_up=second,
        evaluations=n0 + n,
    )
