"""How likely failures cross a boundary: the exact recursion on which the validity of the sequential test rests.

A radius r_j is true when the failure rate q is below q_j.  After look k, with f failures among n_k samples,

    certify r_j    when f ≤ C[j, k], unless it was given up before
    give up r_j    when f ≥ F[j, k]: from then on it is never certified, whatever comes.  This binds.

Validity: P_q[r_j certified] ≤ α for every q ≥ q_j.
- At q_j it is at most P[f ≤ C[j, k] at some look k, and f < F[j, ·] at all looks before].  `crossing_probability` sums
  that over the exact law of the failures, and `bind` makes C such that it is ≤ α.
- For q > q_j couple two paths, the one at q with at least as many failures at each look.  Where it has f ≤ C so has the
  other, and where the other has f ≥ F so has it: it certifies nothing that the other does not.

Sources: Jennison and Turnbull, Group Sequential Methods (2000), for binding futility; Lan and DeMets (1983), spending α
look by look.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlog1py, xlogy

from transmooth.smoothing.bounds import Floats, Ints

ROUND_OFF = 1e-6  # share of α that is left for rounding
_CUT = 1e-18  # tail mass the recursion may drop at a look; it is booked as spent, so dropping is safe


def bind(looks: Ints, thresholds: Floats, alpha: float, give_up_at: Ints, spent: Floats) -> tuple[Ints, Ints]:
    """(C, F) with C as large as possible when α is spent over the looks as in `spent` [J, K], and F obeyed.

    Forward recursion on the exact law of the failures neither certified nor given up. What the integers leave of a
    look's budget passes on to the next. A look that can certify nothing new repeats the C before it, which no path can
    newly cross.
    """
    certify_at = np.empty_like(give_up_at)
    for j, q in enumerate(thresholds.tolist()):
        budget = np.append(spent[j, :-1] / max(spent[j, -1], 1e-300), 1.0) * alpha * (1 - ROUND_OFF)
        law, offset, used, best = np.ones(1), 0, 0.0, -1
        for k, d in enumerate(np.diff(looks, prepend=0).tolist()):
            law, offset = _add(law, offset, d, q)
            used += _CUT
            below = np.cumsum(law)
            cross = int(np.searchsorted(below, budget[k] - used, side="right"))
            if k + 1 < len(looks):
                cross = min(cross, max(int(give_up_at[j, k]) - offset, 0))
            if cross:
                best = offset + cross - 1
                used += float(below[cross - 1])
                law, offset = law[cross:], offset + cross
            certify_at[j, k] = best
            law = law[: max(int(give_up_at[j, k]) - offset, 0)]
            if not law.size:
                certify_at[j, k:] = best
                break
    certify_at = np.minimum.accumulate(certify_at, axis=0)
    last = certify_at[:, -1:]
    # A count above the last C can never certify, since C rises.
    return certify_at, np.minimum(np.append(give_up_at[:, :-1], last + 1, axis=1), last + 1)


def crossing_probability(looks: ArrayLike, certify_at: ArrayLike, give_up_at: ArrayLike, q: float) -> Floats:
    """P_q[failures ≤ C at some look, never ≥ F before it] by look [K], for C and F [K] of one radius.

    The last is power at a true rate q, and the probability of a false certificate at a threshold.
    """
    law, offset, crossed = np.ones(1), 0, []
    gaps = np.diff(np.asarray(looks), prepend=0).tolist()
    for d, most, fewest in zip(gaps, np.asarray(certify_at).tolist(), np.asarray(give_up_at).tolist(), strict=True):
        now = 0
        if law.size:
            law, offset = _add(law, offset, d, q)
            now = min(max(most - offset + 1, 0), law.size)
        crossed.append(float(law[:now].sum()))
        law, offset = law[now : max(fewest - offset, now)], offset + now
    return np.cumsum(crossed)


def _add(law: Floats, offset: int, trials: int, q: float) -> tuple[Floats, int]:
    """Return the law of X + Bin(trials, q), where P[X = offset + i] = law[i]; far upper tail dropped (≤ _CUT)."""
    spread = 12 * math.sqrt(trials * q * (1 - q)) + 52  # Bernstein: less than 1e-30 lies outside
    low, high = max(0, math.floor(trials * q - spread)), min(trials, math.ceil(trials * q + spread))
    law = np.convolve(law, binomial(trials, q, low, high))
    tail = int(np.searchsorted(np.cumsum(law[::-1]), _CUT / 2))
    return law[: law.size - tail], offset + low


def binomial(n: int, q: float, low: int, high: int) -> Floats:
    """P[Bin(n, q) = k] for k = low … high."""
    k = np.arange(low, high + 1)
    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(np.exp(choose + xlogy(k, q) + xlog1py(n - k, -q)), np.float64)
