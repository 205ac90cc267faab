"""Folders of image files, one folder per class."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..listing import SUFFIXES, list_classes, list_leaves, list_pictures, skipped_note
from .source import Images, Source, Spec, decode, resolve


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "imagefolder", "root": "path", "splits": {"train": ["train"], "test": ["test"]}}`.

    Files are root/<split>/<class>/**/<file> that are pictures (see listing.py); classes and, in a class, files are in
    sorted order. Several folders for one split are read one after the other. With `"empty": true` a class may be
    without pictures. `"nested": true` has a class in each folder without folders in it, by its path below the split;
    `"without": ["x"]` leaves classes out.

    Raises FileNotFoundError for a folder that is missing.  Raises ValueError in five cases: two folders differ in their
    classes, a class has no images, a class to be left out is not there, a folder around nested classes has images, or a
    folder has a link to one that it lies in.  `load` raises ValueError for a file that cannot be decoded.
    """
    root = resolve(spec["root"], base)
    folders = {split: [root / folder for folder in spec["splits"][split]] for split in ("train", "test")}
    first = folders["train"][0]
    find = list_leaves if spec.get("nested") else list_classes
    classes = tuple(find(first))
    for folder in (*folders["train"], *folders["test"]):
        if difference := set(classes) ^ set(find(folder)):
            only = ", ".join(map(repr, sorted(difference)))
            raise ValueError(f"{first} and {folder} must have the same classes; only one of them has {only}")
    if not classes:
        raise ValueError(f"{first} has no folders: it needs one per class")
    without = spec.get("without") or ()
    if unknown := sorted(set(without) - set(classes)):
        raise ValueError(f"without: {first} has no class {unknown[0]!r}; there are {', '.join(classes[:10])}")
    classes = tuple(name for name in classes if name not in without)
    skipped: Counter[str] = Counter()
    read: dict[tuple[Path, ...], Images] = {}  # the two splits may be one
    for each in folders.values():
        if tuple(each) not in read:
            places = [{name: there[name] for name in classes} for there in map(find, each)]
            read[tuple(each)] = _images(root, places, spec.get("empty", False), skipped)
    notes = tuple(skipped_note(root, skipped))
    return Source(classes, {split: read[tuple(each)] for split, each in folders.items()}, notes)


def _images(root: Path, places: list[dict[str, list[Path]]], empty: bool, skipped: Counter[str]) -> Images:
    """Return the pictures of a split.  places: for each of its folders, the folders of each class."""
    paths: list[str] = []
    labels: list[int] = []
    for place in places:
        for label, (name, spelled) in enumerate(place.items()):
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
