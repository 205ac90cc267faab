"""The certification methods, by the names that studies, the command line and records use.

cohen             fixed n, Clopper–Pearson on the selected class (Cohen et al. 2019, CERTIFY)
cohen_two_sided   fixed n, with a bound on the runner-up too: larger radii where no class has a clear majority
sequential        decides a grid of `radii` with as few samples as each image needs, n at most
adaptive          a pilot picks each image's n, at most the given one; for the ACR

All hold the same guarantee, for every image by itself: P[certified radius > true radius] ≤ alpha.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from transmooth.smoothing import adaptive, cohen, sequential
from transmooth.smoothing.bounds import Ints, check_probability, check_sigma, max_radius, min_samples, two_sided_radius
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, Counts, Decisions, draw, select
from transmooth.smoothing.deploy import DTYPES

Spec = Mapping[str, Any]  # n0, n, alpha, and radii for `sequential`
Method = Callable[[Counts, Ints, Ints | None, float, Spec], Decisions]


def _cohen(counts: Counts, images: Ints, labels: Ints | None, sigma: float, spec: Spec) -> Decisions:
    return cohen.certify(counts, images, sigma=sigma, n0=spec["n0"], n=spec["n"], alpha=spec["alpha"])


def _cohen_two_sided(counts: Counts, images: Ints, labels: Ints | None, sigma: float, spec: Spec) -> Decisions:
    n = np.full(len(images), spec["n"])
    selected = select(counts, images, spec["n0"])
    seen = draw(counts, ESTIMATION, images, np.zeros_like(n), n)
    radius = two_sided_radius(seen, selected, spec["alpha"], sigma)
    return Decisions(
        selected=selected,
        prediction=np.where(radius > 0, selected, ABSTAIN),
        radius=radius,
        n=n,
        top_count=seen[np.arange(len(images)), selected],
        evaluations=spec["n0"] + n,
    )


def _sequential(counts: Counts, images: Ints, labels: Ints | None, sigma: float, spec: Spec) -> Decisions:
    plan = _grid(sigma, tuple(spec["radii"]), spec["alpha"], spec["n"])
    return sequential.certify(counts, images, plan, spec["n0"], labels)


def _adaptive(counts: Counts, images: Ints, labels: Ints | None, sigma: float, spec: Spec) -> Decisions:
    plan = adaptive.RadiusPlan(sigma, spec["alpha"], spec["n"])
    return adaptive.certify(counts, images, plan, spec["n0"], labels)


# (counts, images, labels or None, sigma, spec) → Decisions.  With labels, `sequential` and `adaptive` stop after the
# selection where it chose a wrong class: such an image scores 0 at every radius, whatever more samples say.
METHODS: Mapping[str, Method] = {
    "cohen": _cohen,
    "cohen_two_sided": _cohen_two_sided,
    "sequential": _sequential,
    "adaptive": _adaptive,
}


@lru_cache(maxsize=8)
def _grid(sigma: float, radii: tuple[float, ...], alpha: float, n: int) -> sequential.GridPlan:
    """One plan for all chunks: its boundaries take a second."""
    return sequential.GridPlan(sigma, radii, alpha, n)


def check(spec: Spec, sigma: float) -> None:
    """Refuse, before any work, what could never certify.

    Raises ValueError for an unknown method or dtype, numbers that are no integers, sigma ≤ 0, alpha outside (0, 1),
    n0 < 1, `radii` missing or in vain, or an n that certifies nothing even if no sample fails.
    """
    method, n, radii = spec["method"], spec["n"], spec.get("radii")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    for name in ("n0", "n", "seed"):
        if not isinstance(spec.get(name, 0), int | np.integer) or not 0 <= spec.get(name, 0) < 2**63:
            raise ValueError(f"{name} must be an integer from 0 to 2^63 - 1, got {spec[name]!r}")
    if spec.get("dtype", "fp32") not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {spec['dtype']!r}")
    check_sigma(sigma)
    check_probability("alpha", spec["alpha"])
    if spec["n0"] < 1:
        raise ValueError(f"n0 (selection samples) must be at least 1, got {spec['n0']}")
    if (method == "sequential") != (radii is not None):
        raise ValueError(f"sequential, and no other method, takes a grid of radii; got {method} with radii {radii}")
    alpha = spec["alpha"] / 2 if method == "cohen_two_sided" else spec["alpha"]
    if n < (fewest := min_samples(alpha)):
        raise ValueError(
            f"n = {n} samples can never certify at alpha = {spec['alpha']}: {method} needs at least {fewest}"
        )
    if radii is not None:
        smallest = _grid(sigma, tuple(radii), alpha, n).radii[0]  # also checks the grid
        if smallest > (reach := float(max_radius(n, alpha, sigma))):
            raise ValueError(
                f"n = {n} samples certify at most {reach:.4f} at sigma = {sigma}; radii start at {smallest}"
            )
