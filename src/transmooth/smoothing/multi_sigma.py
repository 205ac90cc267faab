"""Certify ONE classifier that is made of the smoothed classifiers at several σ, its stages.

A rule, `cascade` or `margin`, turns the scores u_{k,c}(x) = σ_k Φ⁻¹(P[f_k(x + σ_k δ) = c]) of all stages into an answer
and a radius.  It is defined for every input, also for those without a certificate: no test image, no other image and
no memory has a part in it.

Of an image, n0 selection samples at each σ choose the class c; then n estimation samples at each σ bound the scores
of c from below and those of all other classes at once from above, by Clopper–Pearson bounds at equal shares of α:

    L_k = −σ_k Φ⁻¹( U(n − n_c) ),   U_k = σ_k Φ⁻¹( U(max_{c'≠c} n_{c'}) ) ≤ −L_k

U as in `two_sided_radius`, where the bound on all other classes is proved.  So P[radius > true radius] ≤ α for each
image, whatever joint law the noises at the σ have: they may share their randomness.

A stage is asked only while what it could say would change the radius.  That spends nothing of α: the bounds of all
stages hold together with probability 1 − α whether they are looked at or not, and one that is not is replaced by
L = −∞, U = ∞, which always hold.

If the `radii` that reports show are given, a stage is asked in looks, at n/64, n/16, n/4 and n samples.  A stage or an
image ends when more samples will hardly change how many of these radii it reaches.  Each bound of each stage is then
wrong at each look with probability α/(looks × bounds) at most.  So all bounds hold together with probability 1 − α,
whatever the look at which an image ends, and the reason.  When to end is a guess, by bounds at
`GIVE_UP` that also count the selection samples: it may cost radius, and never α.
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
    """What makes one classifier of several σ, and its certificate.

    radius: (low [B, m], high [B, m], thresholds [m]) → [B].  bounds_at_once: stages → how many of these must hold
    together.  of_all: `high` bounds the scores of c, too.
    """

    radius: Callable[[Floats, Floats, Floats], Floats]
    bounds_at_once: Callable[[int], int]
    of_all: bool = False

    def highest(self, top: Ints, runner_up: Ints) -> Ints:
        """Return the counts that bound `high`."""
        return np.maximum(top, runner_up) if self.of_all else runner_up


# The last two are the cascade with the radii that others give it, to compare with.
RULES: Mapping[str, Rule] = {
    "cascade": Rule(cascade.radius, cascade.bounds_at_once),
    "margin": Rule(margin.radius, margin.bounds_at_once),
    "multiscale": Rule(cascade.published_radius, cascade.bounds_at_once),
    "dual_rs": Rule(cascade.published_radius, cascade.bounds_at_once, of_all=True),
}

LOOKS, RATIO, FEWEST = 4, 4, 64  # how often an image is looked at, at most, and after how many samples at least
GIVE_UP = 0.01


@dataclass(frozen=True)
class Stages:
    """A classifier of several σ: the name of its rule, and of each stage σ and the threshold τ ≥ 0, in order."""

    rule: str
    sigmas: tuple[float, ...]
    thresholds: tuple[float, ...]

    def radius(self, top: Ints, runner_up: Ints, n: Ints, alpha: float, looks: int = 1) -> Floats:
        """Return the certified radius [B], 0 where nothing is certified, from counts [B, m] of estimation samples.

        top: of the class that was selected.  runner_up: of the most frequent other one.  n: 0 where a stage was not
        asked.  looks: how many looks there were to choose n from.
        """
        rule = RULES[self.rule]
        share = alpha / (looks * rule.bounds_at_once(len(self.sigmas)))
        low, high = score_bounds(top, rule.highest(top, runner_up), n, self.sigmas, share)
        return np.maximum(0.0, rule.radius(low, high, np.array(self.thresholds)))

    def select(self, seen: Ints) -> Ints:
        """Return the class [B] to certify, from counts [B, m, K] of selection samples.

        Of the most frequent classes of the stages the one with the largest radius if shares were probabilities, the
        first of equals.  One stage: its most frequent class, the lowest on ties.
        """
        rule, candidates = RULES[self.rule], seen.argmax(2)
        n0 = seen[:, :1].sum(2) + 1  # half a sample is added to each count, so that no score is infinite
        radii = []
        for candidate in candidates.T:
            top, runner_up = zip(*(split(stage, candidate) for stage in seen.swapaxes(0, 1)), strict=True)
            own, other = np.stack(top, 1), np.stack(runner_up, 1)
            low, high = (ndtri((each + 0.5) / n0) * self.sigmas for each in (own, rule.highest(own, other)))
            radii.append(rule.radius(low, high, np.array(self.thresholds)))
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
    whole: bool = False,
) -> tuple[Stages, float]:
    """Return the stages with the best score on held-out images, and it: the certified accuracy at `radius`, or ACR.

    seen: counts [N, σ, K].  Tried are all subsets of the sigmas, in their order, or all of them alone if `whole`, with
    every threshold σ Φ⁻¹(share), share ≥ 1/2; of equals the fewest stages and the smallest thresholds.  The score takes
    the counts of the label for those of the selected class.  It certifies nothing: the stages are certified on other
    noise, and reported on other images.
    """
    top, runner_up = (np.stack(each, 1) for each in zip(*(split(k, labels) for k in seen.swapaxes(0, 1)), strict=True))
    n, tau = seen.sum(2), ndtri(np.array(shares))
    best: tuple[Stages, float] | None = None
    for count in range(len(sigmas) if whole else 1, len(sigmas) + 1):
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


def looks(n: int, radii: Sequence[float] | None) -> list[int]:
    """Return after how many samples of a stage an image is looked at, n at last: once, unless `radii` are given."""
    sizes = [-(-n // RATIO**back) for back in reversed(range(LOOKS if radii else 1))]
    return [size for size in sizes[:-1] if size >= FEWEST] + [n]


def certify(
    counts: Sequence[Counts],
    images: Ints,
    stages: Stages,
    *,
    n0: int,
    n: int,
    alpha: float,
    radii: Sequence[float] | None = None,
    labels: Ints | None = None,
) -> tuple[Decisions, ...]:
    """Certify images; return the decisions of each stage, whose `prediction` and `radius` are those of the classifier.

    counts: of each stage.  `n` of a stage that was not asked is 0.  radii: ends images early, see above.  With
    `labels`, an image whose selected class is wrong stops after the selection.
    """
    zeros = np.zeros_like(images)
    seen = np.stack([draw(each, SELECTION, images, zeros, zeros + n0) for each in counts], 1)
    selected = stages.select(seen)
    tried = np.ones(len(images), bool) if labels is None else selected == labels
    drawn, sizes = np.zeros_like(seen), looks(n, radii)

    def reached(top: Ints, runner_up: Ints, asked: Ints) -> Floats:
        """Return what has to grow: the radius, or the number of `radii` that it reaches."""
        radius = stages.radius(top, runner_up, asked, alpha, len(sizes))
        return radius if radii is None else np.where(radius > 0, np.searchsorted(radii, radius, "right"), 0.0)

    for size in sizes:
        for stage, each in enumerate(counts):
            now = _split(drawn, selected)
            likely = _shares(*_split(seen + drawn, selected)) if radii else (np.ones(1), np.zeros(1))
            most = _at_best(*now, *likely, n)
            wanted = tried & (now[2][:, stage] < size) & (reached(*most) > reached(*now))
            if size < n:  # the stage may be asked later, so only where it has a part in what can be reached
                others = np.arange(len(counts)) != stage
                without = (np.where(others, best, had) for best, had in zip(most, now, strict=True))
                wanted &= reached(*most) > reached(*without)
            if (some := np.flatnonzero(wanted)).size:
                start = now[2][some, stage]
                drawn[some, stage] += draw(each, ESTIMATION, images[some], start, size - start)
    top, runner_up, asked = _split(drawn, selected)
    radius = stages.radius(top, runner_up, asked, alpha, len(sizes))
    return tuple(
        Decisions(
            selected=selected,
            prediction=np.where(radius > 0, selected, ABSTAIN),
            radius=radius,
            n=asked[:, stage],
            top_count=top[:, stage],
            runner_up=runner_up[:, stage],
            evaluations=n0 + asked[:, stage],
        )
        for stage in range(len(counts))
    )


def _split(drawn: Ints, selected: Ints) -> tuple[Ints, Ints, Ints]:
    """Return [B, m] of counts [B, m, K]: of the selected class, of the most frequent other one, of all classes."""
    pairs = [split(stage, selected) for stage in drawn.swapaxes(0, 1)]
    return np.stack([top for top, _ in pairs], 1), np.stack([second for _, second in pairs], 1), drawn.sum(2)


def _shares(top: Ints, runner_up: Ints, n: Ints) -> tuple[Floats, Floats]:
    """Return the largest share of c and the smallest of another class that the counts let expect."""
    return failure_upper(top, n, GIVE_UP), 1 - failure_upper(n - runner_up, n, GIVE_UP)


def _at_best(top: Ints, runner_up: Ints, asked: Ints, most: Floats, least: Floats, n: int) -> tuple[Ints, Ints, Ints]:
    """Return the counts after n samples if the share of c is `most` and of another class `least` in those to come."""
    left = n - asked
    return top + np.ceil(most * left).astype(np.int64), runner_up + (least * left).astype(np.int64), asked + left
