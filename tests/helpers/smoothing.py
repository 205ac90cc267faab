"""Classifiers whose smoothed versions are known exactly."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from transmooth.smoothing.bounds import Ints
from transmooth.smoothing.decision import Counts
from transmooth.smoothing.deploy import Deployed, deploy
from transmooth.smoothing.engine import Engine
from transmooth.smoothing.sampler import Sampler


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


def eager(model: nn.Module, noisy: Tensor, *, batch: int = 256, dtype: str = "fp32") -> Engine:
    """A model deployed for images like `noisy` [B, 3, H, W], and not timed."""
    deployed = deploy(model, dtype, noisy.permute(0, 2, 3, 1).contiguous())
    return Engine(deployed, "eager", batch, deployed.named, noisy.device)


def sampler_of(
    model: nn.Module,
    fetch: Callable[[int], Tensor],
    sigma: float,
    *,
    seed: int = 0,
    batch: int = 256,
    dtype: str = "fp32",
) -> Sampler:
    """A sampler that runs a model as it is usually deployed."""
    return Sampler(eager(model, torch.stack([fetch(0), fetch(1)]), batch=batch, dtype=dtype), fetch, sigma, seed)


def as_it_is(model: nn.Module, batch: int = 256) -> Engine:
    """A model that is neither copied nor tried before it is asked."""
    return Engine(Deployed(model, None, torch.contiguous_format), "eager", batch, "own", torch.device("cpu"))
