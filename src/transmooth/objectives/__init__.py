"""Training methods, one file each.  The file's name is the registry: a recipe's `objective` names the module.

An objective is `loss(classifier, view, images, labels, sigma, generator, **own options) -> (loss, metrics)`:

    classifier  what is trained: images [B, 3, H, W] → logits
    view        view(images, sigma, generator) → what the classifier sees: the images with their noise, without gradient
    images      float32 [B, 3, H, W] in [0, 1], augmented; [views, B, 3, H, W] where a recipe has several views
    labels      int64 [B]
    sigma       float32 [B], the noise level drawn for each image
    generator   of the noise and of all else that is random in it
    metrics     name -> sum over the batch (a 0-dim tensor), always the same names; `score` is one of them: the learning
                rate with the largest mean score on the validation split is kept

The loop calls the same function on the validation split, with the network in eval mode and gradients off.  A module
whose `CLASSIFIES` is False trains a network that gives no classes: its score takes the place of the test accuracy.
`VIEWS` (1 where it is not there) and `HEAD` (none) are what a recipe with it has to say of `views` and `head`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

View = Callable[[Tensor, Tensor, torch.Generator], Tensor]
Objective = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def load_objective(name: str) -> Objective:
    """Return the `loss` function of `objectives/<name>.py`."""
    module: Any = import_module(f"transmooth.objectives.{name}")
    loss: Objective = module.loss
    return loss


def classifies(name: str) -> bool:
    """Return whether what an objective trains answers with a class."""
    return bool(getattr(import_module(f"transmooth.objectives.{name}"), "CLASSIFIES", True))


def bare(classifier: nn.Module) -> nn.Module:
    """Return the network itself, without what couples it to other processes."""
    return classifier.module if isinstance(classifier, DistributedDataParallel) else classifier
