"""Which files below a folder are pictures, and which of its folders are classes."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Of each format the names in use, those of the first picture in a file of several (GIF) included.
SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
# What systems leave in folders that are packed, copied or shared; hidden files are left out too.
LEFTOVERS = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"),
    )
)


@dataclass
class Listing:
    """The paths of the pictures below a folder, sorted, and how many other files there are, by their suffix."""

    paths: list[str] = field(default_factory=list)  # plain strings: a million Path objects are heavy
    skipped: Counter[str] = field(default_factory=Counter)


def list_pictures(folder: Path) -> Listing:
    """Return the pictures below a folder.  Raises ValueError for a link to a folder around it.

    A picture is a regular file, or a link to one, with one of SUFFIXES: reading a pipe would wait for ever.
    """
    listing = Listing()
    for path, regular in _walk(str(folder), ()):
        suffix = os.path.splitext(path)[1].lower()
        if suffix in SUFFIXES and regular:
            listing.paths.append(path)
        else:
            listing.skipped[suffix or "without one" if regular else f"no regular file, {suffix}"] += 1
    listing.paths.sort()
    return listing


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Give each path below a folder, and whether it is a regular file."""
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(f"{folder}: is, through a link, a folder that it lies in: its images would count many times")
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _counts(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, (*above, here))
            else:  # a link that leads nowhere is a picture that cannot be read
                yield entry.path, entry.is_file() or not os.path.exists(entry.path)


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the folders in a folder by name, sorted by it; raises FileNotFoundError where there is no such folder.

    A letter with an accent has two spellings (NFC and macOS's NFD), which are one name: so several folders may have it.
    """
    if not folder.is_dir():
        parent = next(parent for parent in folder.parents if parent.is_dir())
        there = ", ".join(sorted(os.listdir(parent))[:10]) or "nothing"
        raise FileNotFoundError(f"no folder {folder}; in {parent} there is {there}")
    found: dict[str, list[Path]] = {}
    for each in sorted(folder.iterdir()):
        if _counts(each.name) and each.is_dir():
            found.setdefault(unicodedata.normalize("NFC", each.name), []).append(each)
    return dict(sorted(found.items()))


def list_leaves(folder: Path) -> dict[str, list[Path]]:
    """Return the folders below a folder that hold no folders, by their path, as `list_classes` does.

    Raises ValueError for a folder that has pictures beside folders, or a link to one that it lies in.
    """
    found: dict[str, list[Path]] = {}
    _add_leaves(folder, "", (), found)
    return dict(sorted(found.items()))


def _add_leaves(folder: Path, name: str, above: tuple[str, ...], found: dict[str, list[Path]]) -> None:
    here = os.path.realpath(folder)
    if here in above:
        raise ValueError(f"{folder}: is, through a link, a folder that it lies in: its images would count many times")
    inner = list_classes(folder)
    if not inner and name:
        found.setdefault(name, []).append(folder)
    with os.scandir(folder) as entries:
        if inner and any(_counts(e.name) and os.path.splitext(e.name)[1].lower() in SUFFIXES for e in entries):
            raise ValueError(f"{folder}: has images beside folders; with `nested` a class is a folder of images alone")
    for each, spelled in inner.items():
        for place in spelled:
            _add_leaves(place, f"{name}/{each}" if name else each, (*above, here), found)


def _counts(name: str) -> bool:
    return name[0] != "." and name.lower() not in LEFTOVERS  # macOS leaves ._name.jpg beside name.jpg


def skipped_note(where: object, skipped: Counter[str]) -> list[str]:
    """Return the note, or none, that files which are no pictures were left out."""
    if not skipped:
        return []
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(10))
    return [f"{where}: {skipped.total()} files were left out, by their suffix: {kinds}"]


def out_of_order(classes: Sequence[str]) -> bool:
    """Return whether classes that are called by numbers are in the order of text: 0, 1, 10, 2."""
    numbers = all(name.isascii() and name.isdigit() for name in classes)
    return numbers and list(classes) != sorted(classes, key=int)
