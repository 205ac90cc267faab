"""The certification methods, by the names that studies, the command line and records use.

cohen             fixed n, Clopper–Pearson on the selected class (Cohen et al. 2019, CERTIFY)
cohen_two_sided   fixed n, with a bound on the runner-up too: larger radii where no class has a clear majority
sequential        decides a grid of `radii` with as few samples as each image needs, n at most
adaptive          a pilot picks each image's n, at most the given one; for the ACR
cascade, margin   one classifier of several σ, each with n samples at most, fewer where `radii` are given; the cascade
multiscale,       with the smaller radii of other papers (see `multi_sigma`)
dual_rs

All hold the same guarantee, for every image by itself: P[certified radius > true radius] ≤ alpha.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from transmooth.params.values import AnyMethod
from transmooth.smoothing import adaptive, cohen, multi_sigma, sequential
from transmooth.smoothing.bounds import (
    Ints,
    check_integer,
    check_probability,
    check_sigma,
    max_radius,
    min_samples,
    two_sided_radius,
)
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, Counts, Decisions, draw, select, split


@dataclass(frozen=True)
class Settings:
    """How to certify.

    n: samples of an image at each σ, at most where the method may stop.  radii: that `sequential` decides, and that a
    classifier of several σ may stop for.  tolerance: of `sequential` alone, see `GridPlan`; None is its own.  stages: σ
    and threshold of each stage of a classifier of several σ, in order.
    """

    method: AnyMethod
    n0: int
    n: int
    alpha: float
    radii: Sequence[float] | None = None
    seed: int = 0
    tolerance: float | None = None
    stages: tuple[tuple[float, float], ...] | None = None

    def together(self, sigmas: Iterable[float]) -> list[tuple[float, ...]]:
        """Return the sigmas that an image is certified at together: each by itself, or all stages of one classifier."""
        return [(sigma,) for sigma in sigmas] if self.stages is None else [tuple(sigma for sigma, _ in self.stages)]

    @property
    def early(self) -> bool:
        """Whether most images take far fewer samples than n."""
        return self.method == "adaptive" or self.radii is not None


Method = Callable[[Counts, Ints, Ints | None, float, Settings], Decisions]


def _cohen(counts: Counts, images: Ints, labels: Ints | None, sigma: float, settings: Settings) -> Decisions:
    return cohen.certify(counts, images, sigma=sigma, n0=settings.n0, n=settings.n, alpha=settings.alpha)


def _cohen_two_sided(counts: Counts, images: Ints, labels: Ints | None, sigma: float, settings: Settings) -> Decisions:
    n = np.full(len(images), settings.n)
    selected = select(counts, images, settings.n0)
    seen = draw(counts, ESTIMATION, images, np.zeros_like(n), n)
    radius = two_sided_radius(seen, selected, settings.alpha, sigma)
    top_count, runner_up = split(seen, selected)
    return Decisions(
        selected=selected,
        prediction=np.where(radius > 0, selected, ABSTAIN),
        radius=radius,
        n=n,
        top_count=top_count,
        runner_up=runner_up,
        evaluations=settings.n0 + n,
    )


def _sequential(counts: Counts, images: Ints, labels: Ints | None, sigma: float, settings: Settings) -> Decisions:
    plan = _grid(sigma, tuple(settings.radii or ()), settings.alpha, settings.n, settings.tolerance)
    return sequential.certify(counts, images, plan, settings.n0, labels)


def _adaptive(counts: Counts, images: Ints, labels: Ints | None, sigma: float, settings: Settings) -> Decisions:
    plan = adaptive.RadiusPlan(sigma, settings.alpha, settings.n)
    return adaptive.certify(counts, images, plan, settings.n0, labels)


# (counts, images, labels or None, sigma, settings) → Decisions.  With labels, `sequential` and `adaptive` stop after
# the selection where it chose a wrong class: such an image scores 0 at every radius, whatever more samples say.
METHODS: Mapping[str, Method] = {
    "cohen": _cohen,
    "cohen_two_sided": _cohen_two_sided,
    "sequential": _sequential,
    "adaptive": _adaptive,
}


def decide(
    counts: Sequence[Counts], images: Ints, labels: Ints | None, sigmas: Sequence[float], settings: Settings
) -> tuple[Decisions, ...]:
    """Return the decisions at each of the sigmas that images are certified at together; counts: of each of them."""
    if settings.method in METHODS:
        return (METHODS[settings.method](counts[0], images, labels, sigmas[0], settings),)
    n0, n, alpha, radii = settings.n0, settings.n, settings.alpha, settings.radii
    stages = stages_of(settings)
    return multi_sigma.certify(counts, images, stages, n0=n0, n=n, alpha=alpha, radii=radii, labels=labels)


def stages_of(settings: Settings) -> multi_sigma.Stages:
    """Return the stages of a classifier of several σ."""
    sigmas, thresholds = zip(*(settings.stages or ()), strict=True)
    return multi_sigma.Stages(settings.method, sigmas, thresholds)


@lru_cache(maxsize=8)
def _grid(sigma: float, radii: tuple[float, ...], alpha: float, n: int, tolerance: float | None) -> sequential.GridPlan:
    """One plan for all chunks: its boundaries take a second."""
    plan = sequential.GridPlan(sigma, radii, alpha, n)
    return plan if tolerance is None else replace(plan, tolerance=tolerance)


def evaluations(settings: Settings, most: bool = False) -> int:
    """The forward passes that an image takes at a sigma: at most, or about; some methods stop at a tenth of n."""
    return settings.n0 + (settings.n // 10 if settings.early and not most else settings.n)


def check(settings: Settings, sigma: float) -> None:
    """Refuse, before any work, what could never certify.

    Raises ValueError for an unknown method, numbers that are no integers, sigma ≤ 0, alpha outside (0, 1),
    n0 < 1, `radii` or `stages` missing or in vain, or an n that certifies nothing even if no sample fails.
    """
    method, n, radii = settings.method, settings.n, settings.radii
    if method not in (known := (*METHODS, *multi_sigma.RULES)):
        raise ValueError(f"unknown method {method!r}; there are {', '.join(known)}")
    if (method in multi_sigma.RULES) != bool(settings.stages):
        several = ", ".join(multi_sigma.RULES)
        raise ValueError(f"{several}, and no other method, take several sigmas; got {method} with {settings.stages}")
    for name in ("n0", "n", "seed"):
        check_integer(name, getattr(settings, name))
    check_sigma(sigma)
    check_probability("alpha", settings.alpha)
    if settings.n0 < 1:
        raise ValueError(f"n0 (selection samples) must be at least 1, got {settings.n0}")
    if method in METHODS and (method == "sequential") != (radii is not None):
        raise ValueError(
            f"sequential, and no other method at one sigma, takes a grid of radii; got {method} with radii {radii}"
        )
    if settings.tolerance is not None and method != "sequential":
        raise ValueError(f"sequential, and no other method, takes a tolerance; got {method}")
    alpha = settings.alpha / 2 if method == "cohen_two_sided" else settings.alpha
    if settings.stages:
        sigmas, thresholds = zip(*settings.stages, strict=True)
        if len(set(sigmas)) < len(sigmas) or sigma not in sigmas:
            raise ValueError(f"each sigma should be one stage, got {', '.join(map(str, sigmas))}")
        if not all(0 <= threshold < math.inf for threshold in thresholds):
            raise ValueError(f"thresholds should be ≥ 0 and finite, got {', '.join(map(str, thresholds))}")
        alpha /= multi_sigma.RULES[method].bounds_at_once(len(sigmas)) * len(multi_sigma.looks(n, radii))
    if n < (fewest := min_samples(alpha)):
        raise ValueError(
            f"n = {n} samples can never certify at alpha = {settings.alpha}: {method} needs at least {fewest}"
        )
    if radii is not None:
        smallest = _grid(sigma, tuple(radii), alpha, n, settings.tolerance).radii[0]  # also checks the grid
        if smallest > (reach := float(max_radius(n, alpha, sigma))):
            raise ValueError(
                f"n = {n} samples certify at most {reach:.4f} at sigma = {sigma}; radii start at {smallest}"
            )
