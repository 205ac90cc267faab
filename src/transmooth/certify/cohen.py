"""Cohen's procedure: a fixed number of samples (Cohen, Rosenfeld, Kolter 2019, CERTIFY)."""

import numpy as np

from transmooth.certify.bounds import radius
from transmooth.certify.decision import ABSTAIN, Decisions
from transmooth.certify.sampler import Counts, Ints
from transmooth.noise import ESTIMATION, SELECTION


def certify(counts: Counts, images: Ints, *, sigma: float, n0: int, n: int, alpha: float) -> Decisions:
    """n0 selection samples choose the class, n fresh estimation samples bound its probability.

        c = argmax of the selection counts,   k = estimation count of c
        p = Beta^-1(alpha; k, n - k + 1),     R = sigma Phi^-1(p),   abstain if p <= 1/2

    Per image, P[R exceeds the true radius] <= alpha.
    """
    zeros = np.zeros_like(images)
    selected = counts(SELECTION, images, zeros, zeros + n0).argmax(1)
    top_count = np.take_along_axis(counts(ESTIMATION, images, zeros, zeros + n), selected[:, None], 1)[:, 0]
    certified = radius(n - top_count, n, alpha, sigma)
    return Decisions(
        selected=selected,
        prediction=np.where(certified > 0, selected, ABSTAIN),
        radius=certified,
        n=zeros + n,
        top_count=top_count,
        evaluations=zeros + n0 + n,
    )
