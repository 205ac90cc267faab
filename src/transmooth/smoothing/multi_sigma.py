"""Certify ONE classifier that is made of the smoothed classifiers at several σ, its stages.

A rule, `cascade` or `margin`, turns the scores u_{k,c}(x) = σ_k Φ⁻¹(P[f_k(x + σ_k δ) = c]) of all stages into an answer
and a radius.  It is defined for every input, also for those that nobody certified: no test image, no other image and
no memory has a part in it.

Of an image, n0 selection samples at each σ choose the class c; then n estimation samples at each σ bound the scores
of c from below and those of all other classes at once from above, by Clopper–Pearson bounds at equal shares of α:

    L_k = −σ_k Φ⁻¹( U(n − n_c) ),   U_k = σ_k Φ⁻¹( U(max_{c'≠c} n_{c'}) ) ≤ −L_k

U as in `two_sided_radius`, where the bound on all other classes is proved.  So P[radius > true radius] ≤ α for each
image, whatever joint law the noises at the σ have: they may share their randomness.

A stage is asked only while what it could say would change the radius.  That spends nothing of α: the bounds of all
stages hold together with probability 1 − α whether they are looked at or not, and one that is not is replaced by
L = −∞, U = ∞, which always hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.special import ndtri

from transmooth.smoothing import cascade, margin
from transmooth.smoothing.bounds import Floats, Ints, failure_upper
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, SELECTION, Counts, Decisions, draw, split


@dataclass(frozen=True)
class Rule:
    """What makes one classifier of several σ.

    radius: (low [B, m], high [B, m], thresholds [m]) → [B].  bounds_at_once: stages → how many of these must hold
    together.
    """

    radius: Callable[[Floats, Floats, Floats], Floats]
    bounds_at_once: Callable[[int], int]


RULES: Mapping[str, Rule] = {
    "cascade": Rule(cascade.radius, cascade.bounds_at_once),
    "margin": Rule(margin.radius, margin.bounds_at_once),
}


@dataclass(frozen=True)
class Stages:
    """A classifier of several σ: the name of its rule, and of each stage σ and the threshold τ ≥ 0, in order."""

    rule: str
    sigmas: tuple[float, ...]
    thresholds: tuple[float, ...]

    def radius(self, top: Ints, runner_up: Ints, n: Ints, alpha: float) -> Floats:
        """Return the certified radius [B], 0 where nothing is certified, from counts [B, m] of estimation samples.

        top: of the class that was selected.  runner_up: of the most frequent other one.  n: 0 where a stage was not
        asked.
        """
        share = alpha / RULES[self.rule].bounds_at_once(len(self.sigmas))
        low, high = score_bounds(top, runner_up, n, self.sigmas, share)
        return np.maximum(0.0, RULES[self.rule].radius(low, high, np.array(self.thresholds)))

    def select(self, seen: Ints) -> Ints:
        """Return the class [B] to certify, from counts [B, m, K] of selection samples.

        Of the most frequent classes of the stages the one with the largest radius if shares were probabilities, the
        first of equals.  One stage: its most frequent class, the lowest on ties.
        """
        candidates = seen.argmax(2)
        n0 = seen[:, :1].sum(2) + 1  # half a sample is added to each count, so that no score is infinite
        radii = []
        for candidate in candidates.T:
            top, runner_up = zip(*(split(stage, candidate) for stage in seen.swapaxes(0, 1)), strict=True)
            low, high = (ndtri((np.stack(each, 1) + 0.5) / n0) * self.sigmas for each in (top, runner_up))
            radii.append(RULES[self.rule].radius(low, high, np.array(self.thresholds)))
        best = np.stack(radii, 1).argmax(1)[:, None]
        return np.take_along_axis(candidates, best, 1)[:, 0]


def score_bounds(top: Ints, runner_up: Ints, n: Ints, sigmas: Sequence[float], share: float) -> tuple[Floats, Floats]:
    """Return L ≤ u_c and U ≥ u_c' for all c' ≠ c, float64 [B, m] each, from counts [B, m]; each fails at rate `share`.

    Without samples (n = 0) they are −∞ and ∞.
    """
    not_c = failure_upper(n - top, n, share)
    return -np.array(sigmas) * ndtri(not_c), np.array(sigmas) * ndtri(failure_upper(runner_up, n, share))


def choose(
    seen: Ints,
    labels: Ints,
    sigmas: Sequence[float],
    rule: str,
    alpha: float,
    shares: Sequence[float] = (0.5, 0.6, 0.7),
    radius: float | None = None,
) -> tuple[Stages, float]:
    """Return the stages with the best score on held-out images, and it: the certified accuracy at `radius`, or ACR.

    seen: counts [N, σ, K].  Tried are all subsets of the sigmas, in their order, with every threshold
    σ Φ⁻¹(share), share ≥ 1/2; of equals the fewest stages and the smallest thresholds.  The score takes the counts of
    the label for those of the selected class.  It certifies nothing: the stages are certified on other noise, and
    reported on other images.
    """
    top, runner_up = (np.stack(each, 1) for each in zip(*(split(k, labels) for k in seen.swapaxes(0, 1)), strict=True))
    n, tau = seen.sum(2), ndtri(np.array(shares))
    best: tuple[Stages, float] | None = None
    for count in range(1, len(sigmas) + 1):
        for subset in map(list, combinations(range(len(sigmas)), count)):
            for thresholds in product(tau.tolist(), repeat=count):
                chosen = tuple(sigmas[k] for k in subset)
                made = Stages(rule, chosen, tuple(s * t for s, t in zip(chosen, thresholds, strict=True)))
                radii = made.radius(top[:, subset], runner_up[:, subset], n[:, subset], alpha)
                certified = radii.mean() if radius is None else ((radii > 0) & (radii >= radius)).mean()
                score = float(certified)
                if best is None or score > best[1]:
                    best = made, score
    assert best is not None
    return best


def certify(
    counts: Sequence[Counts],
    images: Ints,
    stages: Stages,
    *,
    n0: int,
    n: int,
    alpha: float,
    labels: Ints | None = None,
) -> tuple[Decisions, ...]:
    """Certify images; return the decisions of each stage, whose `prediction` and `radius` are those of the classifier.

    counts: of each stage.  `n` of a stage that was not asked is 0.  With `labels`, an image whose selected class is
    wrong stops after the selection.
    """
    zeros = np.zeros_like(images)
    seen = np.stack([draw(each, SELECTION, images, zeros, zeros + n0) for each in counts], 1)
    selected = stages.select(seen)
    top, second, asked = (np.zeros((len(images), len(counts)), np.int64) for _ in range(3))
    left = np.arange(len(images)) if labels is None else np.flatnonzero(selected == labels)
    for stage, each in enumerate(counts):
        if left.size:
            drawn = draw(each, ESTIMATION, images[left], zeros[left], zeros[left] + n)
            top[left, stage], second[left, stage] = split(drawn, selected[left])
            asked[left, stage] = n
        # The most that the stages not asked could add: no sample of another class at all.
        most = stages.radius(np.where(asked > 0, top, n), second, np.full_like(asked, n), alpha)
        left = left[(most > stages.radius(top, second, asked, alpha))[left]]
    radius = stages.radius(top, second, asked, alpha)
    return tuple(
        Decisions(
            selected=selected,
            prediction=np.where(radius > 0, selected, ABSTAIN),
            radius=radius,
            n=asked[:, stage],
            top_count=top[:, stage],
            runner_up=second[:, stage],
            evaluations=n0 + asked[:, stage],
        )
        for stage in range(len(counts))
    )
