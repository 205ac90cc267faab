"""PGD: the point of the highest loss, in closed form and among those on the way."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.helpers.attacks import Spy, convolutional, linear, pictures, weights, worst
from transmooth.attacks.ball import BALLS
from transmooth.attacks.pgd import pgd
from transmooth.params.values import BallNorm


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_worst_point_of_a_linear_network(norm: BallNorm, random: bool) -> None:
    network, images, epsilon = linear(), pictures(), 0.1
    labels = network(images).argmax(1)
    best = worst(network, images, labels, epsilon, norm)
    begin = BALLS[norm].start(images, epsilon, torch.Generator().manual_seed(0)) if random else torch.zeros_like(images)
    step, steps = (2 * epsilon, 60) if random else (epsilon, 1)
    found = pgd(network, images, labels, begin, epsilon=epsilon, step=step, steps=steps, norm=norm)
    torch.testing.assert_close(found, best, atol=1e-6 if random else 1e-12, rtol=0)
    margins = (network(images)[:, 1] - network(images)[:, 0]).abs()
    dual = (weights(network)[1] - weights(network)[0]).norm(p=2 if norm == "l2" else 1)
    expected = functional.softplus(epsilon * dual - margins)
    torch.testing.assert_close(cross_entropy(network(found), labels), expected, atol=1e-6, rtol=0)


def test_steps_have_their_length_and_stay_in_the_ball() -> None:
    network, images = linear(), pictures(5)
    labels, spy = network(images).argmax(1), Spy(network)
    graphs: list[bool] = []
    network.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    pgd(spy, images, labels, torch.zeros_like(images), epsilon=0.2, step=0.08, steps=4)
    lengths = [(seen - images).flatten(1).norm(dim=1).tolist() for seen in spy.seen]
    for found, expected in zip(lengths, [0, 0.08, 0.16, 0.2, 0.2], strict=True):
        assert found == pytest.approx([expected] * 5)
    assert graphs == [True] * 4 + [False]  # the last point is looked at, and not climbed from


@pytest.mark.parametrize("seed", range(3))
def test_the_point_of_the_highest_cross_entropy_is_kept(seed: int) -> None:
    """Of steps + 1 points: where steps are too long it is not the last one."""
    images = torch.rand(60, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    spy, labels = Spy(convolutional(seed, wild=10)), torch.arange(60) % 3
    begin = BALLS["l2"].start(images, 1.5, torch.Generator().manual_seed(seed))
    found = pgd(spy, images, labels, begin, epsilon=1.5, step=1.5, steps=5)
    points = torch.stack(spy.seen)
    assert len(points) == 6
    network = spy.network.eval()
    losses = torch.stack([cross_entropy(network(each), labels) for each in points]).detach()
    at = losses.argmax(0)
    assert {*at.tolist()} >= {3, 4, 5}
    torch.testing.assert_close(found, points[at, torch.arange(60)])
