"""Consistency regularisation: answer the noisy copies of an image alike.

Jeong and Shin, "Consistency Regularization for Certified Robustness of Smoothed Classifiers" (NeurIPS 2020).
Image x of class y is seen as m noisy copies, F_i are the probabilities of the i-th, F̂ is their mean:

    loss = 1/m sum_i CE(F_i, y) + weight 1/m sum_i KL(F̂ ‖ F_i) + entropy H(F̂)

F̂ is not detached: the gradient goes through it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.objectives import View


def loss(
    classifier: nn.Module,
    view: View,
    images: Tensor,
    labels: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    *,
    copies: int = 2,
    weight: float = 5.0,
    entropy: float = 0.5,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, mean over images, with how many have the right mean answer F̂ as the score.

    copies: m.  weight, entropy: the paper's λ and η; at 0 both, it is cross-entropy.
    Raises ValueError for a value that means nothing.
    """
    _check(copies=copies, weight=weight, entropy=entropy)
    seen = view(torch.cat([images] * copies), sigma.repeat(copies), generator)
    logits = classifier(seen).float()
    logs = logits.log_softmax(1).unflatten(0, (copies, len(labels)))
    # From logarithms: a probability may be 0 in float32, and the gradient of its logarithm then NaN.
    log_mean = logs.logsumexp(0) - math.log(copies)
    mean = log_mean.exp()
    spread = (mean * (log_mean - logs)).sum(2).mean()
    unsure = -(mean * log_mean).sum(1).mean()
    value = functional.cross_entropy(logits, labels.repeat(copies)) + weight * spread + entropy * unsure
    return value, {"score": (mean.argmax(1) == labels).sum()}


def _check(*, copies: Any, weight: Any, entropy: Any) -> None:
    if type(copies) is not int or copies < 2:
        raise ValueError(f"copies: should be a whole number from 2, found {copies!r}")
    for name, value in (("weight", weight), ("entropy", entropy)):
        if not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise ValueError(f"{name}: should be a number from 0, found {value!r}")
