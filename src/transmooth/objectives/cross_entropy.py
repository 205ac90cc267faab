"""Cross-entropy on noisy images: the objective of Cohen et al. (2019) and, with a set of sigmas, of mixed noise."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.noise import add_noise


def loss(
    model: nn.Module, images: Tensor, labels: Tensor, sigma: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """mean_i CE(f(x_i + sigma_i delta_i), y_i).  sigma_i = 0 leaves image i clean."""
    logits = model(add_noise(images, sigma, generator))
    correct = (logits.argmax(1) == labels).sum()
    return functional.cross_entropy(logits.float(), labels), {"correct": correct.detach()}
