"""Classifiers whose smoothed versions are known exactly."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from transmooth.smoothing.bounds import Ints
from transmooth.smoothing.decision import Counts


class Linear(nn.Module):
    """Class 1 where w . x > b: its smoothed radius is |w . x - b| / |w|, exactly."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(3 * 4 * 4, generator=generator))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, images: Tensor) -> Tensor:
        margin = images.flatten(1) @ self.weight - self.bias
        return torch.stack([-margin, margin], 1)


def image(index: int) -> Tensor:
    """A random image [3, 4, 4] of its own for each index."""
    return torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(index))


def coins(*shares: Sequence[float], seed: int = 0) -> Counts:
    """Counts of classes with these shares, one row per image: keyed by stream, image and start, as a sampler's."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        rows = zip(images, start, n, strict=True)
        return np.array(
            [np.random.default_rng([seed, stream, i, s]).multinomial(m, shares[i]) for i, s, m in rows], np.int64
        )

    return counts
