"""What every source gives: class names and, per split, labels and a way to load one picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os.path import expanduser, expandvars
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Images:
    """Labels int64 [N] in [0, K), and `load(i)`: picture i of N, of any mode and size, decoded only then."""

    labels: npt.NDArray[np.int64]
    load: Callable[[int], Image.Image]


@dataclass(frozen=True)
class Source:
    """K class names, in the order of the labels, and the splits "train" and "test"."""

    classes: tuple[str, ...]
    splits: Mapping[str, Images]


def resolve(path: str, base: Path) -> Path:
    """`path` with `~` and environment variables expanded; a relative path starts at `base`."""
    return base / expanduser(expandvars(path))
