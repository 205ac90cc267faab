"""Folders of image files, one folder per class."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .source import Images, Source, Spec, resolve

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


def image_folder(spec: Spec, base: Path) -> Source:
    """`{"kind": "imagefolder", "root": "path", "splits": {"train": ["train"], "test": ["test"]}}`.

    Files are root/<split>/<class>/**/<file> with one of SUFFIXES; classes and, in a class, files are in sorted
    order. Several folders for one split are read one after the other.

    Raises FileNotFoundError for a folder that is missing; ValueError if two folders differ in their classes or a
    class has no images; `load` raises ValueError for a file that cannot be decoded.
    """
    root = resolve(spec["root"], base)
    folders = {split: [root / folder for folder in spec["splits"][split]] for split in ("train", "test")}
    first = folders["train"][0]
    classes = _subfolders(first)
    for folder in (*folders["train"], *folders["test"]):
        if difference := set(classes) ^ set(_subfolders(folder)):
            only = ", ".join(map(repr, sorted(difference)))
            raise ValueError(f"{first} and {folder} must have the same classes; only one of them has {only}")
    if not classes:
        raise ValueError(f"{first} has no folders: it needs one per class")
    return Source(classes, {split: _images(each, classes) for split, each in folders.items()})


def _subfolders(folder: Path) -> tuple[str, ...]:
    """Their names, sorted and without the hidden ones."""
    if not folder.is_dir():
        parent = next(parent for parent in folder.parents if parent.is_dir())
        there = ", ".join(sorted(os.listdir(parent))[:10]) or "nothing"
        raise FileNotFoundError(f"no folder {folder}; in {parent} there is {there}")
    return tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != "."))


def _images(folders: list[Path], classes: tuple[str, ...]) -> Images:
    paths: list[str] = []  # plain strings: a million Path objects are heavy
    labels: list[int] = []
    for folder in folders:
        for label, name in enumerate(classes):
            found = _files(folder / name)
            if not found:
                raise ValueError(f"class {name!r} is empty: no {' '.join(sorted(SUFFIXES))} in {folder / name}")
            paths += found
            labels += [label] * len(found)

    def load(index: int) -> Image.Image:
        try:
            with Image.open(paths[index]) as image:
                image.load()
                return image
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"cannot read the image {paths[index]}: {error}") from error

    return Images(np.array(labels, np.int64), load)


def _files(folder: Path) -> list[str]:
    return sorted(
        os.path.join(where, name)
        for where, _, names in os.walk(folder, followlinks=True)
        for name in names
        # macOS leaves ._name.jpg beside name.jpg
        if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES
    )
