"""Cohen's procedure: a fixed number of samples (Cohen, Rosenfeld, Kolter 2019, CERTIFY)."""

import numpy as np

from transmooth.smoothing.bounds import Ints, radius
from transmooth.smoothing.decision import ABSTAIN, ESTIMATION, Counts, Decisions, draw, select, split


def certify(counts: Counts, images: Ints, *, sigma: float, n0: int, n: int, alpha: float) -> Decisions:
    """n0 selection samples choose the class, n fresh estimation samples bound its probability.

        c = argmax of the selection counts,   k = estimation count of c
        p = Beta^-1(alpha; k, n - k + 1),     R = sigma Phi^-1(p),   abstain if p <= 1/2

    Per image, P[R exceeds the true radius] <= alpha.
    """
    zeros = np.zeros_like(images)
    selected = select(counts, images, n0)
    top_count, runner_up = split(draw(counts, ESTIMATION, images, zeros, zeros + n), selected)
    certified = radius(n - top_count, n, alpha, sigma)
    return Decisions(
        selected=selected,
        prediction=np.where(certified > 0, selected, ABSTAIN),
        radius=certified,
        n=zeros + n,
        top_count=top_count,
        runner_up=runner_up,
        evaluations=zeros + n0 + n,
    )
