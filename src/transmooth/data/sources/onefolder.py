"""A folder of image files, one folder per class, that nobody has split yet."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..split import stratified
from . import imagefolder
from .source import Images, Source, Spec


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "onefolder", "root": "path", "test": 0.2, "seed": 0}`: root/<class>/**/<file>, as in imagefolder.py.

    `test` is the share of the images set aside to test with, drawn per class by `seed`. Raises what that one
    does, and ValueError if the share leaves nothing to test or to train with.
    """
    whole = imagefolder.source({"root": spec["root"], "splits": {"train": ["."], "test": ["."]}}, base)
    images = whole.splits["train"]
    count = round(spec["test"] * len(images.labels))
    if not 0 < count < len(images.labels):
        raise ValueError(f"{spec['root']}: a share of {spec['test']} of its {len(images.labels)} images is {count}")
    test = stratified(images.labels, count, spec["seed"])
    train = np.setdiff1d(np.arange(len(images.labels)), test)

    def part(chosen: npt.NDArray[np.int64]) -> Images:
        return images.subset(chosen)

    return Source(whole.classes, {"train": part(train), "test": part(test)}, whole.notes)
