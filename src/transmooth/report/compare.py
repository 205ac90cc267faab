"""The numbers of one log, and what two logs of the same images differ in."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from transmooth.records.logs import is_right, other_pictures
from transmooth.report.accuracy import on_grid
from transmooth.smoothing.bounds import Floats, certified_accuracy_lower, check_probability, radius, share_interval


def at_alpha(frame: pd.DataFrame, alpha: float, where: object) -> pd.DataFrame:
    """Return records with the radii that their counts certify at another alpha, by Cohen's procedure.

    Raises ValueError where the counts are unknown or of another procedure, which paid for its own alpha alone.
    """
    check_probability("alpha", alpha)
    if (frame["alpha"] == alpha).all():
        return frame
    if others := sorted(set(frame["method"]) - {"cohen"}):
        raise ValueError(
            f"{where}: was certified by {', '.join(others)}, whose samples were spent at its own alpha alone"
        )
    if frame["top_count"].isna().any():
        raise ValueError(f"{where}: the counts are unknown, so that no radius at another alpha follows from them")
    radii = [
        float(radius(int(n - top), int(n), alpha, float(sigma)))
        for n, top, sigma in zip(frame["n"], frame["top_count"], frame["sigma"], strict=True)
    ]
    anew = frame.assign(radius=radii, alpha=alpha)
    anew["radius"] = anew["radius"].clip(lower=0)
    anew["prediction"] = np.where(anew["radius"] > 0, anew["selected"], -1)
    anew.attrs = frame.attrs
    return anew


def by_class(frame: pd.DataFrame, radii: Sequence[float]) -> list[dict[str, Any]]:
    """Return the numbers of each right class, sorted: what it is certified at, and what its images are taken for.

    Keys: label, n, certified_accuracy {r: share}, abstentions (share), predictions {class: count}, −1 for abstained.
    """
    found = []
    for label, group in frame.groupby("label"):
        numbers = accuracy(group, radii)
        predictions = {int(key): int(count) for key, count in group["prediction"].value_counts().items()}
        kept = ("n", "certified_accuracy", "abstentions")
        found.append({"label": int(label)} | {key: numbers[key] for key in kept} | {"predictions": predictions})
    return found


def robustness(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of one attack, from its records.

    Keys: n, evaluations; standard_accuracy, the share that is right, and robust_accuracy, the share that stays right;
    after {loss: the share that was still right when its run from the last start ended}.  Both accuracies have `share`
    and its 95 % Clopper–Pearson `interval`, over the choice of images.
    """
    n, right = len(frame), frame["prediction"] == frame["label"]
    losses = frame["losses"].iloc[0].split(", ")
    # The number of the run that found a point; an image that stands outlasts them all.
    last = (int(frame["restarts"].iloc[0]) - 1) * len(losses)
    place = frame["loss"].map({loss: at for at, loss in enumerate(losses)}).astype(float)
    found = (frame["restart"] * len(losses) + place).fillna(np.inf)
    counts = {"standard_accuracy": int(right.sum()), "robust_accuracy": int(frame["robust"].sum())}
    shares = {
        name: {"share": count / n, "interval": [float(end) for end in share_interval(count, n)]}
        for name, count in counts.items()
    }
    after = {loss: float((right & (found > last + at)).mean()) for at, loss in enumerate(losses)}
    return {"n": n, "evaluations": int(frame["evaluations"].sum()), **shares, "after": after}


def accuracy(frame: pd.DataFrame, radii: Sequence[float]) -> dict[str, Any]:
    """Return the numbers of a table: certified accuracy at r is the share right with radius ≥ r (not >).

    Keys: n, certified_accuracy {r: share}, interval {r: [low, high]} (95 % Clopper–Pearson, over the choice
    of images), acr (mean of radius where right, else 0), abstentions (share), max_radius. Raises ValueError
    for r < 0 or NaN.
    """
    certified, n = _certified(frame), len(frame)
    counts = {r: int((certified >= _asked(r)).sum()) for r in radii}
    return {
        "n": n,
        "certified_accuracy": {r: count / n for r, count in counts.items()},
        "interval": {r: [float(end) for end in share_interval(count, n)] for r, count in counts.items()},
        "acr": float(certified.clip(min=0).mean()),
        "abstentions": float((frame["prediction"] == -1).mean()),
        "max_radius": float(frame["radius"].max()),
    }


def _certified(frame: pd.DataFrame) -> Floats:
    """Return the radius where the prediction is right; −1, which is below any radius, where it is not."""
    return np.where(is_right(frame), frame["radius"], -1.0)


def _asked(r: float) -> float:
    if not r >= 0:
        raise ValueError(f"certified accuracy is asked at a radius ≥ 0, got {r}")
    return r


def lower_bounds(frame: pd.DataFrame, radii: Sequence[float], alpha: float, delta: float = 0.001) -> dict[float, float]:
    """Return lower bounds of the TRUE certified accuracy of these images, one a radius, false with probability ≤ delta.

    Each image's certificate may be false with probability alpha; see `bounds.certified_accuracy_lower`.
    """
    certified, n = _certified(frame), len(frame)
    return {r: certified_accuracy_lower(int((certified >= _asked(r)).sum()), n, alpha, delta) for r in radii}


def compare(a: pd.DataFrame, b: pd.DataFrame, at: float, common: bool = False) -> dict[str, Any]:
    """Compare two logs of the same images, pair by pair (a − b), at radius `at` and in ACR.

    Keys: n, difference (of certified accuracies), interval (95 %, Newcombe 1998, method 10), p_value (exact
    McNemar), only_a and only_b (images certified in one alone), acr_difference, acr_interval and acr_p_value
    (paired t), acr_lower_bound (of "A" and "B", those whose ACR is one, for they are decided on a grid of radii; where
    both are, all radii are cut down to these),
    notes (of both, and where `at` is not on a grid). common: compare the images that are in both. Raises ValueError
    when indices or labels differ.
    """
    named = {"A": a.attrs, "B": b.attrs}
    notes = [f"{name}: {note}" for name, attrs in named.items() for note in attrs.get("notes", [])]
    gridded = [name for name, attrs in named.items() if attrs.get("grid") is not None]
    notes += [
        f"{name}: the radius {at:g} is not on its grid: its certified accuracy there is a lower bound only"
        for name in gridded
        if at not in named[name]["grid"]
    ]
    if common:
        both_have = set(a["index"]) & set(b["index"])
        for name, log in (("A", a), ("B", b)):
            if left := len(log) - len(both_have):
                notes.append(f"{name}: {left} of {len(log)} images are in it alone and left out")
        a, b = (log[log["index"].isin(both_have)].reset_index(drop=True) for log in (a, b))
    first, second = a.set_index("index")["label"], b.set_index("index")["label"]
    alone = sorted(first.index.symmetric_difference(second.index))
    if not len(first) and not len(second):
        raise ValueError("the two logs have no image in common")
    if alone or not len(first):
        raise ValueError(
            f"both logs must hold the same images, found {len(alone)} in one alone, such as {alone[:10]}"
            + "; --common compares those in both" * bool(set(first.index) & set(second.index))
        )
    b = b.set_index("index").loc[first.index].reset_index()
    other = first.index[first.to_numpy() != b["label"].to_numpy()].tolist()
    if other:
        raise ValueError(f"both logs must have the same labels, found different ones for images {other[:10]}")
    if other := other_pictures(a, b):
        raise ValueError(f"both records must be of the same pictures, found different ones for images {other[:10]}")

    n = len(a)
    of_a, of_b = alike(_certified(a), _certified(b), *(attrs.get("grid") for attrs in named.values()))
    in_a, in_b = of_a >= _asked(at), of_b >= at
    both, only_a, only_b = int((in_a & in_b).sum()), int((in_a & ~in_b).sum()), int((in_b & ~in_a).sum())
    gain = of_a.clip(min=0) - of_b.clip(min=0)
    mean, error = float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    half = float(stdtrit(n - 1, 0.975)) * error if n > 1 else math.inf
    tail = float(stdtr(n - 1, -abs(mean) / error)) if 0 < error < math.inf else 0.5 if mean == 0 or n == 1 else 0.0
    return {
        "n": n,
        "difference": (only_a - only_b) / n,
        "interval": _newcombe(both, only_a, only_b, n - both - only_a - only_b),
        "p_value": min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))),
        "only_a": only_a,
        "only_b": only_b,
        "acr_difference": mean,
        "acr_interval": [mean - half, mean + half],
        "acr_p_value": 2 * tail,
        "acr_lower_bound": gridded,
        "notes": notes,
    }


def alike(
    of_a: Floats, of_b: Floats, grid_a: Sequence[float] | None, grid_b: Sequence[float] | None
) -> tuple[Floats, Floats]:
    """Return radii as they compare: each cut down to its grid where both have one.

    A cascade has all radii of its counts, a sequential test those of its grid alone.
    """
    if grid_a is None or grid_b is None:
        return of_a, of_b
    return on_grid(of_a, grid_a), on_grid(of_b, grid_b)


def _newcombe(both: int, only_a: int, only_b: int, neither: int) -> list[float]:
    """95 % interval for a paired difference of shares (Newcombe 1998, method 10).

    Wilson intervals of the two shares, joined with their correlation φ; unlike Wald's it has a width when no
    pair disagrees.
    """
    n = both + only_a + only_b + neither
    in_a, in_b = both + only_a, both + only_b
    (low_a, high_a), (low_b, high_b) = _wilson(in_a, n), _wilson(in_b, n)
    p_a, p_b = in_a / n, in_b / n
    product = both * neither - only_a * only_b
    spread = math.sqrt(in_a * (n - in_a) * in_b * (n - in_b))
    phi = (max(product - n / 2, 0) if product > 0 else product) / spread if spread else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    return [p_a - p_b - reach(p_a - low_a, high_b - p_b), p_a - p_b + reach(high_a - p_a, p_b - low_b)]


def _wilson(k: int, n: int) -> tuple[float, float]:
    z = float(ndtri(0.975))
    centre, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return centre - half, centre + half
