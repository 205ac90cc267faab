"""What certifiers ask and what they answer, for many images at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transmooth.smoothing.bounds import Floats, Ints

ABSTAIN = -1

# What samples are for.  Each purpose has noise of its own: the samples that choose a class never estimate it.
SELECTION, ESTIMATION, PILOT = 0, 1, 2
CHOICE = 3  # and the streams after it: the noise that chooses σ or thresholds is none of the noise that certifies

# (stream, images, start, n) → class counts [images, K] of samples start … start + n of each image's stream.
# Stateless and deterministic: it may be asked in any order, for any pieces.
Counts = Callable[[int, Ints, Ints, Ints], Ints]


@dataclass(frozen=True)
class Decisions:
    """One entry per image in every array.

    selected     the class that the selection samples chose
    prediction   the same where something was certified, else ABSTAIN
    radius       certified ℓ2 radius in units of the [0, 1] image, full precision; 0 where abstained
    n            estimation samples used
    top_count    how many of them were `selected`
    runner_up    how many of them were the most frequent other class
    evaluations  forward passes in all, selection and pilot included
    """

    selected: Ints
    prediction: Ints
    radius: Floats
    n: Ints
    top_count: Ints
    runner_up: Ints
    evaluations: Ints


def draw(counts: Counts, stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
    """counts(...), checked: one row per image, and each row adds up to its n (a lost sample would void α)."""
    got = np.asarray(counts(stream, images, start, n))
    if got.ndim != 2 or len(got) != len(images) or (got < 0).any() or (got.sum(1) != n).any():
        raise ValueError(
            f"class counts must be [{len(images)}, K], ≥ 0, each row adding up to n, got {got.shape}: {got}"
        )
    return got


def split(counts: Ints, selected: Ints) -> tuple[Ints, Ints]:
    """Return how often the selected class [B] and the most frequent other one are in counts [B, K]."""
    rows, others = np.arange(len(counts)), counts.copy()
    others[rows, selected] = -1
    return counts[rows, selected], others.max(1)


def select(counts: Counts, images: Ints, n0: int) -> Ints:
    """Return the class each image is certified for: the most frequent of n0 selection samples, lowest on ties."""
    if n0 < 1:
        raise ValueError(f"n0 (selection samples) must be at least 1, got {n0}")
    every = np.full(len(images), n0)
    return np.asarray(draw(counts, SELECTION, images, np.zeros_like(every), every).argmax(1), np.int64)
