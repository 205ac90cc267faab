"""Adversarial training: learn from each image where the classifier is worst (Madry et al. 2018).

As in "A Study of the Effects of Transfer Learning on Adversarial Robustness" (TMLR 2024): from a random point at the
distance epsilon, three steps of projected gradient descent of 2/3 epsilon, of which the point of the highest loss is
kept.  The network is in eval mode while it is attacked, and in its own while it learns from what was found alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.attacks.ball import BALLS, check_attack
from transmooth.attacks.gradients import eval_mode
from transmooth.attacks.pgd import pgd
from transmooth.objectives import View, bare
from transmooth.params.values import BallNorm


def loss(
    classifier: nn.Module,
    view: View,
    images: Tensor,
    labels: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    *,
    epsilon: float = 0.5,
    steps: int = 3,
    norm: BallNorm = "l2",
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return mean_i CE(f(x*_i), y_i), with how many are right under the attack as the score.

    x*_i is what `pgd` makes of what the classifier sees of image i, in `steps` steps of 2 epsilon/steps.  epsilon: the
    radius, of images in [0, 1], in the norm l2 or linf.  `clean` among the metrics counts what is right before the
    attack, in eval mode.  The validation split is attacked too: its score is the accuracy under this attack.
    Raises ValueError for a value that means nothing.
    """
    check_attack(epsilon=epsilon, steps=steps, norm=norm)
    network = bare(classifier)
    seen = view(images, sigma, generator)
    begin = BALLS[norm].start(seen, epsilon, generator)
    worst = pgd(network, seen, labels, begin, epsilon=epsilon, step=2 * epsilon / steps, steps=steps, norm=norm)
    with torch.no_grad(), eval_mode(network):
        clean = (network(seen).argmax(1) == labels).sum()
    logits = classifier(worst)
    score = (logits.argmax(1) == labels).sum()
    return functional.cross_entropy(logits.float(), labels), {"score": score.detach(), "clean": clean}
