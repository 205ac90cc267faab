"""Which sigma each training image gets, one file a way.  The file's name is the registry: a recipe's `noise` names it.

    choose(spec, split, begin, device, share) -> float64 [len(split)], or None

is called once by a training, before its first step, and what it returns is kept with the state that a resumed run goes
on from.  It gives each training image a sigma, or None: then a batch draws them uniformly, as validation always does.

spec: of the training; split: the training images; begin: gives the network that the stage starts from; share: of the
images, which this process is to choose for: the others are 0.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Choose = Callable[..., NDArray[np.float64] | None]


def load_noise(name: str) -> Choose:
    """Return the `choose` function of `noises/<name>.py`."""
    module: Any = import_module(f"transmooth.noises.{name}")
    choose: Choose = module.choose
    return choose
