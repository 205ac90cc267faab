"""Projected gradient descent (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018)."""

import torch
from torch import Tensor, nn

from transmooth.attacks.ball import BALLS, check_attack, moved, widened, within
from transmooth.attacks.gradients import eval_mode, log_odds, slope
from transmooth.params.values import BallNorm


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    begin: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
    norm: BallNorm = "l2",
) -> Tensor:
    """Return each image where cross-entropy was highest on the way, [N, 3, H, W], within epsilon and in [0, 1].

    From images + begin, `steps` steps of length `step` along the normalised gradient (its sign, in linf), each
    projected on the ball and then clipped: steps + 1 points, of which the first of the highest is kept.  An image of
    which no point has a loss that is a number stays where it begins.
    Raises ValueError for an epsilon, steps or a norm that mean nothing.
    """
    check_attack(epsilon=epsilon, steps=steps, norm=norm)
    best = shift = within(images, begin, epsilon, norm)
    highest = torch.full_like(shift[:, 0, 0, 0], -torch.inf)
    with eval_mode(network):
        for _ in range(steps):
            _, losses, gradient = slope(network, moved(images, shift), labels, log_odds)
            best, highest = _higher(shift, losses, best, highest)
            shift = within(images, shift + step * BALLS[norm].direction(gradient), epsilon, norm)
        with torch.no_grad():
            losses = log_odds(widened(network(moved(images, shift))), labels)
        best, _ = _higher(shift, losses, best, highest)
    return moved(images, best)


def _higher(shift: Tensor, losses: Tensor, best: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    higher = losses > highest
    return torch.where(higher[:, None, None, None], shift, best), torch.where(higher, losses, highest)
