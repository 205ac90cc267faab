"""The cheapest boundaries of the sequential test, by backward induction (Bellman) over its looks.

They minimise, over a prior on the failure rate q,

    E[samples] − price · E[right − wrong certificates] + Σ_j penalty_j · P_{q_j}[r_j certified]

with penalties tuned until the last probabilities are α.  Prior, price and penalties shape the boundaries and no more:
validity rests on crossing.py, which has the last word about C.  Failures far from all n q_j decide at once, so only
windows around these are computed.

Equal inputs give equal boundaries on every machine.  What goes from round to round is integers, and numbers of three or
six digits, so the last bits of sums, in which processors differ, do not add up: they could only decide between two
integers that are equally good to a dozen digits.

Sources: Bellman, Dynamic Programming (1957); Novikov and Farkhshatov (2022) for binomial tests by backward induction.
"""

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from transmooth import files
from transmooth.smoothing import crossing
from transmooth.smoothing.bounds import Floats, Ints
from transmooth.smoothing.crossing import ROUND_OFF, bind, binomial, crossing_probability

_ROUNDS, _TUNING = 6, 3  # of adapting the penalties; the best of the rounds after the first few is taken

# The prior is flat in z = R/σ = −Φ⁻¹(q) between these, but for a share far above all thresholds: the images of
# published logs that never fail.
_LOWEST, _HIGHEST, _CLEAN = -0.3, 4.5, 0.4


def boundaries(looks: Ints, thresholds: Floats, alpha: float, price: float) -> tuple[Ints, Ints]:
    """Return `design` of the same, kept on disk among what this user's programs can find out again.

    A file is taken if it is of these inputs and these sources, is not damaged, and `holds`; else it is made anew.
    """
    asked = {
        "sources": [files.sha256(Path(path)) for path in (__file__, crossing.__file__)],
        "looks": looks.tolist(),
        "thresholds": thresholds.tolist(),
        "alpha": alpha,
        "price": price,
    }
    path = files.user_cache() / "designs" / f"{_digest(asked)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is no file, or it is no design
        kept = json.loads(path.read_text())
        found = np.array(kept["certify_at"]), np.array(kept["give_up_at"])
        # Other boundaries that hold would be valid, but their records would not be those of other machines.
        intact = kept["digest"] == _digest([kept["certify_at"], kept["give_up_at"]])
        if intact and holds(looks, thresholds, alpha, *found):
            return found
    found = design(looks, thresholds, alpha, price)
    made = {"certify_at": found[0].tolist(), "give_up_at": found[1].tolist()}
    with suppress(OSError):  # a folder that cannot be written forgets it
        files.write_text(path, json.dumps(asked | made | {"digest": _digest(list(made.values()))}) + "\n")
    return found


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def holds(looks: Ints, thresholds: Floats, alpha: float, certify_at: Ints, give_up_at: Ints) -> bool:
    """Return whether C and F are integers [J, K], nested and monotone, and no threshold is crossed with more than α."""
    shape = (len(thresholds), len(looks))
    for bounds in (certify_at, give_up_at):
        if bounds.shape != shape or bounds.dtype != np.int64:
            return False
        if (np.diff(bounds, axis=0) > 0).any() or (np.diff(bounds, axis=1) < 0).any():
            return False
    return all(
        crossing_probability(looks, most, fewest, float(q))[-1] <= alpha
        for most, fewest, q in zip(certify_at, give_up_at, thresholds, strict=True)
    )


def design(looks: Ints, thresholds: Floats, alpha: float, price: float) -> tuple[Ints, Ints]:
    """Return (C, F), each [J, K], falling with j and rising with k; C is −1 where no number of failures certifies.

    looks: n_1 < … < n_K. thresholds: q_1 > … > q_J in (0, 1/2]. price: the samples that a certificate is worth.
    A radius that not even n_K clean samples certify, or that is not worth its samples, has C = −1 and F = 0 at all
    looks.
    """
    shape = len(thresholds), len(looks)
    certify_at, give_up_at = np.full(shape, -1), np.zeros(shape, np.int64)
    q = thresholds[looks[-1] * np.log1p(-thresholds) <= math.log(alpha * (1 - ROUND_OFF))]
    if not q.size:
        return certify_at, give_up_at
    rates, weights = _prior(int(looks[-1]))
    windows = [_windows(looks, float(threshold), alpha, rates, weights) for threshold in q]
    penalties, least = price * np.linspace(0.15, 0.8, len(q)), math.inf
    for turn in range(_ROUNDS):
        most, fewest, _ = _backward(looks, windows, penalties, price)
        fewest = np.minimum.accumulate(np.maximum.accumulate(fewest, axis=1), axis=0)
        spent = np.stack([crossing_probability(looks, *row) for row in zip(most, fewest, q.tolist(), strict=True)])
        most, fewest = bind(looks, q, alpha, fewest, spent)
        _, _, cost = _backward(looks, windows, 0 * penalties, price, (most, fewest))
        if turn >= _TUNING and _digits(cost, 6) < least:
            least, certify_at[: len(q)], give_up_at[: len(q)] = _digits(cost, 6), most, fewest
        scale = np.clip(spent[:, -1] / alpha, 0.05, 20) ** 0.9
        penalties = np.array([_digits(penalty, 3) for penalty in penalties * scale])
    return certify_at, give_up_at


def _digits(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def _prior(n_max: int) -> tuple[Floats, Floats]:
    """Rates q, rising, and their weights.

    Even in arcsin √q, where all counts are equally sharp, and less than a standard deviation of n_max samples apart.
    """
    cells = math.ceil(2.2 * math.sqrt(n_max) + 200)
    edges = np.sin(np.arange(2 * cells + 1) / (2 * cells) * math.asin(math.sqrt(float(ndtr(-_LOWEST))))) ** 2
    z = np.minimum(-ndtri(edges[::2]), _HIGHEST)
    rates, weights = edges[1::2], (1 - _CLEAN) * (z[:-1] - z[1:]) / (_HIGHEST - _LOWEST)
    weights[np.searchsorted(rates, ndtr(-_HIGHEST))] += _CLEAN
    return rates[weights > 0], weights[weights > 0]


@dataclass(frozen=True)
class _Window:
    """What the induction has to know of one radius at one look, for failures from `first` on.

    odds: how much likelier these failures are under the prior than at the threshold q. wrong: the chance, given them,
    that the rate is not below q, minus that it is. inner: indices from which going on is considered; from outside it
    never pays. step: the law of the failures between this look and the next at the threshold, from `low` on.
    """

    q: float
    first: int
    odds: Floats
    wrong: Floats
    inner: slice
    low: int
    step: Floats


def _windows(looks: Ints, q: float, alpha: float, rates: Floats, weights: Floats) -> list[_Window]:
    """One window a look, wide enough for all that a path from inside the one before can come to."""
    more, fewer = np.log(rates / q), np.log1p(-rates) - math.log1p(-q)
    deep = max(3, 5 - float(ndtri(alpha)))  # standard deviations below n q, where a radius was certified long before
    windows, reached = [], (math.inf, -math.inf)
    for n, d in zip(looks.tolist(), np.append(np.diff(looks), 0).tolist(), strict=True):
        sd = math.sqrt(n * q * (1 - q))
        inner = max(0, math.floor(n * q - deep * sd)), min(n, math.ceil(n * q + 4 * sd + 8))
        first, last = int(min(inner[0], reached[0])), int(max(inner[1], reached[1]))
        # 6.5 standard deviations of what comes next, of which the rate is as far from q as the count is.
        spread = (6.5 * math.sqrt(1 + d / n) + deep * math.sqrt(d / n)) * math.sqrt(d * q * (1 - q)) + 30
        low, high = max(0, math.floor(d * q - spread)), min(d, math.ceil(d * q + spread))
        reached = (inner[0] + low, inner[1] + high)
        f = np.arange(first, last + 1)
        # Rates eight standard deviations away weigh nothing.
        near = np.arcsin(np.sqrt((f[[0, -1]] + 0.5) / (n + 1))) + np.array([-1, 1]) * (4 / math.sqrt(n) + 3 / n)
        start, stop = np.searchsorted(rates, np.sin(np.clip(near, 0, math.pi / 2)) ** 2)
        some = slice(start, max(stop, start + 1))
        log = np.outer(f, (more - fewer)[some]) + n * fewer[some]
        like = np.exp(np.minimum(log, 600)) * weights[some]
        odds = np.maximum(like.sum(1), 1e-280)
        wrong = 1 - 2 * like[:, rates[some] < q].sum(1) / odds
        windows.append(
            _Window(
                q, first, odds, wrong, slice(inner[0] - first, inner[1] - first + 1), low, binomial(d, q, low, high)
            )
        )
    return windows


def _backward(
    looks: Ints, windows: list[list[_Window]], penalties: Floats, price: float, given: tuple[Ints, Ints] | None = None
) -> tuple[Ints, Ints, float]:
    """Return the best C and F [J, K] for these penalties, or those given, and their cost.

        V_j(f) = min( 0, penalty_j R + price · wrong + V_{j+1}(f), d + E[V_j(f + X) | f] )     at one look

    with j radii certified so far, R = 1/odds, X the failures among the next d samples, V_J = 0. As the next law is
    Bin(x; d, q_j) odds'(f + x)/odds(f), the expectation is one correlation with a binomial.
    """
    shape = len(windows), len(looks)
    most, fewest = given or (np.full(shape, -1), np.zeros(shape, np.int64))
    later: list[Floats] = [np.zeros(0)] * len(windows)  # V odds at the look after, over its window
    for k in reversed(range(len(looks))):
        above, above_first = np.zeros(0), 0  # V_{j+1}: its window starts at no more failures; beyond its end it is 0
        for j in reversed(range(len(windows))):
            w = windows[j][k]
            certify = penalties[j] / w.odds + price * w.wrong
            shared = above[w.first - above_first :][: certify.size]
            certify[: shared.size] += shared
            go_on = np.zeros(certify.size)
            if k + 1 < len(looks):
                at = w.first + w.inner.start + w.low - windows[j][k + 1].first
                ahead = later[j][at : at + w.inner.stop - w.inner.start + w.step.size - 1]
                go_on[w.inner] = looks[k + 1] - looks[k] + np.correlate(ahead, w.step, "valid") / w.odds[w.inner]
            if given is None:
                # Where sampling goes on for larger radii anyway, waiting is exactly as cheap: a sample decides for now.
                most[j, k] = _last(certify < np.minimum(go_on, 0) + 1, w.first)
                fewest[j, k] = _last(np.minimum(certify, go_on) < 0, w.first) + 1
            f = np.arange(w.first, w.first + certify.size)
            value = np.where(f <= most[j, k], certify, np.where(f >= fewest[j, k], 0, go_on))
            later[j], above, above_first = value * w.odds, value, w.first
    w, n = windows[0][0], int(looks[0])
    return most, fewest, n + float((binomial(n, w.q, w.first, w.first + w.odds.size - 1) * later[0]).sum())


def _last(which: NDArray[np.bool_], first: int) -> int:
    found = np.flatnonzero(which)
    return first + int(found[-1]) if found.size else -1
