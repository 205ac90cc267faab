"""The choice of σ for each image by itself, on noise that certifies nothing."""

from collections.abc import Mapping

import numpy as np

from transmooth.smoothing.bounds import Floats, Ints, radius
from transmooth.smoothing.decision import Counts, draw

# A stream of its own: 0 to 2 select, estimate and pilot (decision.py), 3 and 4 choose one σ for all (smoothed.py).
OWN_SIGMA = 6
CHUNK = 256  # images whose pixels are kept on the device meanwhile


def choose(counts: Mapping[float, Counts], images: Ints, n0: int, alpha: float, labels: Ints | None = None) -> Floats:
    """Return σ for each image, float64 [N]: the one of the largest lower bound of a certified radius.

        σ_i = argmax_σ σ Φ⁻¹( LCB_α( k_σ; n0 ) ),    the smallest σ where no bound exceeds ½

    k_σ counts, of n0 noisy predictions at σ, the most frequent class, or labels[i] where labels [N] are given: only for
    images that are trained on, for a choice by label certifies no classifier.  counts: of each σ; all see the same
    noise, scaled.  The bound is no certificate, for the class is chosen on the same samples; σ_i is a function of the
    stream OWN_SIGMA alone, so whatever it is, it is a constant to the samples that certify at σ_i.
    """
    sigmas = sorted(counts)
    chosen = [np.zeros(0)]
    for first in range(0, len(images), CHUNK):
        some = images[first : first + CHUNK]
        zeros = np.zeros_like(some)
        bounds = []
        for sigma in sigmas:
            seen = draw(counts[sigma], OWN_SIGMA, some, zeros, zeros + n0)
            right = seen.max(1) if labels is None else seen[np.arange(len(some)), labels[first : first + CHUNK]]
            bounds.append(radius(n0 - right, n0, alpha, sigma))
        chosen.append(np.array(sigmas)[np.argmax(bounds, axis=0)])  # of equal ones the first, the smallest σ
    return np.concatenate(chosen)
