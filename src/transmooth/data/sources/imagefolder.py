"""Folders of image files, one folder per class."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .source import Images, Source, Spec, decode, resolve

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "imagefolder", "root": "path", "splits": {"train": ["train"], "test": ["test"]}}`.

    Files are root/<split>/<class>/**/<file> with one of SUFFIXES; classes and, in a class, files are in sorted
    order. Several folders for one split are read one after the other. `"nested": true` has a class in each folder
    without folders in it, by its path below the split; `"without": ["x"]` leaves classes out.

    Raises FileNotFoundError for a folder that is missing; ValueError if two folders differ in their classes, a class
    has no images or is not there to be left out, a folder around nested classes has images, or a folder has a link to
    one that it lies in; `load` raises ValueError for a file that cannot be decoded.
    """
    root = resolve(spec["root"], base)
    folders = {split: [root / folder for folder in spec["splits"][split]] for split in ("train", "test")}
    first = folders["train"][0]
    find = _leaves if spec.get("nested") else _subfolders
    classes = find(first)
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
    return Source(classes, {split: _images(each, classes) for split, each in folders.items()})


def _subfolders(folder: Path) -> tuple[str, ...]:
    """Their names, sorted and without the hidden ones."""
    if not folder.is_dir():
        parent = next(parent for parent in folder.parents if parent.is_dir())
        there = ", ".join(sorted(os.listdir(parent))[:10]) or "nothing"
        raise FileNotFoundError(f"no folder {folder}; in {parent} there is {there}")
    return tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != "."))


def _leaves(folder: Path) -> tuple[str, ...]:
    """The paths below a folder of all that hold no folders, sorted."""
    return tuple(sorted(_walk_leaves(folder, "", ())))


def _walk_leaves(folder: Path, name: str, above: tuple[str, ...]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(f"{folder}: is, through a link, a folder that it lies in: its images would count many times")
    inner = _subfolders(folder)
    if not inner and name:
        yield name
    with os.scandir(folder) as entries:
        if inner and any(map(_is_image, entries)):
            raise ValueError(f"{folder}: has images beside folders; with `nested` a class is a folder of images alone")
    for each in inner:
        yield from _walk_leaves(folder / each, f"{name}/{each}" if name else each, (*above, here))


def _images(folders: list[Path], classes: tuple[str, ...]) -> Images:
    paths: list[str] = []  # plain strings: a million Path objects are heavy
    labels: list[int] = []
    for folder in folders:
        for label, name in enumerate(classes):
            found = image_files(folder / name)
            if not found:
                raise ValueError(f"class {name!r} is empty: no {' '.join(sorted(SUFFIXES))} in {folder / name}")
            paths += found
            labels += [label] * len(found)

    def load(index: int) -> Image.Image:
        return decode(paths[index], f"the image {paths[index]}")

    return Images(np.array(labels, np.int64), load)


def image_files(folder: Path) -> list[str]:
    """The paths of all image files below a folder, sorted.  Raises ValueError for a link to a folder around it."""
    return sorted(_walk(str(folder), ()))


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(f"{folder}: is, through a link, a folder that it lies in: its images would count many times")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, (*above, here))
            elif _is_image(entry):
                yield entry.path


def _is_image(entry: os.DirEntry[str]) -> bool:
    # macOS leaves ._name.jpg beside name.jpg
    return entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in SUFFIXES
