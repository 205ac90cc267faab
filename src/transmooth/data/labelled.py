"""Pictures whose labels stand in a table: labels.csv, with a line for each picture."""

import csv
from pathlib import Path

from .sources.imagefolder import file_images
from .sources.source import Images, Source

# What people call the two columns, the usual names first.
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


def read_labelled(table: Path) -> Source:
    """Return the pictures of a table, in its order, with the same ones as both splits.

    The table is text with commas, semicolons or tabs; its header names a column of files, by paths from where the table
    is, and one of labels.  Classes are in sorted order, by number where all are numbers.
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
    names = [name.strip().lower() for name in header]
    file, label = (next((names.index(name) for name in known if name in names), None) for known in (FILES, LABELS))
    if file is None or label is None:
        lacking = " and ".join(what for what, at in (("file", file), ("label", label)) if at is None)
        raise ValueError(f"{table}: its header should name a column {lacking}, found {', '.join(header)[:200]!r}")
    files: list[str] = []
    labels: list[str] = []
    for number, row in enumerate(rows, 2):
        if not any(field.strip() for field in row):
            continue
        if len(row) <= max(file, label) or not row[file].strip() or not row[label].strip():
            raise ValueError(
                f"{table}, line {number}: should have a file and a label, found {separator.join(row)[:200]!r}"
            )
        path = table.parent / row[file].strip()
        if not path.is_file():
            raise ValueError(f"{table}, line {number}: no such file: {path}")
        files.append(str(path))
        labels.append(row[label].strip())
    if (
        doubled := [path for path in dict.fromkeys(files) if files.count(path) > 1]
        if len(set(files)) < len(files)
        else []
    ):
        raise ValueError(f"{table}: {len(doubled)} files are there twice, such as {doubled[0]}")
    if not files:
        raise ValueError(f"{table}: has no pictures: it is a header only")
    numbers = all(name.isascii() and name.isdigit() for name in labels)
    classes = tuple(sorted(set(labels), key=int if numbers else str))
    images: Images = file_images(files, [classes.index(name) for name in labels], table.parent)
    return Source(classes, {"train": images, "test": images})
