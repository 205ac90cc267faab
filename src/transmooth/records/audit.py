"""Which settings of Cohen's procedure can have made a log's radii."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from transmooth.smoothing.bounds import Floats, max_failures, max_radius, radius

# What an audit tries, the usual ones first.
ALPHAS = (0.001, 0.0001, 0.01, 0.05, 0.1)
NS = (100_000, 10_000, 1000, 500, 2000, 5000, 20_000, 50_000, 200_000, 500_000, 1_000_000)


def audit(
    radii: ArrayLike,
    sigma: float | None = None,
    alphas: Sequence[float] = ALPHAS,
    ns: Sequence[int] = NS,
    sigmas: Sequence[float] = (0.12, 0.25, 0.5, 0.75, 1.0, 2.0),
) -> pd.DataFrame:
    """Which (alpha, n, sigma) could have produced these printed radii by Clopper–Pearson at one fixed n?

    A candidate is consistent when no radius exceeds its saturated radius and each radius is, within the
    print, one of those that some number of failures gives. The print is taken to be rounded to nearest or
    down, to as many significant digits or decimals as the radii show. Verdicts, best first: "saturates"
    (consistent, and the largest radius is the saturated one: the only strong evidence), "possible"
    (consistent, but a larger n always is), "unattainable" (some radii lie between attainable ones),
    "exceeded".

    Columns: alpha, n, sigma, saturated (radius), at_top (radii equal to it), above, unattainable, verdict.
    """
    all_radii = np.asarray(radii, np.float64)
    shown, times = np.unique(all_radii[all_radii > 0], return_counts=True)
    if not shown.size:
        raise ValueError(f"an audit needs radii > 0, got {len(all_radii)} radii, none of them positive")
    unit = _print_unit(shown)
    low, high = shown - unit / 2 * (1 + 1e-9), shown + unit * (1 + 1e-9)
    rows = []
    for s in (sigma,) if sigma is not None else sigmas:
        for alpha in alphas:
            for n in ns:
                saturated = float(max_radius(n, alpha, s))
                above = low > saturated
                # The most failures that reach `low` give the smallest attainable radius there.
                most = max_failures(low[~above], n, alpha, s)
                between = radius(most, n, alpha, s) > high[~above]
                top = ~above & (high >= saturated)
                counts = [int(times[top].sum()), int(times[above].sum()), int(times[~above][between].sum())]
                verdict = (
                    "exceeded"
                    if counts[1]
                    else "unattainable"
                    if counts[2]
                    else "saturates"
                    if counts[0]
                    else "possible"
                )
                rows.append([alpha, n, s, saturated, *counts, verdict])
    frame = pd.DataFrame(
        rows, columns=["alpha", "n", "sigma", "saturated", "at_top", "above", "unattainable", "verdict"]
    )
    rank = frame["verdict"].map({"saturates": 0, "possible": 1, "unattainable": 2, "exceeded": 3})
    order = frame.assign(rank=rank, wrong=frame["above"] + frame["unattainable"])
    order = order.sort_values(["rank", "wrong", "at_top"], ascending=[True, True, False], kind="stable")
    return frame.loc[order.index].reset_index(drop=True)


def candidates(
    frame: pd.DataFrame, path: Path, sigma: float | None = None, n: int | None = None, alpha: float | None = None
) -> pd.DataFrame:
    """Audit a log, or records, read by `logs.read_any` from a path: the usual settings, and before them its own.

    sigma: of a log, if known; records know theirs. n, alpha: to try too. Equal verdicts stay in this order. Raises
    ValueError for records by another procedure than Cohen's, and as `audit` does.
    """
    if others := sorted(set(frame.get("method", ["cohen"])) - {"cohen"}):
        raise ValueError(f"{path}: an audit is of radii by Cohen's procedure, these are by {', '.join(others)}")
    if "sigma" in frame:
        sigma = float(frame["sigma"][0])
    alphas = [] if alpha is None else [alpha]
    ns = [] if n is None else [n]
    if "method" in frame:
        alphas += sorted(set(frame["alpha"].tolist()))
        ns += sorted(set(frame["n"].tolist()) - {0})
    return audit(frame["radius"], sigma, list(dict.fromkeys([*alphas, *ALPHAS])), list(dict.fromkeys([*ns, *NS])))


def _print_unit(shown: Floats) -> Floats:
    """The last printed place of each radius.

    The coarser of "as many significant digits as the longest shows" ("{:.3}", Cohen's) and "as many
    decimals", since one of the two is how they were printed.
    """
    digits = [Decimal(repr(float(r))).normalize() for r in shown]
    decimals = max(-int(d.as_tuple().exponent) for d in digits)
    significant = max(len(d.as_tuple().digits) for d in digits)
    return np.array([10.0 ** max(-decimals, d.adjusted() + 1 - significant) for d in digits])
