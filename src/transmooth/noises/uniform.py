"""Each image of a batch gets a sigma drawn uniformly from the set S, anew in each epoch (`noise.draw_sigmas`)."""

from collections.abc import Callable

import torch
from torch import nn

from transmooth.data.loader import Split
from transmooth.specs import TrainSpec


def choose(spec: TrainSpec, split: Split, begin: Callable[[], nn.Module], device: torch.device, share: slice) -> None:
    """Choose nothing."""
