"""Adversarial training: a plain version that moves one image at a time, and who is in which mode meanwhile."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks import Spy, convolutional, distances, linear, pictures
from tests.objectives.conftest import Coupled
from transmooth.noise import add_noise
from transmooth.objectives import load_objective

loss = load_objective("adversarial")


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return images, torch.arange(count) % 3


def network() -> nn.Sequential:
    return convolutional(dtype=torch.float32)


def run(
    classifier: nn.Module, images: Tensor, labels: Tensor, sigma: float = 0.0, seed: int = 0, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    value, metrics = loss(
        classifier, add_noise, images, labels, torch.full((len(labels),), sigma), generator, **options
    )
    return value, metrics


def naive(network: nn.Module, images: Tensor, labels: Tensor, seed: int, epsilon: float, steps: int) -> Tensor:
    """What the classifier learns from, in l2, image by image, of images without noise."""
    generator = torch.Generator().manual_seed(seed)
    add_noise(images, torch.zeros(len(images)), generator)
    drawn = torch.randn(images.shape, generator=generator)
    found = []
    for image, label, direction in zip(images, labels, drawn, strict=True):
        points, losses = [(image + epsilon * direction / direction.norm()).clamp(0, 1)], []
        for step in range(steps + 1):
            point = points[-1].clone().requires_grad_()
            value = functional.cross_entropy(network(point[None]), label[None])
            losses.append(value.item())
            if step < steps:
                (gradient,) = torch.autograd.grad(value, point)
                shift = point.detach() + 2 * epsilon / steps * gradient / gradient.norm() - image
                points.append((image + shift * min(1, epsilon / float(shift.norm()))).clamp(0, 1))
        found.append(points[losses.index(max(losses))])
    return torch.stack(found)


def gradients(value: Tensor, network: nn.Module) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(network.parameters()))])


@pytest.mark.parametrize("options", [{}, {"epsilon": 1.5, "steps": 5}], ids=str)
def test_it_learns_from_the_worst_point_alone(options: dict[str, Any]) -> None:
    spy, (images, labels) = Spy(network().eval()), batch()
    value, metrics = run(spy, images, labels, **options)
    worst = naive(spy.network, images, labels, 0, **{"epsilon": 0.5, "steps": 3} | options)
    torch.testing.assert_close(spy.seen[-1], worst, atol=1e-5, rtol=1e-5)
    expected = functional.cross_entropy(spy.network(worst), labels)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    mine, its = gradients(value, spy.network), gradients(expected, spy.network)
    torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-3)
    assert metrics["score"] == (spy.network(worst).argmax(1) == labels).sum()
    assert metrics["clean"] == (spy.network(images).argmax(1) == labels).sum() > metrics["score"]
    assert all(each.dim() == 0 and not each.requires_grad for each in metrics.values())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_score_is_robust_accuracy(norm: Any) -> None:
    """Of a linear classifier it is known; some labels are wrong before any attack."""
    classifier, images = linear(dtype=torch.float32), pictures(300, dtype=torch.float32)
    labels = classifier(images).argmax(1)
    distance = distances(classifier, images, labels, norm)
    epsilon = float(distance.median())
    labels[:30] = 1 - labels[:30]
    with torch.no_grad():
        _, metrics = run(classifier, images, labels, epsilon=epsilon, steps=40, norm=norm)
    assert metrics["clean"] == 270
    robust = (distance[30:] > epsilon).sum()
    assert robust <= metrics["score"] <= robust + (15 if norm == "l2" else 0)  # short steps end beside the worst point


def test_it_is_the_same_without_gradients_which_is_validation() -> None:
    classifier, (images, labels) = network().eval(), batch()
    value, metrics = run(classifier, images, labels)
    with torch.no_grad():
        other, others = run(classifier, images, labels)
    assert other.item() == value.item()
    assert others == metrics
    assert not other.requires_grad


def test_what_is_attacked_is_the_view() -> None:
    """Noise is drawn once: the attack, and what is right without it, are of the same noisy images."""
    spy, (images, labels) = Spy(network()), batch()
    run(spy, images, labels, sigma=0.5, seed=4)
    noisy = add_noise(images, torch.full((12,), 0.5), torch.Generator().manual_seed(4))
    away = [(seen - noisy).flatten(1).norm(dim=1) for seen in spy.seen]
    assert len(away) == 4 + 1 + 1
    assert all((each <= 0.5 + 1e-5).all() for each in away)
    assert [bool((each > 0.1).all()) for each in away] == [True] * 4 + [False, True]
    assert torch.equal(spy.seen[4], noisy)


def test_what_is_random_comes_from_the_generator() -> None:
    classifier, (images, labels) = network().eval(), batch()
    values = [run(classifier, images, labels, seed=seed)[0].item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_it_attacks_in_eval_mode_and_learns_in_the_classifiers_own() -> None:
    spy, (images, labels) = Spy(network()), batch()
    norm = spy.network[1]  # type: ignore[index]
    norm.train()
    spy.network[0].eval()  # type: ignore[index]
    before, mean = [module.training for module in spy.modules()], norm.running_mean.clone()
    assert len({*before}) == 2
    value, _ = run(spy, images, labels)
    assert spy.modes == [*[[False] * len(before)] * 5, before]
    assert [module.training for module in spy.modules()] == before
    assert norm.num_batches_tracked == 1
    assert not torch.equal(norm.running_mean, mean)
    assert all(parameter.grad is None for parameter in spy.parameters())
    value.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in spy.parameters())


def test_processes_meet_once_in_a_step(coupled: Coupled) -> None:
    (wrapper, met), (images, labels) = coupled(network().eval()), batch()
    run(wrapper, images, labels)[0].backward()  # type: ignore[no-untyped-call]
    assert met == [12]


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", 0), ("epsilon", "0.5"), ("steps", 0), ("steps", 3.0), ("norm", "l1")]
)
def test_an_option_that_means_nothing_is_refused(name: str, value: Any) -> None:
    images, labels = batch()
    with pytest.raises(ValueError, match=f"^{name}: .*{value!r}"):
        run(network(), images, labels, **{name: value})
