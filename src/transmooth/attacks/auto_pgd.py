"""AutoPGD: steps that halve where they no longer help (Croce and Hein, "Reliable evaluation of adversarial robustness
with an ensemble of diverse parameter-free attacks", ICML 2020, Algorithm 1).
"""

import torch
from torch import Tensor, nn

from transmooth.attacks.ball import BALLS, check_attack, moved, within
from transmooth.attacks.gradients import Loss, eval_mode, log_odds, slope
from transmooth.params.values import BallNorm

MOMENTUM = 0.75  # α: how much of a step is new
RISES = 0.75  # ρ: the share of the steps since the last checkpoint that should have raised the loss


def auto_pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    begin: Tensor,
    *,
    epsilon: float,
    steps: int,
    norm: BallNorm = "l2",
    loss: Loss = log_odds,
    leave: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return a wrongly classified point for each image where one was found, else that of the highest loss.

    [N, 3, H, W], within epsilon and in [0, 1]; of several wrong points it is the one of the highest loss.  And how many
    times the network saw each image, int64 [N].  leave: an image with a wrong point leaves at the next checkpoint, and
    takes no more of the time: for those that ask whether there is one, which is soon found for most.  With P the
    projection on the ball and clipping, g the normalised gradient, and a size s that is 2 epsilon at first:

        z       = P(x_k + s g)
        x_{k+1} = P(x_k + α (z − x_k) + (1 − α) (x_k − x_{k−1}))                 the first step is z itself

    At `checkpoints`, an image goes back to its highest point and halves its s if the loss rose in at most ρ of the
    steps since the last one; or if s was not halved there and the highest loss is still the same.
    loss: `log_odds`, which is cross-entropy's attack, or `margin`; cross-entropy alone misses images.
    Raises ValueError for an epsilon, steps or a norm that mean nothing.
    """
    check_attack(epsilon=epsilon, steps=steps, norm=norm)
    marks, last = set(checkpoints(steps)), 0
    points, seen, left = images.clone(), torch.full_like(labels, steps + 1), torch.arange(len(labels)).to(labels.device)
    with eval_mode(network):
        shift = before = within(images, begin, epsilon, norm)
        logits, losses, gradient = slope(network, moved(images, shift), labels, loss)
        wrong = logits.argmax(1) != labels
        best, best_losses, best_gradient = shift, losses, gradient
        found, found_losses = shift, losses.where(wrong, -torch.inf)
        size = torch.full_like(shift[:, :1, :1, :1], 2 * epsilon)
        rises, marked_losses = torch.zeros_like(labels), losses
        halved = torch.ones_like(wrong)  # nothing is known of the steps before the first

        for k in range(1, steps + 1):
            z = within(images, shift + size * BALLS[norm].direction(gradient), epsilon, norm)
            ahead = shift + MOMENTUM * (z - shift) + (1 - MOMENTUM) * (shift - before)
            shift, before = (z if k == 1 else within(images, ahead, epsilon, norm)), shift
            previous = losses
            logits, losses, gradient = slope(network, moved(images, shift), labels, loss)

            better = (logits.argmax(1) != labels) & (losses > found_losses)
            found, found_losses = _where(better, shift, found), torch.where(better, losses, found_losses)
            higher = losses > best_losses
            best, best_gradient = _where(higher, shift, best), _where(higher, gradient, best_gradient)
            best_losses = torch.where(higher, losses, best_losses)
            # After a return the loss of the point that was left counts, as in the authors' code.
            rises += losses > previous

            if k in marks:
                halved = (rises <= RISES * (k - last)) | (~halved & (best_losses <= marked_losses))
                size = _where(halved, size / 2, size)
                shift, gradient = _where(halved, best, shift), _where(halved, best_gradient, gradient)
                rises, marked_losses, last = torch.zeros_like(rises), best_losses, k
                if leave and k < steps and (done := found_losses > -torch.inf).any():
                    points[left[done]], seen[left[done]] = moved(images[done], found[done]), k + 1
                    state = (left, images, labels, shift, before, losses, gradient, size, halved)
                    left, images, labels, shift, before, losses, gradient, size, halved = (
                        each[~done] for each in state
                    )
                    high = (best, best_losses, best_gradient, found, found_losses, rises, marked_losses)
                    best, best_losses, best_gradient, found, found_losses, rises, marked_losses = (
                        each[~done] for each in high
                    )
                    if not len(left):
                        break
    points[left] = moved(images, _where(found_losses > -torch.inf, found, best))
    return points, seen


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which sizes may halve: ceil(p_j steps) of all p_j up to 1, without p_0.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06).
    """
    marks, part, before = list[int](), 22, 0  # in hundredths: sums of these are exact
    while part <= 100:
        marks.append(-(-part * steps // 100))
        part, before = part + max(part - before - 3, 6), part
    return marks


def _where(images: Tensor, these: Tensor, others: Tensor) -> Tensor:
    return torch.where(images[:, None, None, None], these, others)
