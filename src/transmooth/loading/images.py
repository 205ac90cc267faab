"""Anyone's images, by one line of text.

A prepared folder; a folder of images, one folder per class, below <split>/ or not; the name of a torchvision dataset,
`CIFAR10` or `CIFAR10@ROOT`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transmooth.data.loader import open_split
from transmooth.data.picture import to_rgb, to_square
from transmooth.data.prepare import verify
from transmooth.data.sources import open_source
from transmooth.data.sources.imagefolder import image_files


@dataclass(frozen=True)
class ImageSet:
    """Labelled images: `fetch(index)` gives float32 [3, H, W] in [0, 1]; labels int64 [N].

    identity: what tells these images from others, for JSON. A prepared folder has its manifest's checksum, wherever it
    lies; a folder of files has a hash of their paths, sizes and times of change; a torchvision set, one of its labels.
    """

    fetch: Callable[[int], Tensor]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    description: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(text: str, split: str = "test", size: int | None = None) -> ImageSet:
    """The images that `text` names (see above), resized and cropped to squares of `size` unless it is None.

    A prepared folder has a size of its own, and is compared with its manifest. Raises ValueError or FileNotFoundError
    with what there is instead.
    """
    folder = Path(text)
    if size is not None and size < 1:
        raise ValueError(f"size: should be at least 1 pixel, found {size}")
    if (folder / "manifest.json").is_file():
        checksum = verify(folder, [split])["checksum"]
        prepared = open_split(folder, split)
        if size not in (None, prepared.size):
            raise ValueError(f"{folder} was prepared at size {prepared.size}, not {size}")
        identity = {"split": split, "checksum": checksum}
        return ImageSet(
            lambda index: prepared[index][0], prepared.labels, prepared.classes, f"{text} {split}", identity
        )
    if folder.is_dir():
        inner = _inner(folder, split)
        spec = {"kind": "imagefolder", "root": text, "splits": {"train": [inner], "test": [inner]}}
        part = "test"
    elif match := re.fullmatch(r"(\w+)(?:@(.+))?", text):
        spec = {"kind": "torchvision", "name": match[1], "root": match[2] or "~/datasets"}
        part = split
    else:
        raise FileNotFoundError(f"{text}: no such folder, and no name of a torchvision dataset")
    source = open_source(spec, Path.cwd())
    if part not in source.splits:
        raise ValueError(f"{text} has no split {split!r}; there is: {', '.join(source.splits)}")
    images = source.splits[part]
    first = images.load(0).size

    def fetch(index: int) -> Tensor:
        picture = to_rgb(images.load(index))
        if size is None and picture.size != first:
            raise ValueError(f"{text}: images 0 and {index} differ in size, {first} and {picture.size}: give a size")
        pixels = np.asarray(picture if size is None else to_square(picture, size))
        return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)

    description = f"{text} {split} {size or 'as stored'}"
    identity = {
        "images": description,
        "number": len(images.labels),
        "classes": _digest(source.classes),
        "labels": _digest(images.labels.tolist()),
    }
    if folder.is_dir():
        identity["files"] = _digest(_stats(folder / inner))
    return ImageSet(fetch, images.labels, source.classes, description, identity)


SPLITS = frozenset(("train", "val", "valid", "validation", "test"))


def _inner(folder: Path, split: str) -> str:
    """Where below the folder the classes are. Raises ValueError if there are splits but not this one."""
    if (folder / split).is_dir():
        return split
    if there := sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name in SPLITS):
        raise ValueError(f"{folder} has no split {split!r}; there is: {', '.join(there)}")  # they are no classes
    return "."


def _stats(folder: Path) -> list[tuple[str, int, int]]:
    """(path below the folder, bytes, nanoseconds of the last change) of every image file, sorted."""
    stats = [(Path(path).relative_to(folder).as_posix(), os.stat(path)) for path in image_files(folder)]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _digest(items: Iterable[Any]) -> str:
    return hashlib.sha256(repr(tuple(items)).encode()).hexdigest()
