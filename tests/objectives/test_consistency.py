"""Consistency regularisation: values by hand, and a plain version of the formulas."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.objectives import load_objective

loss = load_objective("consistency")
# Probabilities 1/4, 3/4 and 3/4, 1/4: their mean is 1/2, 1/2.
LOGITS = torch.tensor([[[0.0, math.log(3)]], [[math.log(3), 0.0]]])
CE, KL, H = math.log(16 / 3) / 2, math.log(4 / 3) / 2, math.log(2)


class Read(nn.Module):
    """The pixels of an image are its logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def given(copies: Tensor) -> Callable[..., Tensor]:
    """A view that shows these, [m, B, …], whatever the noise."""
    return lambda images, sigma, generator: copies.flatten(0, 1)


def run(network: nn.Module, copies: Tensor, labels: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    images, sigma = torch.zeros_like(copies[0]), torch.zeros(len(labels))
    value, metrics = loss(
        network, given(copies), images, labels, sigma, torch.Generator(), copies=len(copies), **options
    )
    return value, metrics


def test_the_loss_of_known_logits() -> None:
    copies, label = LOGITS[..., None, None], torch.tensor([1])
    assert run(Read(), copies, label)[0].item() == pytest.approx(1.902767, abs=1e-6)
    for weight, entropy in ((0, 0), (1, 0), (0, 1), (5, 0.5), (20, 3)):
        value, _ = run(Read(), copies, label, weight=weight, entropy=entropy)
        assert value.item() == pytest.approx(CE + weight * KL + entropy * H, abs=1e-5)


def test_without_options_they_are_the_papers() -> None:
    copies, label = LOGITS[..., None, None], torch.tensor([1])
    value, _ = loss(Read(), given(copies), copies[0], label, torch.zeros(1), torch.Generator())
    assert value.item() == pytest.approx(CE + 5 * KL + 0.5 * H, abs=1e-6)


def test_equal_answers_are_consistent_and_certain_ones_have_no_entropy() -> None:
    labels = torch.tensor([0, 1])
    equal = torch.randn(1, 2, 3, 1, 1, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1, 1)
    alone = functional.cross_entropy(equal[0].flatten(1), labels)
    assert run(Read(), equal, labels, entropy=0)[0].item() == pytest.approx(alone.item(), abs=1e-5)
    certain = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])[None, ..., None, None].repeat(2, 1, 1, 1, 1)
    assert run(Read(), certain, labels)[0].item() == 0


def test_weights_that_are_equal_give_the_cross_entropy_of_the_mean() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5) % 4
    mean = logits.softmax(2).mean(0)
    cross = -(mean * logits.log_softmax(2).mean(0)).sum(1).mean()
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(3)) + 7 * cross
    value, _ = run(Read(), logits[..., None, None], labels, weight=7, entropy=7)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def naive(logits: Tensor, labels: Tensor, weight: float, entropy: float, detached: bool = False) -> Tensor:
    """The formula, image by image and copy by copy."""
    total = torch.zeros(())
    for image, label in enumerate(labels.tolist()):
        answers = [copy[image].softmax(0) for copy in logits]
        mean = torch.stack(answers).mean(0)
        target = mean.detach() if detached else mean
        for answer in answers:
            total = total - answer[label].log() / len(answers)
            total = total + weight / len(answers) * (target * (target.log() - answer.log())).sum()
        total = total - entropy * (mean * mean.log()).sum()
    return total / len(labels)


@pytest.mark.parametrize(("weight", "entropy"), [(5.0, 0.5), (1.0, 0.0), (0.0, 2.0)])
def test_loss_and_gradient_are_the_formulas_and_go_through_the_mean(weight: float, entropy: float) -> None:
    logits = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.arange(6) % 4
    value, _ = run(Read(), logits[..., None, None], labels, weight=weight, entropy=entropy)
    through, detached = (naive(logits, labels, weight, entropy, each) for each in (False, True))
    torch.testing.assert_close(value, through, atol=1e-5, rtol=1e-5)
    (mine,), (its,), (others,) = (torch.autograd.grad(each, logits) for each in (value, through, detached))
    torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)
    assert not weight or (its - others).norm() > 0.01 * its.norm()


@pytest.mark.parametrize("difference", [1000.0, -1000.0])
def test_answers_that_are_certain_in_float32_give_finite_gradients(difference: float) -> None:
    """Also where a copy is certain of what another is certain that it is not."""
    logits = torch.tensor([[[1000.0, 0.0]], [[difference, 0.0]]], requires_grad=True)
    value, _ = run(Read(), logits[..., None, None], torch.tensor([0]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_the_score_counts_images_whose_mean_answer_is_right() -> None:
    """Neither those whose first copy is right, 5, or the second, 2, nor the mean of these."""
    right, wrong, much, far = [1.0, 0.0], [0.0, 1.0], [9.0, 0.0], [0.0, 9.0]
    logits = torch.tensor([[right, right, right, wrong, right, much], [far, far, far, much, right, wrong]])
    _, metrics = run(Read(), logits[..., None, None], torch.zeros(6).long())
    assert metrics["score"].item() == 3
    assert metrics["score"].dim() == 0
    assert metrics.keys() == {"score"}


def test_a_view_gets_each_image_once_for_every_copy() -> None:
    images, sigma, generator = torch.rand(2, 3, 4, 4), torch.tensor([0.25, 0.5]), torch.Generator()
    seen: list[Tensor] = []

    def view(shown: Tensor, noise: Tensor, source: torch.Generator) -> Tensor:
        assert torch.equal(shown, images.repeat(3, 1, 1, 1))
        assert torch.equal(noise, torch.tensor([0.25, 0.5] * 3))
        assert source is generator
        return shown + noise[:, None, None, None]

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return images.flatten(1)

    loss(Spy(), view, images, torch.tensor([0, 1]), sigma, generator, copies=3)
    assert len(seen) == 1  # all copies at once: a forward of a DDP wrapper meets the other processes
    assert torch.equal(seen[0], (images + sigma[:, None, None, None]).repeat(3, 1, 1, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("copies", 1),
        ("copies", 2.0),
        ("copies", "2"),
        ("weight", -1),
        ("weight", math.nan),
        ("weight", "5"),
        ("entropy", -0.5),
        ("entropy", math.inf),
        ("entropy", None),
    ],
)
def test_an_option_that_means_nothing_is_refused(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match=f"^{name}: .*{value!r}"):
        loss(Read(), given(images[None]), images, torch.tensor([0, 1]), torch.zeros(2), torch.Generator(), **arguments)
