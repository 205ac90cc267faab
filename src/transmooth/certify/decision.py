"""What every certifier answers with, for many images at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ABSTAIN = -1


@dataclass(frozen=True)
class Decisions:
    """One entry per image in every array.

    selected     the class that the selection samples chose
    prediction   the same where something was certified, else ABSTAIN
    radius       certified l2 radius in units of the [0, 1] image, full precision; 0 where abstained
    n            estimation samples used
    top_count    how many of them were `selected`
    evaluations  forward passes in all, selection included
    """

    selected: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    radius: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    top_count: npt.NDArray[np.int64]
    evaluations: npt.NDArray[np.int64]
