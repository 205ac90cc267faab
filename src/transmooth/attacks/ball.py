"""The ball of radius epsilon around an image, in the l2 or the linf norm: how attacks begin, step and stay in it.

A shift is what is added to images: [N, 3, H, W], float32 or wider.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from transmooth.noise import block_key
from transmooth.params.values import BallNorm


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor as float32, or as it is where it is float64: 16 bits are too few for small steps."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def length(shift: Tensor) -> Tensor:
    """Return the l2 length of each image's shift, [N, 1, 1, 1]."""
    found: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2, 3), keepdim=True)
    return found


@dataclass(frozen=True)
class Ball:
    """What attacks need of a norm.

    direction(gradient)                 the shift of length 1 that climbs most; 0 where the gradient is 0
    project(shift, epsilon)             the nearest shift of a length up to epsilon
    start(images, epsilon, generator)   a random shift for each image: of length epsilon in l2, uniform in linf
    """

    direction: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, float], Tensor]
    start: Callable[[Tensor, float, torch.Generator], Tensor]


def _l2_direction(gradient: Tensor) -> Tensor:
    return gradient / length(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def _l2_project(shift: Tensor, epsilon: float) -> Tensor:
    return shift * (epsilon / length(shift).clamp_min(epsilon))


def _l2_start(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    drawn = _like(images, torch.randn(images.shape, generator=generator, device=generator.device))
    return epsilon * drawn / length(drawn)


def _linf_project(shift: Tensor, epsilon: float) -> Tensor:
    return shift.clamp(-epsilon, epsilon)


def _linf_start(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    drawn = _like(images, torch.rand(images.shape, generator=generator, device=generator.device))
    return epsilon * (2 * drawn - 1)


def _like(images: Tensor, drawn: Tensor) -> Tensor:
    return drawn.to(images.device, torch.promote_types(images.dtype, drawn.dtype))


BALLS: dict[BallNorm, Ball] = {
    "l2": Ball(_l2_direction, _l2_project, _l2_start),
    "linf": Ball(torch.sign, _linf_project, _linf_start),
}


def keyed_starts(
    images: Tensor, indices: Sequence[int], epsilon: float, seed: int, norm: BallNorm = "l2", restart: int = 0
) -> Tensor:
    """Return random shifts of length up to epsilon, [N, 3, H, W], that depend on (seed, index, restart) alone.

    indices: the place of each image in its data set.  They are drawn on the CPU, so that every device has the same.
    """
    generator = torch.Generator()
    starts = []
    for image, index in zip(images, indices, strict=True):
        generator.manual_seed(block_key(seed, index, 0, restart))
        starts.append(BALLS[norm].start(image[None], epsilon, generator))
    return torch.cat(starts)


def within(images: Tensor, shift: Tensor, epsilon: float, norm: BallNorm) -> Tensor:
    """Return the shift, projected on the ball and then clipped: images + shift is in the ball and in [0, 1].

    A pixel that is outside of [0, 1] already, by its noise, gets no farther from it.  Clipping shortens shifts: none
    leaves the ball by it.
    """
    wide = widened(images)
    return BALLS[norm].project(shift, epsilon).clamp(-wide.clamp_min(0), (1 - wide).clamp_min(0))


def moved(images: Tensor, shift: Tensor) -> Tensor:
    """Return images + shift, of the images' type."""
    return (images + shift).to(images.dtype)


def check_attack(*, epsilon: Any, steps: Any, norm: Any = "l2") -> None:
    """Raise ValueError for a radius, a number of steps or a norm that means nothing."""
    if not (isinstance(epsilon, int | float) and 0 < epsilon < math.inf):
        raise ValueError(f"epsilon: should be a number above 0, found {epsilon!r}")
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps: should be a whole number from 1, found {steps!r}")
    if norm not in get_args(BallNorm):
        raise ValueError(f"norm: should be one of {', '.join(get_args(BallNorm))}, found {norm!r}")
