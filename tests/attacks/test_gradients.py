"""What attacks climb: losses that do not vanish, and gradients that are each image's own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks import convolutional
from transmooth.attacks.gradients import eval_mode, log_odds, margin, slope


def gradient(loss: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, at, retain_graph=True)
    return found


def test_log_odds_rise_with_cross_entropy_and_point_where_it_points() -> None:
    logits = torch.randn(500, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(500) % 5
    ce, odds = functional.cross_entropy(logits, labels, reduction="none"), log_odds(logits, labels)
    torch.testing.assert_close(functional.softplus(odds), ce)
    assert torch.equal(odds.argsort(), ce.argsort())
    slopes = [gradient(each.sum(), logits) for each in (ce, odds)]
    torch.testing.assert_close(*(each / each.norm(dim=1, keepdim=True) for each in slopes))


def test_log_odds_have_a_slope_where_cross_entropy_has_none_in_float32() -> None:
    logits = torch.tensor([[1000.0, 0.0, -5.0]], requires_grad=True)
    label = torch.tensor([0])
    assert gradient(functional.cross_entropy(logits, label), logits).abs().max() == 0
    assert log_odds(logits, label).item() == pytest.approx(-1000, abs=0.01)
    assert gradient(log_odds(logits, label).sum(), logits).flatten().tolist() == pytest.approx(
        [-1, 0.9933, 0.0067], abs=1e-4
    )


def test_the_margin_is_above_zero_exactly_where_the_answer_is_wrong() -> None:
    logits = torch.tensor([[2.0, -1.0, 1.0]]).repeat(3, 1)
    assert margin(logits, torch.arange(3)).tolist() == [-1, 3, 1]
    drawn = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 4
    assert torch.equal(margin(drawn, labels) > 0, drawn.argmax(1) != labels)


def test_a_slope_is_the_images_own_and_leaves_the_weights_alone() -> None:
    network, images = convolutional().eval(), torch.rand(5, 3, 4, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        logits, losses, gradients = slope(network, images, labels, margin)
    assert not images.requires_grad
    assert not any(each.requires_grad for each in (logits, losses, gradients))
    torch.testing.assert_close(losses, margin(network(images), labels))
    for at in range(5):
        part = slice(at, at + 1)
        torch.testing.assert_close(slope(network, images[part], labels[part], margin)[2], gradients[part])
    assert all(each.grad is None and each.requires_grad for each in network.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_each_modules_own_afterwards(fails: bool) -> None:
    network = convolutional()
    before = [module.training for module in network.modules()]
    assert len({*before}) == 2

    def inside(module: nn.Module) -> None:
        with eval_mode(module):
            assert not any(each.training for each in module.modules())
            if fails:
                raise RuntimeError("out of memory")

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            inside(network)
    else:
        inside(network)
    assert [module.training for module in network.modules()] == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_slopes_are_float32_or_wider(dtype: torch.dtype) -> None:
    """Of float16, lengths below 6e-5 would be no direction."""
    images = torch.rand(5, 3, 4, 4, dtype=dtype)
    for found in slope(convolutional(dtype=dtype).eval(), images, torch.zeros(5).long(), log_odds):
        assert found.dtype == torch.promote_types(dtype, torch.float32)
