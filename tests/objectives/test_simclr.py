"""SimCLR: values by hand, and that a network gets two views with noise of their own."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.objectives.conftest import Coupled
from transmooth.noise import add_noise
from transmooth.objectives import load_objective
from transmooth.objectives.simclr import nt_xent

loss = load_objective("simclr")


class Read(nn.Module):
    """The pixels of an image are what the network makes of it."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def run(views: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """views: what the network makes of two views of B images, [2, B, D]."""
    count = views.shape[1]
    images = views[..., None, None]
    return loss(Read(), add_noise, images, torch.zeros(count).long(), torch.zeros(count), torch.Generator(), **options)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [2, 5])
def test_the_loss_of_known_views(temperature: float, count: int) -> None:
    aligned = torch.eye(count).expand(2, -1, -1)
    value, metrics = run(aligned, temperature=temperature)
    assert value.item() == pytest.approx(math.log1p((2 * count - 2) * math.exp(-1 / temperature)), abs=1e-6)
    assert metrics["score"].item() == count
    equal, _ = run(torch.ones(2, count, 3), temperature=temperature)
    assert equal.item() == pytest.approx(math.log(2 * count - 1), rel=1e-5)


def test_opposite_views_of_two_images_that_are_equal() -> None:
    for temperature in (0.25, 1.0):
        value, metrics = run(torch.tensor([[[1.0, 0], [1, 0]], [[-1, 0], [-1, 0]]]), temperature=temperature)
        each = 1 / temperature
        assert value.item() == pytest.approx(each + math.log(2 * math.exp(-each) + math.exp(each)), rel=1e-5)
        assert metrics["score"].item() == 0


def test_without_options_the_temperature_is_a_half() -> None:
    assert run(torch.eye(3).expand(2, -1, -1))[0].item() == pytest.approx(math.log1p(4 * math.exp(-2)), rel=1e-5)


def test_loss_and_gradient_are_the_formula() -> None:
    views = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows = [*views.flatten(0, 1)]
    total = torch.zeros((), dtype=torch.float64)
    for i, row in enumerate(rows):
        similar = {k: torch.cosine_similarity(row, other, 0) / 0.3 for k, other in enumerate(rows) if k != i}
        total = total - similar[(i + 4) % 8] + torch.stack([*similar.values()]).logsumexp(0)
    value, _ = nt_xent(views.flatten(0, 1), 0.3)
    assert value.item() == pytest.approx(total.item() / 8)
    mine, its = (torch.autograd.grad(each, views)[0] for each in (value, total / 8))
    torch.testing.assert_close(mine, its)


def test_the_length_of_an_output_does_not_matter_and_nothing_is_no_direction() -> None:
    views = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    scales = torch.logspace(-3, 3, 12).view(2, 6, 1)
    assert run(views * scales)[0].item() == pytest.approx(run(views)[0].item(), rel=1e-5)
    dead = torch.zeros(2, 3, 4, requires_grad=True)  # where a rectifier gives nothing
    value, _ = run(dead)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_the_score_is_the_share_of_views_that_find_the_other_as_a_sum() -> None:
    """Of the first image both views do, of the second one: its first view is nearest to the first image's."""
    views = torch.tensor([[[1.0, 0.0], [0.9, 0.3]], [[1.0, 0.0], [0.6, 0.8]]])
    _, metrics = run(views)
    assert metrics.keys() == {"score"}
    assert metrics["score"].item() == 1.5
    assert metrics["score"].dim() == 0


def test_both_views_get_the_images_sigma_and_noise_of_their_own() -> None:
    images, sigma = torch.rand(2, 3, 3, 4, 4), torch.tensor([0.25, 0.0, 1.0])
    shown: list[Tensor] = []

    class Spy(Read):
        def forward(self, images: Tensor) -> Tensor:
            shown.append(images)
            return super().forward(images)

    loss(Spy(), add_noise, images, torch.zeros(3).long(), sigma, torch.Generator().manual_seed(2))
    (seen,) = shown  # one forward
    expected = add_noise(images.flatten(0, 1), sigma.repeat(2), torch.Generator().manual_seed(2))
    assert torch.equal(seen, expected)
    assert torch.equal(seen[[1, 4]], images[:, 1])
    noise = (seen - images.flatten(0, 1)).view(2, 3, 3, 4, 4)
    assert not torch.equal(noise[0, 0], noise[1, 0])
    assert noise[:, 2].std() > 2 * noise[:, 0].std()


def test_processes_meet_once_in_a_step(coupled: Coupled) -> None:
    network, met = coupled(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)))
    images = torch.rand(2, 5, 3, 2, 2)
    value, _ = loss(network, add_noise, images, torch.zeros(5).long(), torch.zeros(5), torch.Generator())
    value.backward()  # type: ignore[no-untyped-call]
    assert met == [10]


@pytest.mark.parametrize("value", [0, -0.5, math.nan, math.inf, "0.5", None])
def test_a_temperature_that_means_nothing_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"^temperature: should be a number above 0, found {value!r}"):
        run(torch.ones(2, 2, 3), temperature=value)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (3, 4, 3, 2, 2)])
def test_another_number_of_views_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^views: should be 2 for the objective simclr, found images \("):
        loss(Read(), add_noise, torch.ones(shape), torch.zeros(4).long(), torch.zeros(4), torch.Generator())
