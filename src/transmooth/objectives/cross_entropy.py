"""Cross-entropy on noisy images: the objective of Cohen et al. (2019) and, with a set of sigmas, of mixed noise."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.objectives import View


def loss(
    classifier: nn.Module, view: View, images: Tensor, labels: Tensor, sigma: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return mean_i CE(f(x_i + sigma_i delta_i), y_i), with how many are right as the score.

    sigma_i = 0 leaves image i clean.
    """
    logits = classifier(view(images, sigma, generator))
    correct = (logits.argmax(1) == labels).sum()
    return functional.cross_entropy(logits.float(), labels), {"score": correct.detach()}
