"""Checkpoint folders: a card for any network, and what the weights of two folders have in common."""

from pathlib import Path
from typing import Any

import torch

from tests.conftest import NETWORK
from transmooth.checkpoint import weights

# Of the network of the fixture `network`.
CARD: dict[str, Any] = {
    "network": NETWORK.dump(),
    "classes": list("0123456789"),
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
}


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint."""
    return weights.load_any(folder)[0].state_dict()


def same(first: Path, second: Path) -> bool:
    """Whether two checkpoints have the same weights, bit for bit."""
    return not changed(first, second)


def changed(first: Path, second: Path) -> set[str]:
    """The tensors in which two checkpoints of one network differ, in shape or in any bit."""
    a, b = tensors_of(first), tensors_of(second)
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}
