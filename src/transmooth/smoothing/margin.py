"""Answer with the class that is farthest above its threshold at any σ.

With the scores u_{k,c}(x) = σ_k Φ⁻¹(P[f_k(x + σ_k δ) = c]), δ ~ N(0, I), and thresholds τ_k:

    h(x) = argmax_c max_k (u_{k,c}(x) − τ_k)

With τ = 0 this is the classifier that answers, for each image, with the σ of the largest radius.  That radius is no
certificate of it: next to x another σ may have the largest one.  This is one:

    R = ½ ( max_k (L_k − τ_k) − max_k (U_k − τ_k) )

with bounds L_k ≤ u_{k,c} and U_k ≥ u_{k,c'} for all c' ≠ c.  For each class max_k (u_{k,c} − τ_k) is 1-Lipschitz, as
every score is (Salman et al. 2019), so c stays ahead within half of what it is ahead by.  m stages take 2m bounds; one
stage is the two-sided radius of Cohen et al. (2019).
"""

from transmooth.smoothing.bounds import Floats


def radius(low: Floats, high: Floats, thresholds: Floats) -> Floats:
    """Return R [B] of bounds low, high [B, m] on the scores of c and of all other classes; ≤ 0 certifies nothing.

    thresholds: τ [m].  A constant added to all of them changes nothing.
    """
    ahead: Floats = (low - thresholds).max(1) - (high - thresholds).max(1)
    return ahead / 2


def bounds_at_once(stages: int) -> int:
    """Return how many bounds of `radius` must hold together."""
    return 2 * stages
