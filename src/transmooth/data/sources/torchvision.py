"""Any dataset class of torchvision.datasets, by name."""

import inspect
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .source import Images, Source, Spec, resolve

# The classes whose training or test images are not the ones that their signature suggests.
SPLITS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "DTD": {"train": ["train", "val"], "test": ["test"]},
    "Flowers102": {"train": ["train", "val"], "test": ["test"]},
    "ImageNet": {"train": ["train"], "test": ["val"]},
    "Places365": {"train": ["train-standard"], "test": ["val"]},
}


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "torchvision", "name": "CIFAR10", "root": "~/datasets", "download": false}`.

    The signature tells how the class names its splits: `train=True/False`, or `split=...`, where the default
    is the training split ("train", or "trainval" as in OxfordIIITPet). `"splits": {"train": ["train", "val"],
    "test": ["test"]}` in the spec overrides that.

    Raises ValueError if torchvision has no such class, the class has no such split, or labels are not class
    indices; FileNotFoundError if the images are not under the root.
    """
    import torchvision.datasets  # takes seconds

    name, root = spec["name"], resolve(spec["root"], base)
    dataset = getattr(torchvision.datasets, name, None)
    parameters = inspect.signature(dataset).parameters if inspect.isclass(dataset) else {}
    if dataset is None or not {"train", "split"} & set(parameters):
        raise ValueError(f"torchvision.datasets has no class {name!r} with a `train` or `split` argument")

    def part(split: str) -> Any:
        which = {"train": split == "train"} if "train" in parameters else {"split": split}
        # Some classes have no `download`, not even false.
        download = {"download": True} if spec.get("download", False) else {}
        try:
            return dataset(str(root), **which, **download)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"torchvision's {name} (split {split!r}) is not under {root}: {error}\n"
                "Set `download: true` in its source, or fetch it by hand into that folder."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"torchvision's {name} has no split {split!r}; name its own under `splits`: {error}"
            ) from error

    default = {"train": ["train"], "test": ["test"]}
    if "train" not in parameters and parameters["split"].default == "trainval":
        default["train"] = ["trainval"]
    splits = spec.get("splits") or SPLITS.get(name, default)
    parts = {split: [part(each) for each in splits[split]] for split in ("train", "test")}
    images = {split: _images(datasets) for split, datasets in parts.items()}

    highest = max(int(each.labels.max(initial=-1)) for each in images.values())
    classes = tuple(getattr(parts["train"][0], "classes", None) or map(str, range(highest + 1)))
    lowest = min(int(each.labels.min(initial=0)) for each in images.values())
    if lowest < 0 or highest >= len(classes):
        raise ValueError(
            f"torchvision's {name} has labels {lowest} to {highest}, but {len(classes)} classes: "
            "choose splits whose images are all labelled"
        )
    return Source(tuple(map(_class_name, classes)), images)


def _images(datasets: Sequence[Any]) -> Images:
    """Return the datasets one after the other."""
    ends = list(accumulate(len(dataset) for dataset in datasets))

    def load(index: int) -> Image.Image:
        which = bisect_right(ends, index)
        picture: Image.Image = datasets[which][index - ends[which] + len(datasets[which])][0]
        return picture

    return Images(np.concatenate([_labels(dataset) for dataset in datasets]), load)


def _labels(dataset: Any) -> npt.NDArray[np.int64]:
    """Under the names that torchvision's classes keep them; else by asking for every item, which decodes it."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(dataset, attribute):
            return np.asarray(getattr(dataset, attribute), np.int64)
    return np.array([dataset[index][1] for index in range(len(dataset))], np.int64)


def _class_name(name: str | Sequence[str]) -> str:
    """ImageNet gives each class as a tuple of synonyms."""
    return name if isinstance(name, str) else name[0]
