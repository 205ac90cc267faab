"""Training methods, one file each.  The file's name is the registry: a recipe's `objective` names the module.

An objective is `loss(model, images, labels, sigma, generator, **own params) -> (loss, metrics)`:

    images     float32 [B, 3, H, W] in [0, 1], clean
    labels     int64 [B]
    sigma      float32 [B], the noise level drawn for each image
    generator  of the noise; nothing else may draw random numbers
    metrics    name -> sum over the batch (a 0-dim tensor); `correct` is always there
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor

Objective = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def load_objective(name: str) -> Objective:
    """The `loss` function of `objectives/<name>.py`."""
    module: Any = import_module(f"transmooth.objectives.{name}")
    loss: Objective = module.loss
    return loss
