"""SimCLR: learn features without labels, by finding the other view of an image among those of a batch.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020), Equation 1.  Of B
images there are 2B views, z_i is what the network makes of the i-th, j(i) the other view of its image, t a temperature:

    loss = 1/2B sum_i −log exp(cos(z_i, z_j(i)) / t) / sum_{k ≠ i} exp(cos(z_i, z_k) / t)

The other 2B − 2 views, the negatives, are those of one process and one part of an accumulated batch: `processes` and
`accumulate` change what is learned here.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.objectives import View

CLASSIFIES = False
VIEWS = 2
HEAD = "projection"


def loss(
    classifier: nn.Module,
    view: View,
    images: Tensor,
    labels: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    *,
    temperature: float = 0.5,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, with the share of an image's two views that find each other as the score.

    images: [2, B, 3, H, W]; both views of an image have its sigma, and noise of their own.  labels are not used.
    Raises ValueError for a temperature that means nothing, or another number of views.
    """
    _check(temperature=temperature)
    if images.dim() != 5 or len(images) != VIEWS:
        raise ValueError(f"views: should be {VIEWS} for the objective simclr, found images {tuple(images.shape)}")
    seen = view(images.flatten(0, 1), sigma.repeat(VIEWS), generator)
    value, found = nt_xent(classifier(seen).float(), temperature)
    return value, {"score": found.double() / VIEWS}


def nt_xent(outputs: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of outputs [2B, D] and how many of them have their other view, B rows on, as the most similar."""
    unit = functional.normalize(outputs, dim=1)
    similar = (unit @ unit.T / temperature).fill_diagonal_(-math.inf)
    other = torch.arange(len(outputs), device=outputs.device).roll(len(outputs) // 2)
    return functional.cross_entropy(similar, other), (similar.argmax(1) == other).sum()


def _check(*, temperature: Any) -> None:
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature: should be a number above 0, found {temperature!r}")
