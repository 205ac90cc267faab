"""Ask σ_1, σ_2, … in turn, and answer with the first class that reaches its threshold.

With the scores u_{k,c}(x) = σ_k Φ⁻¹(P[f_k(x + σ_k δ) = c]), δ ~ N(0, I), the cascade answers at the first stage k at
which some class has u_{k,c} ≥ τ_k, with that class: τ_k ≥ 0, so p ≥ 1/2, and there is one such class at most but for
ties.  The largest σ comes first: its smoothed classifier reaches farthest, and the later ones answer what it leaves
open.  So do Jeong and Shin, "Multi-scale diffusion denoised smoothing" (2023); their radius is L − τ of the stage that
answers.

The radius here is one of agreement.  All scores are 1-Lipschitz (Salman et al. 2019), so for another answer than c
within r of x either c must fall below its threshold at every stage, or a wrong class must reach its own at a stage k
before the last one, with c below at all stages before k:

    R = min( max_k (L_k − τ_k),  min_{k<m} max( max_{j<k} (L_j − τ_j),  τ_k − U_k ) )

with bounds L_k ≤ u_{k,c} and U_k ≥ u_{k,c'} for all c' ≠ c.  Where the stage that answers falls out, nothing is lost as
long as the next one says c too.  The last stage needs no U: a wrong class reaches τ_m ≥ 0 there only if u_{m,c} ≤ −τ_m,
and then c is below τ_m there.  So m stages take 2m − 1 bounds, and one stage with τ = 0 is Cohen et al. (2019).
"""

import numpy as np

from transmooth.smoothing.bounds import Floats


def radius(low: Floats, high: Floats, thresholds: Floats) -> Floats:
    """Return R [B] of bounds low, high [B, m] on the scores of c and of all other classes; ≤ 0 certifies nothing.

    thresholds: τ [m] ≥ 0, in the order in which the stages are asked.
    """
    reached = np.maximum.accumulate(low - thresholds, axis=1)
    before = np.concatenate([np.full((len(low), 1), -np.inf), reached[:, :-1]], axis=1)
    wrong = np.maximum(before, thresholds - high)[:, :-1]
    return np.asarray(np.minimum(reached[:, -1], wrong.min(1, initial=np.inf)))


def bounds_at_once(stages: int) -> int:
    """Return how many bounds of `radius` must hold together."""
    return 2 * stages - 1


def published_radius(low: Floats, high: Floats, thresholds: Floats) -> Floats:
    """Return the radius of the same cascade in the form of Jeong and Shin (2023), to compare with; arguments as above.

        R = min( L_k − τ_k,  min_{j<k} (τ_j − U_j) ),   k the first stage with L_k > τ_k

    A wrong class must not answer before stage k, and c must not fall below its threshold there.  With U ≥ the scores of
    all classes, c too, it is min(radius of the selector, radius at the σ it selects), as of Dual RS (Sun et al. 2026):
    the selector takes stage k if no class reaches a threshold before and c does at k, its radius is that within which
    stage k stays the one that answers, and the other one, L_k, is never smaller.
    """
    answers = (low > thresholds).argmax(1)[:, None]
    earlier = np.arange(low.shape[1]) < answers
    own = np.take_along_axis(low - thresholds, answers, 1)[:, 0]
    return np.asarray(np.minimum(own, np.where(earlier, thresholds - high, np.inf).min(1)))
