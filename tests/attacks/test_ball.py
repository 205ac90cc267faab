"""Starts, steps and projections in the ball."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transmooth.attacks.ball import BALLS, check_attack, keyed_starts, length, moved, within
from transmooth.params.values import BallNorm

NORMS: tuple[BallNorm, ...] = ("l2", "linf")


def size(shift: Tensor, norm: BallNorm) -> Tensor:
    found: Tensor = shift.flatten(1).norm(p=2 if norm == "l2" else math.inf, dim=1)
    return found


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    norm=st.sampled_from(NORMS),
    epsilon=st.floats(1e-3, 10),
    spread=st.floats(1e-3, 1e3),
    noise=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 9),
)
def test_what_is_moved_is_in_the_ball_and_in_range(
    norm: BallNorm, epsilon: float, spread: float, noise: float, seed: int
) -> None:
    clean = (0.5 + normal(8, 3, 4, 4, seed=seed)).clamp(0, 1)  # many pixels are 0 or 1
    images = clean + noise * normal(8, 3, 4, 4, seed=seed + 10)
    shift = within(images, spread * normal(8, 3, 4, 4, seed=seed + 20), epsilon, norm)
    assert (size(shift, norm) <= epsilon * (1 + 1e-5)).all()
    points = moved(images, shift)
    rounding = 1e-6 if noise else 0  # images without noise are in [0, 1] to the last bit
    assert (points >= images.clamp(max=0) - rounding).all()
    assert (points <= images.clamp(min=1) + rounding).all()
    assert torch.equal(within(images, shift * 0, epsilon, norm), shift * 0)


def test_the_projection_is_on_the_ball_first_and_then_clipped() -> None:
    images, shift = torch.tensor([0.8, 0.5]).view(1, 1, 1, 2), torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    assert within(images, shift, 0.5, "l2").flatten().tolist() == pytest.approx([0.2, 0.4])
    assert within(images, shift, 0.3, "linf").flatten().tolist() == pytest.approx([0.2, 0.3])
    assert within(images, shift / 50, 0.5, "l2").flatten().tolist() == pytest.approx([0.06, 0.08])  # in it already


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 1e15])
def test_a_direction_has_length_one_whatever_the_scale_of_the_gradient(scale: float) -> None:
    gradient = torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1) * scale
    assert BALLS["l2"].direction(gradient).flatten().tolist() == pytest.approx([0.6, -0.8, 0])
    assert BALLS["linf"].direction(gradient).flatten().tolist() == [1, -1, 0]
    for norm in NORMS:
        assert BALLS[norm].direction(gradient * 0).flatten().tolist() == [0, 0, 0]


def test_starts_are_on_the_sphere_and_all_over_the_box() -> None:
    images = torch.rand(50, 3, 8, 8)
    sphere = BALLS["l2"].start(images, 0.5, torch.Generator().manual_seed(0))
    assert size(sphere, "l2").tolist() == pytest.approx([0.5] * 50)
    assert sphere.mean((0, 2, 3)).abs().max() < 0.003
    box = BALLS["linf"].start(images, 0.5, torch.Generator().manual_seed(0))
    assert 0.499 < box.max() <= 0.5
    assert -0.499 > box.min() >= -0.5
    assert box.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("norm", NORMS)
def test_a_keyed_start_is_the_images_own(norm: BallNorm) -> None:
    images, indices = torch.rand(6, 3, 4, 4), [7, 3, 100, 2**40, 0, 5]
    starts = keyed_starts(images, indices, 0.5, 1, norm)
    assert (size(starts, norm) <= 0.5 * (1 + 1e-6)).all()
    again = keyed_starts(images.flip(0)[2:], indices[::-1][2:], 0.5, 1, norm)
    assert torch.equal(again.flip(0), starts[:4])
    other_layout = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(keyed_starts(other_layout, indices, 0.5, 1, norm), starts)
    others = [keyed_starts(images, indices, 0.5, 2, norm), keyed_starts(images, indices, 0.5, 1, norm, restart=1)]
    others.append(keyed_starts(images, [index + 1 for index in indices], 0.5, 1, norm))
    for other in others:
        assert (size(other - starts, norm) > 0.1).all()
    doubled = keyed_starts(images.double(), indices, 0.25, 1, norm)
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), starts / 2)
    assert keyed_starts(images.bfloat16(), indices, 0.5, 1, norm).dtype == torch.float32


def test_lengths_are_of_each_image() -> None:
    shift = torch.stack([torch.full((3, 2, 2), 0.5), torch.zeros(3, 2, 2)])
    assert length(shift).flatten().tolist() == pytest.approx([math.sqrt(3), 0])
    assert length(shift).shape == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0),
        ("epsilon", math.inf),
        ("epsilon", math.nan),
        ("epsilon", "1"),
        ("steps", 0),
        ("steps", 2.0),
        ("steps", True),
        ("norm", "l1"),
        ("norm", ["l2"]),
    ],
)
def test_what_means_nothing_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        check_attack(**{"epsilon": 0.5, "steps": 3} | {name: value})
    assert str(caught.value).endswith(f"found {value!r}")
