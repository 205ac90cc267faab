"""Pictures whose labels stand in a table: labels.csv, with a line for each picture."""

import csv
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .listing import SUFFIXES
from .parts import part_of
from .sources.source import Images, Source, decode

# What people call the columns, the usual names first.
FILES = (
    "file",
    "filename",
    "file_name",
    "path",
    "image",
    "image_path",
    "image_name",
    "picture",
    "img",
    "image_id",
    "id",
)
LABELS = ("label", "class", "target", "category", "class_name", "label_name", "y")
PARTS = ("split", "subset", "set", "partition")


def is_table(path: Path) -> bool:
    """Return whether a file is a table of labels, by its name."""
    return path.suffix.lower() in (".csv", ".tsv") and path.is_file()


def read_labelled(table: Path) -> Source:
    """Return the pictures of a table, in its order: of its splits, or the same ones as both where it names none.

    The table is text with commas, semicolons or tabs; its header names a column of files, by paths from where the table
    is, or from the one folder there that has them, with or without their suffix; one of labels; and one of splits, or
    not: what is there to validate trains where there is something to test, and tests where there is not.  Classes are
    in sorted order, by number where all are numbers.
    Raises ValueError, naming the line, for another header, a line that lacks one of the two and a file that is not
    there or is there twice.
    """
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{table}: a table of labels is text in UTF-8") from None
    separator = next((s for s in "\t;," if lines and s in lines[0]), ",")
    try:
        header, *rows = csv.reader(lines, delimiter=separator) if lines else [[]]
    except csv.Error as error:
        raise ValueError(f"{table}: no table of labels: {error}") from None
    file, label, part = _columns(table, header)
    numbered = [(number, row) for number, row in enumerate(rows, 2) if any(field.strip() for field in row)]
    folder: Path | None = None
    files: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for number, row in numbered:
        if len(row) <= max(file, label, part or 0) or not row[file].strip() or not row[label].strip():
            raise ValueError(
                f"{table}, line {number}: should have a file and a label, found {separator.join(row)[:200]!r}"
            )
        folder = folder or _folder(table.parent, row[file].strip())
        path = _find(folder, row[file].strip())
        if path is None:
            raise ValueError(f"{table}, line {number}: no such file: {table.parent / row[file].strip()}")
        files.append(str(path))
        labels.append(unicodedata.normalize("NFC", row[label].strip()))
        if part is not None:
            if (named := part_of(row[part])) is None:
                raise ValueError(
                    f"{table}, line {number}: its {header[part].strip()} should be train, val or test, found "
                    f"{row[part][:200]!r}"
                )
            parts.append(named)
    if (
        doubled := [path for path in dict.fromkeys(files) if files.count(path) > 1]
        if len(set(files)) < len(files)
        else []
    ):
        raise ValueError(f"{table}: {len(doubled)} files are there twice, such as {doubled[0]}")
    if not files:
        raise ValueError(f"{table}: has no pictures: it is a header only")
    if all(re.fullmatch(r"\d+(\.0+)?", name, re.ASCII) for name in labels):  # 3.0 is what a spreadsheet makes of 3
        labels = [str(int(float(name))) for name in labels]
        classes = tuple(sorted(set(labels), key=int))
    else:
        classes = tuple(sorted(set(labels)))
    images = _images(files, [classes.index(name) for name in labels], table.parent)
    if not parts:
        return Source(classes, {"train": images, "test": images})
    held_out = "test" if "test" in parts else "val"
    test = np.array([part == held_out for part in parts])
    return Source(classes, {"train": images.subset(np.flatnonzero(~test)), "test": images.subset(np.flatnonzero(test))})


def _columns(table: Path, header: Sequence[str]) -> tuple[int, int, int | None]:
    """Return the positions of the files, labels and splits.  Raises ValueError where one is not known.

    Of two columns one that is known tells what the other is.
    """
    names = [name.strip().lower() for name in header]
    file, label, part = (
        next((names.index(name) for name in known if name in names), None) for known in (FILES, LABELS, PARTS)
    )
    if len(names) == 2 and part is None and (file is None) != (label is None):
        return (1 - label, label, None) if file is None and label is not None else (file or 0, 1 - (file or 0), None)
    if file is None or label is None:
        lacking = " and ".join(what for what, at in (("file", file), ("label", label)) if at is None)
        raise ValueError(f"{table}: its header should name a column {lacking}, found {', '.join(header)[:200]!r}")
    return file, label, part


def _folder(beside: Path, name: str) -> Path:
    """Return the folder from which a file is named: where the table is, or the one folder there that has it."""
    if _find(beside, name) is None:
        found = [each for each in beside.iterdir() if each.is_dir() and _find(each, name)]
        if len(found) == 1:
            return found[0]
    return beside


def _find(folder: Path, name: str) -> Path | None:
    """Return the file that a table names; None where there is none, or several with other suffixes."""
    for spelled in (name, name.replace("\\", "/")):
        if (folder / spelled).is_file():
            return folder / spelled
        found = [path for suffix in SUFFIXES if (path := folder / f"{spelled}{suffix}").is_file()]
        if len(found) == 1:
            return found[0]
    return None


def _images(paths: Sequence[str], labels: Sequence[int], root: Path) -> Images:
    """Return the pictures in files, by their paths from a root where they are below it."""
    roots = (root, root.absolute())
    below = [
        next((Path(path).relative_to(each) for each in roots if Path(path).is_relative_to(each)), path)
        for path in paths
    ]
    names = [Path(path).as_posix() for path in below]
    return Images(np.array(labels, np.int64), lambda index: decode(paths[index], f"the image {paths[index]}"), names)
