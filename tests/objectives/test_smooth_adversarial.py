"""SmoothAdv: the worst point of a linear network, a plain version of the formulas, and which noise is seen when."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks import Spy, convolutional, linear, pictures, worst
from tests.objectives.conftest import Coupled
from transmooth.noise import add_noise
from transmooth.objectives import load_objective

loss = load_objective("smooth_adversarial")


def run(
    classifier: nn.Module, images: Tensor, labels: Tensor, sigma: float = 0.0, seed: int = 0, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    value, metrics = loss(
        *(classifier, add_noise, images, labels, torch.full((len(labels),), sigma)),
        torch.Generator().manual_seed(seed),
        **options,
    )
    return value, metrics


def copies_of(images: Tensor, sigma: float, seed: int, copies: int) -> Tensor:
    """The noisy copies, [copies, B, …]."""
    many, generator = torch.cat([images] * copies), torch.Generator().manual_seed(seed)
    return add_noise(many, torch.full((len(many),), sigma), generator).view(copies, *images.shape)


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return images, torch.arange(count) % 3


def test_it_learns_from_the_worst_point_of_a_linear_network() -> None:
    """Whose gradient has one direction, whatever the noise: one step of 2 ε, cut to ε, is there."""
    classifier, images, epsilon = linear(dtype=torch.float32), pictures(40, dtype=torch.float32), 0.125
    labels = classifier(images).argmax(1)
    spy = Spy(classifier)
    value, metrics = run(spy, images, labels, sigma=0.5, seed=2, copies=3, steps=1, epsilon=epsilon)
    seen = copies_of(images, 0.5, 2, 3) + worst(classifier, images, labels, epsilon) - images
    torch.testing.assert_close(spy.seen[-1], seen.flatten(0, 1), atol=1e-5, rtol=0)
    logits = classifier(seen.flatten(0, 1))
    torch.testing.assert_close(value, functional.cross_entropy(logits, labels.repeat(3)), atol=1e-5, rtol=1e-5)
    mean = logits.softmax(1).view(3, 40, -1).mean(0)
    assert 0 < metrics["score"] == (mean.argmax(1) == labels).sum() < 40
    assert metrics["score"].dim() == 0
    assert not metrics["score"].requires_grad


def naive(network: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, epsilon: float, steps: int) -> Tensor:
    """x̂ image by image: the point of the largest −log of the mean probability on the way."""
    found = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        points, losses = [image], []
        for step in range(steps + 1):
            point = points[-1].clone().requires_grad_()
            value = -network(point + noise[:, i]).softmax(1)[:, label].mean().log()
            losses.append(value.item())
            if step < steps:
                (gradient,) = torch.autograd.grad(value, point)
                shift = point.detach() + 2 * epsilon / steps * gradient / gradient.norm() - image
                points.append((image + shift * min(1, epsilon / float(shift.norm()))).clamp(0, 1))
        found.append(points[losses.index(max(losses))])
    return torch.stack(found)


@pytest.mark.parametrize("options", [{}, {"copies": 4, "steps": 5, "epsilon": 1.5}], ids=str)
def test_loss_and_gradient_are_the_formulas(options: dict[str, Any]) -> None:
    spy, (images, labels) = Spy(convolutional(dtype=torch.float32).eval()), batch()
    given = {"copies": 2, "steps": 2, "epsilon": 0.25} | options
    value, _ = run(spy, images, labels, sigma=0.3, seed=5, **options)
    noise = copies_of(images, 0.3, 5, given["copies"]) - images
    found = naive(spy.network, images, labels, noise, given["epsilon"], given["steps"])
    seen = (found + noise).flatten(0, 1)
    torch.testing.assert_close(spy.seen[-1], seen, atol=1e-4, rtol=1e-4)
    expected = functional.cross_entropy(spy.network(seen), labels.repeat(given["copies"]))
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)
    parameters = list(spy.network.parameters())
    for mine, its in zip(*(torch.autograd.grad(each, parameters) for each in (value, expected)), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-3, rtol=1e-2)


def test_the_noise_is_drawn_once_and_the_same_throughout() -> None:
    """All copies of an image move together, by no more than epsilon, from the images themselves."""
    spy, (images, labels) = Spy(convolutional(dtype=torch.float32)), batch()
    run(spy, images, labels, sigma=0.5, seed=4, copies=3, steps=2, epsilon=0.25)
    noisy = copies_of(images, 0.5, 4, 3)
    assert len(spy.seen) == 3 + 1
    for number, seen in enumerate(spy.seen):
        shift = seen.view(3, *images.shape) - noisy
        torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-6, rtol=0)
        length = shift.flatten(2).norm(dim=2)
        assert (length <= 0.25 + 1e-5).all()
        assert bool((length > 0.01).all()) == (number > 0)
        assert ((images + shift[0] >= -1e-6) & (images + shift[0] <= 1 + 1e-6)).all()


def test_it_attacks_in_eval_mode_and_learns_in_the_classifiers_own() -> None:
    spy, (images, labels) = Spy(convolutional(dtype=torch.float32)), batch()
    before = [module.training for module in spy.modules()]
    assert len({*before}) == 2
    run(spy, images, labels)
    assert spy.modes == [*[[False] * len(before)] * 3, before]
    assert [module.training for module in spy.modules()] == before


def test_images_that_are_certain_in_float32_are_attacked() -> None:
    """Where 1/m Σ F_y rounds to 1, and the loss of the paper is flat."""
    classifier, images = linear(scale=400, dtype=torch.float32), pictures(60, dtype=torch.float32)
    labels = classifier(images).argmax(1)
    assert (classifier(images).softmax(1).amax(1) == 1).float().mean() > 0.5
    spy = Spy(classifier)
    run(spy, images, labels, steps=1, copies=2)
    moved = (spy.seen[-1] - images.repeat(2, 1, 1, 1)).flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, torch.full((120,), 0.25), atol=1e-5, rtol=0)


def test_it_is_the_same_without_gradients_which_is_validation() -> None:
    classifier, (images, labels) = convolutional(dtype=torch.float32).eval(), batch()
    value, metrics = run(classifier, images, labels, sigma=0.25)
    with torch.no_grad():
        other, others = run(classifier, images, labels, sigma=0.25)
    assert other.item() == value.item()
    assert others == metrics


def test_processes_meet_once_in_a_step(coupled: Coupled) -> None:
    (wrapper, met), (images, labels) = coupled(convolutional(dtype=torch.float32).eval()), batch()
    run(wrapper, images, labels)[0].backward()  # type: ignore[no-untyped-call]
    assert met == [24]


@pytest.mark.parametrize(("name", "value"), [("copies", 0), ("copies", 2.0), ("steps", 0), ("epsilon", 0)])
def test_an_option_that_means_nothing_is_refused(name: str, value: Any) -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match=f"^{name}: .*{value!r}"):
        run(convolutional(dtype=torch.float32), images, labels, **{name: value})
