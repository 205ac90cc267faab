"""Anyone's images, by one line of text.

A prepared folder; a folder of images, one folder per class, below <split>/ or not; a table of files and labels (.csv,
.tsv); the name of a torchvision dataset, `CIFAR10` or `CIFAR10@ROOT`; to predict, a folder of images without classes.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transmooth.data.labelled import is_table, read_labelled
from transmooth.data.listing import Listing, list_classes, list_pictures, skipped_note
from transmooth.data.loader import open_split
from transmooth.data.parts import left_beside, part_of, parts_below
from transmooth.data.picture import to_square
from transmooth.data.prepare import verify
from transmooth.data.sources import open_source
from transmooth.data.sources.imagefolder import file_images
from transmooth.data.sources.source import Source, rgb_of, unreadable

ALL = "there are none, and all of it is train, val and test"  # where nothing is split


@dataclass(frozen=True)
class ImageSet:
    """Labelled images: `fetch(index)` gives float32 [C, H, W] in [0, 1]; labels int64 [N].

    C is 3, or 1 after `grey`.  Without labels these are -1, and there are no classes.
    names: of the files, where each image is one: paths below the folder.  notes: what should be known of them.
    prepared: which split of which manifest (its checksum), where they were prepared.
    """

    fetch: Callable[[int], Tensor]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    description: str
    names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    prepared: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these images from others, for JSON, beside each one's `picture`: what the labels mean."""
        return {"classes": list(self.classes)}

    def picture(self, index: int) -> str:
        """Return a hash of the shape and the 8-bit pixels of an image, wherever and however it is stored."""
        pixels = (self.fetch(index) * 255).round().to(torch.uint8).contiguous()
        return hashlib.blake2b(
            repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes(), digest_size=16
        ).hexdigest()

    def pictures(self, indices: Iterable[int]) -> dict[int, str]:
        """Return `picture` of these images.  Raises ValueError naming all that cannot be read."""

        def attempt(index: int) -> str | ValueError:
            try:
                return self.picture(index)
            except ValueError as error:
                return error

        chosen = list(indices)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter's lock
            found = dict(zip(chosen, pool.map(attempt, chosen), strict=True))
        if faults := [each for each in found.values() if isinstance(each, ValueError)]:
            raise unreadable(faults, len(chosen))
        return {index: each for index, each in found.items() if isinstance(each, str)}

    def grey(self) -> "ImageSet":
        """Return the images in one channel: luma of ITU-R 601 as Pillow rounds it, which leaves grey as it is."""

        def fetch(index: int) -> Tensor:
            red, green, blue = (self.fetch(index) * 255).round().to(torch.int64)
            luma: Tensor = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
            return luma[None].to(torch.float32) / 255

        return replace(
            self, fetch=fetch, notes=(*self.notes, "the network takes one channel: the images are turned grey")
        )

    def noted(self, note: str) -> "ImageSet":
        """Return the images with one more note."""
        return replace(self, notes=(*self.notes, note))

    def without_empty(self, note: str) -> "ImageSet":
        """Return the images without the classes that have none."""
        there = np.unique(self.labels)
        classes = tuple(self.classes[label] for label in there)
        return replace(self, labels=np.searchsorted(there, self.labels), classes=classes, notes=(*self.notes, note))

    def among(self, classes: Sequence[str], note: str) -> "ImageSet":
        """Return the images with their labels as positions in `classes`, which has the names of all of theirs."""
        position = np.array([list(classes).index(name) for name in self.classes], np.int64)
        return replace(self, labels=position[self.labels], classes=tuple(classes), notes=(*self.notes, note))


def load_images(text: str, split: str = "test", size: int | None = None, unlabelled: bool = False) -> ImageSet:
    """The images that `text` names (see above), resized and cropped to squares of `size` unless it is None.

    A prepared folder has a size of its own, and is compared with its manifest.  A class may be without images.
    unlabelled: take a folder of images without folders for classes, too.  Raises ValueError or FileNotFoundError with
    what there is instead.
    """
    folder = Path(text)
    if size is not None and size < 1:
        raise ValueError(f"size: should be at least 1 pixel, found {size}")
    if (folder / "manifest.json").is_file():
        checksum = verify(folder, [split])["checksum"]
        prepared = open_split(folder, split)
        if size not in (None, prepared.size):
            raise ValueError(f"{folder} was prepared at size {prepared.size}, not {size}")
        return ImageSet(
            lambda index: prepared[index][0],
            prepared.labels,
            prepared.classes,
            f"{text} {split}",
            prepared={"split": split, "checksum": checksum},
        )
    source, part = _source(text, folder, split, unlabelled)
    if part not in source.splits:
        raise ValueError(f"{text} has no split {split!r}; there is: {', '.join(source.splits)}")
    images = source.splits[part]
    if not len(images.labels):
        raise ValueError(f"{text}: has no pictures in it")

    @cache
    def first() -> tuple[int, int] | None:
        try:
            return images.load(0).size
        except ValueError:  # it is said where that one is read
            return None

    def fetch(index: int) -> Tensor:
        picture = rgb_of(images, index)
        if size is None and picture.size != (first() or picture.size):
            raise ValueError(f"{text}: images 0 and {index} differ in size, {first()} and {picture.size}: give a size")
        pixels = np.asarray(picture if size is None else to_square(picture, size))
        return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)

    description = f"{text} {split} {size or 'as stored'}"
    return ImageSet(fetch, images.labels, source.classes, description, images.names, source.notes)


def _source(text: str, folder: Path, split: str, unlabelled: bool) -> tuple[Source, str]:
    """Return the source that a text names, and which of its splits is the one asked for."""
    if is_table(folder):
        return _split_of(read_labelled(folder), text, split)
    if folder.is_dir():
        inner = _inner(folder, split)
        classes = list_classes(folder / inner)
        listing = Listing() if classes else list_pictures(folder / inner)
        if unlabelled and not classes:
            images = file_images(listing.paths, [-1] * len(listing.paths), folder)
            return Source((), {"test": images}, tuple(skipped_note(folder, listing.skipped))), "test"
        if listing.paths:
            raise ValueError(
                f"{folder / inner}: has {len(listing.paths)} pictures and no folders: it needs one for each class, or "
                "beside the pictures a table of files and labels (.csv)"
            )
        beside = [*left_beside(folder, [] if inner == "." else [inner])]
        beside += [] if inner == "." else left_beside(folder / inner, [])
        spec: dict[str, Any] = {"kind": "imagefolder", "root": text, "splits": {"train": [inner], "test": [inner]}}
        source = open_source(spec | {"empty": True}, Path())
        return replace(source, notes=(*source.notes, *beside)), "test"
    if folder.is_file():
        raise ValueError(
            f"{text}: is a file; images are a folder (unpack an archive first), or a table of files and labels with a "
            "header, .csv or .tsv"
        )
    if match := re.fullmatch(r"(\w+)(?:@(.+))?", text):
        import torchvision.datasets  # takes seconds

        if not hasattr(torchvision.datasets, match[1]):
            raise FileNotFoundError(f"{text}: no such folder, and no name of a torchvision dataset")
        spec = {"kind": "torchvision", "name": match[1], "root": match[2] or "~/datasets"}
        return open_source(spec, Path()), split
    raise FileNotFoundError(f"{text}: no such folder or table (.csv), and no name of a torchvision dataset")


def _split_of(source: Source, text: str, split: str) -> tuple[Source, str]:
    """Return the source of a table, and which of its splits is asked for; one without splits has all in each."""
    part, whole = part_of(split), source.splits["train"] is source.splits["test"]
    if part is None:
        raise ValueError(f"{text}: has no split {split!r}; {ALL if whole else 'there is: train, test'}")
    if part == "val" and not whole:
        raise ValueError(f"{text}: has no split {split!r} apart; there is: train, test")
    return source, "train" if part == "train" else "test"


def _inner(folder: Path, split: str) -> str:
    """Where below the folder the classes are; one without splits has all in each.

    Raises ValueError if there are splits but not this one, and for what no split is called.
    """
    if (folder / split).is_dir():
        return split
    parts = parts_below(folder)
    if len(meant := [name for name, part in parts.items() if part == part_of(split)]) == 1:
        return meant[0]
    if parts:  # they are no classes
        raise ValueError(f"{folder} has no split {split!r}; there is: {', '.join(sorted(parts))}")
    if part_of(split) is None:
        raise ValueError(f"{folder} has no split {split!r}; {ALL}")
    return "."
