"""Handwritten digits from scikit-learn: small, real, and on every machine that has the package."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..split import stratified
from .source import Images, Source, Spec


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "digits", "seed": 0, "test": 500}`: 1797 grey 8×8 digits, `test` of them drawn per class.

    Raises ValueError if `test` leaves nothing to train on.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the file has 0 to 16
    labels = bunch.target.astype(np.int64)
    test = stratified(labels, spec["test"], spec["seed"])
    train = np.setdiff1d(np.arange(len(labels)), test)

    def images(chosen: npt.NDArray[np.int64]) -> Images:
        return Images(labels[chosen], lambda index: Image.fromarray(pixels[chosen[index]]))

    return Source(tuple(map(str, range(10))), {"train": images(train), "test": images(test)})
