"""SmoothAdv: adversarial training of the smoothed classifier.

Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers" (NeurIPS 2019).  Image x
of class y is seen as m noisy copies x + σ δ_j, F are the probabilities that the network gives:

    x̂ = argmax over ‖x' − x‖₂ ≤ ε of  −log( 1/m Σ_j F_y(x' + σ δ_j) ),     loss = 1/m Σ_j CE(F(x̂ + σ δ_j), y)

with the same δ_j in both.  As in the paper the attack begins at x and takes steps of 2 ε / steps along the normalised
gradient, within [0, 1]; of the points on its way the worst is kept.  Behind a denoiser, x' − x is added to what that
leaves.  The network is in eval mode while it is attacked.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.attacks.ball import check_attack, widened
from transmooth.attacks.pgd import pgd
from transmooth.objectives import View, bare


class Averaged(nn.Module):
    """The logarithm of the mean probabilities, [B, K], of noisy copies of images that are moved together.

    seen: the copies [m B, 3, H, W], all of the first, then all of the second; images: what they are copies of.
    """

    def __init__(self, network: nn.Module, seen: Tensor, images: Tensor) -> None:
        super().__init__()
        self.network, self.seen, self.images = network, seen, images

    def moved(self, points: Tensor) -> Tensor:
        """Return the copies of points in the places of the images, with the same noise."""
        copies = len(self.seen) // len(self.images)
        return self.seen + (points - self.images).repeat(copies, 1, 1, 1)

    def forward(self, points: Tensor) -> Tensor:
        return log_mean(self.network(self.moved(points)), len(points))


def log_mean(logits: Tensor, count: int) -> Tensor:
    """Return log( 1/m Σ_j F_j ), [count, K], of the logits of m copies of `count` images."""
    logs = widened(logits).log_softmax(1).view(-1, count, logits.shape[1])
    mean: Tensor = logs.logsumexp(0) - math.log(len(logs))
    return mean


def loss(
    classifier: nn.Module,
    view: View,
    images: Tensor,
    labels: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    *,
    copies: int = 2,
    steps: int = 2,
    epsilon: float = 0.25,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, mean over images, with how many have the right mean answer under the attack as the score.

    copies: m.  epsilon: ε, of images in [0, 1]; a recipe's `options_from` may raise it from epoch to epoch.
    Raises ValueError for a value that means nothing.
    """
    check_attack(epsilon=epsilon, steps=steps)
    _check_copies(copies)
    seen = view(torch.cat([images] * copies), sigma.repeat(copies), generator)
    averaged = Averaged(bare(classifier), seen, images)
    nowhere = torch.zeros_like(images)
    worst = pgd(averaged, images, labels, nowhere, epsilon=epsilon, step=2 * epsilon / steps, steps=steps)
    logits = classifier(averaged.moved(worst))
    right = (log_mean(logits.detach(), len(labels)).argmax(1) == labels).sum()
    return functional.cross_entropy(widened(logits), labels.repeat(copies)), {"score": right}


def _check_copies(copies: Any) -> None:
    if type(copies) is not int or copies < 1:
        raise ValueError(f"copies: should be a whole number from 1, found {copies!r}")
