"""Certify a grid of radii with as few samples as each image needs: an exact group-sequential test.

Reports show certified accuracy at a few radii r_1 < … < r_J, so an image only has to be decided there. r_j is
certified when the failure rate q (of the selected class, under noise) is shown to be below q_j = Φ(−r_j/σ).
Failures are looked at after n_1 < … < n_K samples only:

    certify r_j    at look k, when failures ≤ C[j, k], not given up before, and all smaller radii are certified
    give up r_j    at look k, when failures ≥ F[j, k]: a certificate is not worth its samples any more

Validity, for every image: P[certified radius > true radius] ≤ α.
- For one radius: crossing.py has the proof. Giving up binds: C may be as large as it is because an image that
  reached F[j] never certifies r_j, not even with failures ≤ C[j] later. design.py makes the two cheap.
- No correction over the grid: a false claim needs the FIRST radius of the sequence that is not true to be
  crossed.
The selected class comes from other samples, the looks are those of the plan, and the stopped counts are never
handed to a fixed-n bound such as Clopper–Pearson (that fails 8 to 22 times too often).

Sources: Maurer, Hothorn and Lehmacher (1995), fixed sequence; the thresholds are those of Cohen et al. (2019).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from transmooth.smoothing import design
from transmooth.smoothing.bounds import Floats, Ints, check_probability, check_sigma
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, Counts, Decisions, draw, select, split


@dataclass(frozen=True)
class GridPlan:
    """When to look, and what to conclude, for a grid of radii in the units of the image.

    alpha: failure probability per image. n_max: the last look; radii that even n_max clean samples cannot
    certify are never sampled for. batch, ratio: looks are multiples of `batch`, growing by `ratio`. tolerance: the
    certificates that may be lost where that saves n_max samples. An image is given up when n_max / tolerance samples
    would not win one more, over a prior that is flat in R/σ. All but alpha trade samples for power, never validity.

        GridPlan(sigma=0.5, radii=(0.0, 0.25, 0.5, 0.75, 1.0))
    """

    sigma: float
    radii: tuple[float, ...]
    alpha: float = 0.001
    n_max: int = 100_000
    batch: int = 64
    ratio: float = 1.1
    tolerance: float = 0.075

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
        if not 0 < self.tolerance < math.inf:
            raise ValueError(
                f"tolerance (certificates per n_max samples) must be positive and finite, got {self.tolerance}"
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

    @property
    def certify_at(self) -> Ints:
        """C [J, K]: the most failures that certify; −1 where none does. Falls with j and rises with k."""
        return self._boundaries[0]

    @property
    def give_up_at(self) -> Ints:
        """F [J, K] > C: the fewest failures that give a radius up for good; 0 for a radius not sampled for."""
        return self._boundaries[1]

    @cached_property
    def _boundaries(self) -> tuple[Ints, Ints]:
        return design.boundaries(self.looks, self.thresholds, self.alpha, self.n_max / self.tolerance)


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
    # level: how many radii of the grid are certified so far; ceiling: how many were not given up at any look
    level, ceiling, n = np.zeros_like(ids), np.full_like(ids, len(plan.radii)), np.zeros_like(ids)
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
        level[active] = np.maximum(level[active], np.minimum((failures <= most).sum(1), ceiling[active]))
        ceiling[active] = np.minimum(ceiling[active], (failures < fewest).sum(1))
        active = active[level[active] < ceiling[active]]
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
