"""Classifiers of the plane whose smoothed scores are known exactly, and classifiers made of several such scores."""

import numpy as np
from scipy.special import ndtr, ndtri

from transmooth.smoothing.bounds import Floats, Ints

CLASSES = 4
TINY = 1e-200  # of a probability: no score is infinite


class Patchwork:
    """The plane cut by some vertical and horizontal lines, each patch of a random class."""

    def __init__(self, rng: np.random.Generator, patches: int = 4) -> None:
        self.columns, self.rows = (np.sort(rng.uniform(-1, 2, patches - 1)) for _ in range(2))
        self.classes = rng.integers(0, CLASSES, (patches, patches))

    def scores(self, points: Floats, sigmas: Floats) -> Floats:
        """σ Φ⁻¹(P[f(x + σ δ) = c]) of points [B, 2], float64 [B, σ, class]."""
        shares = []
        for axis, lines in enumerate((self.columns, self.rows)):
            edges = (np.concatenate([[-np.inf], lines, [np.inf]]) - points[:, axis, None, None]) / sigmas[:, None]
            low, high = edges[..., :-1], edges[..., 1:]
            shares.append(np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low)))  # tails have the digits
        patches = np.einsum("bsx,bsy->bsxy", *shares)
        of_class = np.arange(CLASSES)[:, None, None] == self.classes
        p, q = (np.einsum("bsxy,cxy->bsc", patches, members.astype(float)) for members in (of_class, ~of_class))
        scores = np.where(p < q, ndtri(np.maximum(p, TINY)), -ndtri(np.maximum(q, TINY)))
        return np.asarray(sigmas[:, None] * scores)


def cascade(scores: Floats, thresholds: Floats) -> Ints:
    """The answer [B] to scores [B, m, K]: of the first stage at which a class reaches its threshold; −1 of none."""
    reached = scores.max(2) >= thresholds
    answers = np.take_along_axis(scores.argmax(2), reached.argmax(1)[:, None], 1)[:, 0]
    return np.where(reached.any(1), answers, -1)


def margin(scores: Floats, thresholds: Floats) -> Ints:
    """The answer [B] to scores [B, m, K]: the class farthest above its threshold at any stage."""
    return np.asarray((scores - thresholds[:, None]).max(1).argmax(1))


def bounds(scores: Floats, selected: Ints) -> tuple[Floats, Floats]:
    """Exact scores [B, m] of the selected class and of the best other one."""
    at = np.arange(len(scores))
    others = scores.copy()
    others[at, :, selected] = -np.inf
    return scores[at, :, selected], others.max(2)


def neighbours(point: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Points [400, 2] of the open ball around a point: half of them at its rim."""
    angle = rng.uniform(0, 2 * np.pi, 400)
    distance = radius * np.concatenate([np.full(200, 1 - 1e-7), np.sqrt(rng.random(200))])
    return np.asarray(point + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
