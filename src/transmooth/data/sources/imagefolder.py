"""Folders of image files, one folder per class."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from .listing import SUFFIXES, list_classes, list_pictures, skipped_note
from .source import Images, Source, Spec, decode, resolve


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "imagefolder", "root": "path", "splits": {"train": ["train"], "test": ["test"]}}`.

    Files are root/<split>/<class>/**/<file> that are pictures (see listing.py); classes and, in a class, files are in
    sorted order. Several folders for one split are read one after the other. With `"empty": true` a class may be
    without pictures.

    Raises FileNotFoundError for a folder that is missing; ValueError if two folders differ in their classes, a class
    has no images, or a folder has a link to one that it lies in; `load` raises ValueError for a file that cannot be
    decoded.
    """
    root = resolve(spec["root"], base)
    folders = {split: [root / folder for folder in spec["splits"][split]] for split in ("train", "test")}
    first = folders["train"][0]
    classes = tuple(list_classes(first))
    for folder in (*folders["train"], *folders["test"]):
        if difference := set(classes) ^ set(list_classes(folder)):
            only = ", ".join(map(repr, sorted(difference)))
            raise ValueError(f"{first} and {folder} must have the same classes; only one of them has {only}")
    if not classes:
        raise ValueError(f"{first} has no folders: it needs one per class")
    skipped: Counter[str] = Counter()
    read: dict[tuple[Path, ...], Images] = {}  # the two splits may be one
    for each in folders.values():
        if tuple(each) not in read:
            read[tuple(each)] = _images(root, each, classes, spec.get("empty", False), skipped)
    notes = tuple(skipped_note(root, skipped))
    return Source(classes, {split: read[tuple(each)] for split, each in folders.items()}, notes)


def _images(root: Path, folders: list[Path], classes: tuple[str, ...], empty: bool, skipped: Counter[str]) -> Images:
    paths: list[str] = []
    labels: list[int] = []
    for folder in folders:
        for label, (name, spelled) in enumerate(list_classes(folder).items()):
            listings = [list_pictures(each) for each in spelled]
            found = sorted(path for listing in listings for path in listing.paths)
            skipped.update(sum((listing.skipped for listing in listings), Counter()))
            if not found and not empty:
                raise ValueError(f"class {name!r} is empty: no {' '.join(sorted(SUFFIXES))} in {spelled[0]}")
            paths += found
            labels += [label] * len(found)
    return file_images(paths, labels, root)


def file_images(paths: list[str], labels: list[int], root: Path) -> Images:
    """Return the pictures in files below a root, which are decoded when they are asked for."""

    def load(index: int) -> Image.Image:
        return decode(paths[index], f"the image {paths[index]}")

    names = [Path(path).relative_to(root).as_posix() for path in paths]
    return Images(np.array(labels, np.int64), load, names)
