"""AutoPGD: its checkpoints, and its points by a plain version that takes one image at a time."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks import Spy, convolutional, distances, linear, pictures, worst
from transmooth.attacks.auto_pgd import auto_pgd, checkpoints
from transmooth.attacks.ball import BALLS, moved
from transmooth.attacks.gradients import Loss, log_odds, margin
from transmooth.params.values import BallNorm


def test_checkpoints_of_known_numbers_of_steps() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(20) == [5, 9, 12, 14, 16, 18, 19, 20]
    assert checkpoints(1) == [1] * 8
    for steps in range(1, 300):
        marks = checkpoints(steps)
        assert marks == sorted(marks)
        assert 1 <= marks[0] <= marks[-1] <= steps


def naive(
    network: nn.Module, image: Tensor, label: int, begin: Tensor, epsilon: float, steps: int, norm: BallNorm
) -> tuple[list[Tensor], list[tuple[int, bool]]]:
    """The points of the algorithm for one image, on cross-entropy, and the steps after which its size halved.

    With each step, whether it was for the second reason alone: the highest loss was still the same.
    """

    def nearest(point: Tensor) -> Tensor:
        shift = point - image
        if norm == "linf":
            return (image + shift.clamp(-epsilon, epsilon)).clamp(0, 1)
        return (image + shift * min(1.0, epsilon / max(float(shift.norm()), 1e-300))).clamp(0, 1)

    def look(point: Tensor) -> tuple[float, Tensor]:
        at = point.detach().clone().requires_grad_()
        loss = functional.cross_entropy(network(at[None]), torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, at)
        return loss.item(), gradient.sign() if norm == "linf" else gradient / gradient.norm()

    points, losses, directions = [nearest(image + begin)], [], []
    marks, halvings = checkpoints(steps), list[tuple[int, bool]]()
    at = previous = points[0]
    size = 2 * epsilon
    loss, direction = look(at)
    losses.append(loss)
    directions.append(direction)
    best_then, halved_then, last = losses[0], True, 0
    for k in range(1, steps + 1):
        z = nearest(at + size * direction)
        new = z if k == 1 else nearest(at + 0.75 * (z - at) + 0.25 * (at - previous))
        previous, at = at, new
        loss, direction = look(at)
        points.append(at)
        losses.append(loss)
        directions.append(direction)
        if k in marks:
            rises = sum(losses[i] > losses[i - 1] for i in range(last + 1, k + 1))
            best = max(losses)
            few = rises <= 0.75 * (k - last)
            if few or (not halved_then and best == best_then):
                size, halved_then = size / 2, True
                at, direction = points[losses.index(best)], directions[losses.index(best)]
                halvings.append((k, not few))
            else:
                halved_then = False
            best_then, last = best, k
    return points, halvings


@pytest.mark.parametrize(
    ("norm", "epsilon", "wild", "seed"), [("l2", 0.4, 1, 2), ("linf", 0.1, 1, 2), ("l2", 1.5, 10, 1)]
)
def test_its_points_are_those_of_the_algorithm(norm: BallNorm, epsilon: float, wild: float, seed: int) -> None:
    """On log-odds as on cross-entropy, though gradients differ; images halve their sizes at steps of their own."""
    steps, count = 40, 10
    images = torch.rand(count, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    network, labels = convolutional(seed, wild=wild), torch.arange(count) % 3
    begin = BALLS[norm].start(images, epsilon, torch.Generator().manual_seed(seed))
    spy = Spy(network)
    found, passes = auto_pgd(spy, images, labels, begin, epsilon=epsilon, steps=steps, norm=norm)
    assert passes.tolist() == [steps + 1] * count
    network.eval()
    halvings = []
    for at in range(count):
        points, halved = naive(network, images[at], int(labels[at]), begin[at], epsilon, steps, norm)
        halvings.append(halved)
        assert len(points) == len(spy.seen) == steps + 1
        for mine, its in zip(spy.seen, points, strict=True):
            torch.testing.assert_close(mine[at], its, atol=1e-7, rtol=0)
        logits = network(torch.stack(points))
        losses = functional.cross_entropy(logits, labels[at].expand(steps + 1), reduction="none")
        wrong = logits.argmax(1) != labels[at]
        best = losses.where(wrong, -1).argmax() if wrong.any() else losses.argmax()
        torch.testing.assert_close(found[at], points[int(best)], atol=1e-7, rtol=0)
    assert len({tuple(each) for each in halvings}) > 1
    assert any(halvings)
    assert any(same for each in halvings for _, same in each) == (wild > 1)


@pytest.mark.parametrize("loss", [log_odds, margin])
def test_the_worst_point_of_a_linear_network(loss: Loss) -> None:
    network, images = linear(), pictures()
    labels = network(images).argmax(1)
    begin = BALLS["l2"].start(images, 0.1, torch.Generator().manual_seed(0))
    found, _ = auto_pgd(network, images, labels, begin, epsilon=0.1, steps=40, loss=loss)
    torch.testing.assert_close(found, worst(network, images, labels, 0.1), atol=1e-4, rtol=0)


def test_images_with_a_wrong_point_leave_at_a_checkpoint_and_the_others_go_on_as_before() -> None:
    steps, count, epsilon = 40, 40, 0.35
    images = torch.rand(count, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    network = convolutional(3)
    labels = network.eval()(images).argmax(1)
    begin = BALLS["l2"].start(images, epsilon, torch.Generator().manual_seed(3))
    every, spy = Spy(network), Spy(network)
    stayed, _ = auto_pgd(every, images, labels, begin, epsilon=epsilon, steps=steps)
    left, passes = auto_pgd(spy, images, labels, begin, epsilon=epsilon, steps=steps, leave=True)
    wrong = network(stayed).argmax(1) != labels
    assert 5 < wrong.sum() < count - 5
    assert torch.equal(network(left).argmax(1) != labels, wrong)
    torch.testing.assert_close(left[~wrong], stayed[~wrong], atol=1e-7, rtol=0)
    assert passes[~wrong].tolist() == [steps + 1] * int((~wrong).sum())
    assert {*passes[wrong].tolist()} <= {k + 1 for k in checkpoints(steps)}
    assert passes[wrong].min() == checkpoints(steps)[0] + 1
    assert sum(map(len, spy.seen)) == passes.sum()
    for at in wrong.nonzero()[:, 0].tolist():  # it is the wrong point of the highest loss until then
        points = torch.stack([points[at] for points in every.seen[: int(passes[at])]])
        logits = network(points)
        losses = functional.cross_entropy(logits, labels[at].expand(len(points)), reduction="none")
        best = losses.where(logits.argmax(1) != labels[at], -1).argmax()
        torch.testing.assert_close(left[at], points[best], atol=1e-7, rtol=0)
    other = (labels + 1) % 3
    stands = network(moved(images, begin)).argmax(1) == labels  # so the other answer is wrong at once
    _, passes = auto_pgd(network, images[stands], other[stands], begin[stands], epsilon=epsilon, steps=40, leave=True)
    assert passes.tolist() == [checkpoints(steps)[0] + 1] * int(stands.sum())


def test_a_wrong_point_is_returned_even_where_another_has_a_higher_loss() -> None:
    """Here where every step leads away from the wrong points that some images begin at."""
    network, images = linear(), pictures(40)
    labels = network(images).argmax(1)
    epsilon = float(distances(network, images, labels).median())
    begin = worst(network, images, labels, epsilon) - images
    wrong = network(images + begin).argmax(1) != labels
    assert 5 < wrong.sum() < 40

    def backwards(logits: Tensor, labels: Tensor) -> Tensor:
        return -margin(logits, labels)

    found, _ = auto_pgd(network, images, labels, begin, epsilon=epsilon, steps=10, loss=backwards)
    assert torch.equal(network(found).argmax(1) != labels, wrong)
    assert (margin(network(found), labels)[~wrong] < margin(network(images), labels)[~wrong]).all()
