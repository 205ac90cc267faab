"""A folder of image files, one folder per class, that is not split yet."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..labelled import is_table, read_labelled
from ..split import first_of_each, stratified
from . import imagefolder
from .source import Images, Source, Spec, resolve


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "onefolder", "root": "path", "test": 0.2, "seed": 0}`: root/<class>/**/<file>, as in imagefolder.py.

    A root that is a table has the files and labels that it names, and its splits, if it has some (see labelled.py).

    `test` is the share of the images set aside to test with, drawn per class by `seed`; or, in place of both,
    `"train_per_class": 30` trains with the first so many of each class, and tests with all the others. `nested` and
    `without` are those of imagefolder.py. Raises what that one does, and ValueError if a split leaves nothing to test
    or to train with.
    """
    root = resolve(spec["root"], base)
    if is_table(root):
        whole = read_labelled(root)
    else:
        whole = imagefolder.source({**spec, "splits": {"train": ["."], "test": ["."]}}, base)
    if whole.splits["train"] is not whole.splits["test"]:
        return whole
    images, every = whole.splits["train"], np.arange(len(whole.splits["train"].labels))
    if (count := spec.get("train_per_class")) is None:
        test = _drawn(spec, images.labels)
        train = np.setdiff1d(every, test)
    else:
        sizes = np.bincount(images.labels)
        if sizes[least := int(sizes.argmin())] <= count:
            raise ValueError(
                f"{spec['root']}: train_per_class: should leave images to test, but class {whole.classes[least]!r} has "
                f"{sizes[least]}, found {count}"
            )
        train = first_of_each(images.labels, count)
        test = np.setdiff1d(every, train)

    def part(chosen: npt.NDArray[np.int64]) -> Images:
        return images.subset(chosen)

    return Source(whole.classes, {"train": part(train), "test": part(test)}, whole.notes)


def _drawn(spec: Spec, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the indices of the share that is set aside."""
    count = round(spec["test"] * len(labels))
    if not 0 < count < len(labels):
        raise ValueError(f"{spec['root']}: a share of {spec['test']} of its {len(labels)} images is {count}")
    return stratified(labels, count, spec["seed"])
