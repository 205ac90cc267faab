"""What holds for every attack: exact answers on linear networks, the ball and the range, and who is left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.attacks import ATTACKS, Spy, convolutional, distances, linear, pictures
from transmooth.attacks.ball import BALLS, keyed_starts
from transmooth.params.values import BallNorm

NORMS: tuple[BallNorm, ...] = ("l2", "linf")
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_norm = pytest.mark.parametrize("norm", NORMS)


def far(shift: Tensor, norm: BallNorm) -> Tensor:
    found: Tensor = shift.flatten(1).double().norm(p=2 if norm == "l2" else torch.inf, dim=1)
    return found


def begin(images: Tensor, epsilon: float, norm: BallNorm = "l2", seed: int = 0) -> Tensor:
    return BALLS[norm].start(images, epsilon, torch.Generator().manual_seed(seed))


@every_attack
@every_norm
@given(
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 20),
)
@settings(max_examples=12)
def test_two_linear_classes_are_fooled_exactly_within_epsilon(
    name: str, norm: BallNorm, scale: float, dtype: torch.dtype, share: float, seed: int
) -> None:
    """Whatever the scale of the logits: at 1000 the probability of most images is 1 in float32."""
    network, images = linear(scale, seed=seed, dtype=dtype), pictures(60, seed, dtype)
    labels = network(images).argmax(1)
    distance = distances(network.double(), images.double(), labels, norm)
    network.to(dtype)
    epsilon = float(distance.quantile(share))
    found = ATTACKS[name](network, images, labels, begin(images, epsilon, norm), epsilon, norm)
    fooled = network(found).argmax(1) != labels
    clear = (distance / epsilon - 1).abs() > 1e-3
    assert clear.sum() > 50
    assert torch.equal(fooled[clear], (distance < epsilon)[clear])


@every_attack
@every_norm
def test_of_many_linear_classes_none_is_fooled_beyond_its_distance_and_most_within(name: str, norm: BallNorm) -> None:
    network, images = linear(1000, classes=10, dtype=torch.float32), pictures(300, dtype=torch.float32)
    labels = network(images).argmax(1)
    distance = distances(network, images, labels, norm)
    epsilon = float(distance.median())
    fooled = (
        network(ATTACKS[name](network, images, labels, begin(images, epsilon, norm), epsilon, norm)).argmax(1) != labels
    )
    assert not fooled[distance > epsilon * (1 + 1e-4)].any()
    assert fooled[distance < epsilon * (1 - 1e-3)].float().mean() > 0.9


@every_attack
@every_norm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_what_is_found_is_in_the_ball_and_in_range(name: str, norm: BallNorm, dtype: torch.dtype) -> None:
    drawn = torch.randn(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = (0.5 + drawn).clamp(0, 1).to(dtype)  # many pixels are 0 or 1
    network, labels, epsilon = convolutional(dtype=dtype), torch.arange(40) % 3, 0.6
    found = ATTACKS[name](network, images, labels, begin(images, epsilon, norm), epsilon, norm)
    assert found.dtype == dtype
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    rounding = torch.finfo(dtype).eps * 8  # of each of 48 pixels
    assert (far(found - images, norm) <= epsilon * (1 + 1e-5) + rounding).all()
    assert (far(found - images, norm) > epsilon / 4).all()


@every_attack
def test_a_pixel_that_noise_put_out_of_range_gets_no_farther(name: str) -> None:
    images = 0.5 + torch.randn(20, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ATTACKS[name](convolutional(), images, torch.arange(20) % 3, begin(images, 0.5), 0.5)
    assert (found >= images.clamp(max=0) - 1e-12).all()
    assert (found <= images.clamp(min=1) + 1e-12).all()
    assert (far(found - images, "l2") <= 0.5 * (1 + 1e-9)).all()
    assert (found[(images < 0) | (images > 1)] != images[(images < 0) | (images > 1)]).any()


@every_attack
@every_norm
def test_what_is_found_of_an_image_does_not_depend_on_its_batch(name: str, norm: BallNorm) -> None:
    images = torch.rand(12, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network, labels, indices = convolutional(), torch.arange(12) % 3, [*range(100, 112)]
    network[1].train()  # a norm that would see the batch

    def attacked(chosen: list[int]) -> Tensor:
        starts = keyed_starts(images[chosen], [indices[at] for at in chosen], 0.4, 5, norm)
        return ATTACKS[name](network, images[chosen], labels[chosen], starts, 0.4, norm)

    whole = attacked([*range(12)])
    for chosen in ([3], [11, 0, 5], [*range(11, -1, -1)]):
        torch.testing.assert_close(attacked(chosen), whole[chosen], atol=1e-6, rtol=0)


@every_attack
def test_the_order_of_memory_changes_nothing(name: str) -> None:
    images = torch.rand(12, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network, labels = convolutional(), torch.arange(12) % 3
    plain = ATTACKS[name](network, images, labels, begin(images, 0.4), 0.4)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ATTACKS[name](network, last, labels, begin(last, 0.4), 0.4), plain, atol=1e-6, rtol=0)
    half = ATTACKS[name](network, last[::2], labels[::2], begin(images, 0.4)[::2], 0.4)
    torch.testing.assert_close(half, plain[::2], atol=1e-6, rtol=0)


@every_attack
def test_a_network_is_left_as_it_was(name: str) -> None:
    network, images = convolutional(), torch.rand(6, 3, 4, 4, dtype=torch.float64)
    network[0].weight.requires_grad_(False)
    spy = Spy(network).train()
    network[1].eval()
    modes, state = [module.training for module in spy.modules()], {k: v.clone() for k, v in spy.state_dict().items()}
    assert len({*modes}) == 2
    with torch.no_grad():
        ATTACKS[name](spy, images, torch.arange(6) % 3, begin(images, 0.4), 0.4)
    assert all(not any(each) for each in spy.modes)
    assert [module.training for module in spy.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in spy.state_dict().items())
    assert all(parameter.grad is None for parameter in spy.parameters())
    assert [parameter.requires_grad for parameter in spy.parameters()] == [False, *[True] * 5]


@every_attack
def test_modes_are_restored_after_an_attack_that_failed(name: str) -> None:
    network, images = convolutional(), torch.rand(6, 3, 9, 9, dtype=torch.float64)  # of another size
    modes = [module.training for module in network.modules()]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ATTACKS[name](network, images, torch.arange(6) % 3, begin(images, 0.4), 0.4)
    assert [module.training for module in network.modules()] == modes


class Flat(nn.Module):
    """Answers class 0, or nothing that is a number, and does not look."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :2] + torch.tensor([self.value, 0.0])


@every_attack
@pytest.mark.parametrize("value", [1.0, torch.nan])
def test_where_no_direction_climbs_an_image_stays_where_it_begins(name: str, value: float) -> None:
    images = 0.4 + 0.2 * torch.rand(4, 3, 4, 4)
    starts = begin(images, 0.1)
    found = ATTACKS[name](Flat(value), images, torch.zeros(4).long(), starts, 0.1)
    torch.testing.assert_close(found, images + starts)


@every_attack
@pytest.mark.parametrize(("epsilon", "norm", "message"), [(0, "l2", "epsilon: "), (0.5, "l3", "norm: ")])
def test_what_means_nothing_is_refused(name: str, epsilon: float, norm: BallNorm, message: str) -> None:
    images = pictures(2)
    with pytest.raises(ValueError, match=f"^{message}"):
        ATTACKS[name](linear(), images, torch.zeros(2).long(), images * 0, epsilon, norm)
