"""What folders and tables call the parts of a dataset: train, val, test."""

import os
from collections.abc import Sequence
from pathlib import Path

from .listing import LEFTOVERS, SUFFIXES

USUAL = ("train", "val", "valid", "validation", "test")
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def part_of(name: str) -> str | None:
    """Return train, val or test for what means it, in letters of any case; None for any other name."""
    return PARTS.get(name.strip().lower())


def parts_below(folder: Path) -> dict[str, str]:
    """Return the folders in a folder that are parts of a dataset, by their names: train before val before test.

    Those are `train`, `val`, `valid`, `validation` and `test`; also `Train`, `testing` and the like where there are no
    other folders, which would be classes as they would.
    """
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() and _counts(each.name))
    wide = all(map(part_of, names))
    found = {name: part for name in names if (part := part_of(name)) and (wide or name in USUAL)}
    return dict(sorted(found.items(), key=lambda each: ("train", "val", "test").index(each[1])))


def left_beside(folder: Path, read: Sequence[str]) -> list[str]:
    """Return the note, or none, on what lies in a folder beside the parts, or classes, that are read.

    read: the parts; none where the folder has classes, beside which only pictures are left.
    """
    files = [each.name for each in folder.iterdir() if _counts(each.name) and not each.is_dir()]
    pictures = sum(os.path.splitext(name)[1].lower() in SUFFIXES for name in files)
    others = [
        each.name
        for each in sorted(folder.iterdir())
        if read and each.is_dir() and _counts(each.name) and not part_of(each.name)
    ]
    left = [*(f"{name}/" for name in others[:5]), *(["…"] if len(others) > 5 else [])]
    left += [f"{pictures} pictures"] if pictures else []
    what = ", ".join(f"{each}/" for each in read) or "the folders of classes"
    return [f"{folder}: left out, beside {what}: {', '.join(left)}"] if left else []


def _counts(name: str) -> bool:
    return name[0] != "." and name.lower() not in LEFTOVERS
