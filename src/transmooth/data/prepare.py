"""From raw pictures to arrays that can be memory-mapped, with a manifest whose hash pins them.

A prepared set is a folder: <split>.npy, uint8 [N, stored, stored, 3] in RGB; <split>.labels.npy, int64 [N]; and
manifest.json. The splits are "train", "validation" (unless its share is 0) and "test".
"""

import hashlib
import json
import math
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transmooth import files

from .manifest import read_manifest
from .picture import TRANSFORM, to_square
from .sources import Images, open_source
from .sources.source import rgb_of, unreadable
from .split import first_of_each, stratified

FORMAT = 1
CHUNK = 4096  # images in flight; bounds what threads and hashes keep in memory


class OtherSetError(ValueError):
    """What was prepared is another set than the pinned one."""


Manifest = dict[str, Any]
Pixels = npt.NDArray[np.uint8]


def prepare(
    spec: Mapping[str, Any],
    out: Path,
    base: Path,
    pin: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Make the folder `out` from `{"source": {...}, "size": 32, "stored": 32, "validation": 0.1, "seed": 0}`.

    Pictures are stored as squares of `stored` pixels, of which readers take the central `size`; `validation` is the
    share of the training images set aside, drawn per class by `seed`. Relative roots start at `base`. A spec with
    `train_per_class` takes only the first so many training images of each class, in the order of the source; one with
    `resize` has readers enlarge the stored squares to that side, and take the central `size` then.
    `progress(done, total)` is called as images are decoded. The folder appears complete or not at all.

    Raises ValueError if stored, or resize, < size, or a picture cannot be decoded; OtherSetError, and leaves `out` as
    it is, if the manifest's SHA-256 is not `pin`; FileExistsError if `out` holds something else than a prepared set;
    and what the source raises.
    """
    side = "resize" if "resize" in spec else "stored"
    if spec[side] < spec["size"]:
        raise ValueError(f"{side} ({spec[side]}) must be at least size ({spec['size']})")
    # Snakemake removes the manifest, a rule's output, before it runs the rule anew: the labels tell a set as well.
    if out.exists() and not (out / "train.labels.npy").exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not a prepared set; move it away or prepare into another folder")
    source = open_source(spec["source"], base)
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    train = source.splits["train"]
    if (count := spec.get("train_per_class")) is not None:
        train = _subset(train, first_of_each(train.labels, count))
    splits = _with_validation({**source.splits, "train": train}, spec["validation"], spec["seed"])
    total = sum(len(images.labels) for images in splits.values())

    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        done = 0
        faults: list[ValueError] = []
        for split, images in splits.items():
            with files.naming(out / f"{split}.labels.npy"):
                np.save(temporary / f"{split}.labels.npy", images.labels)
            for count in _write(images, temporary / f"{split}.npy", spec["stored"], faults):
                done += count
                if progress:
                    progress(done, total)
        if faults:
            raise unreadable(faults, total)
        manifest = _manifest(
            spec, source.classes, {split: len(each.labels) for split, each in splits.items()}, temporary
        )
        text = _canonical(manifest)
        if pin is not None and (found := hashlib.sha256(text).hexdigest()) != pin:
            raise OtherSetError(_mismatch(pin, found, out))
        (temporary / "manifest.json").write_bytes(text)
        _replace(out, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def verify(folder: Path, splits: Collection[str] | None = None) -> Manifest:
    """The manifest of a prepared set, after every file, of these splits or of all, was found to be the one it lists.

    Takes a second for each GB or two.  Raises FileNotFoundError for a file that is missing, ValueError, naming the
    file, for one that has changed.
    """
    mend = f"Remove the folder {folder} and prepare the set again (`snakemake` does)."
    try:
        manifest: Manifest = read_manifest(folder)
        intact = _checksum(manifest) == manifest["checksum"]
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise ValueError(f"{folder / 'manifest.json'} was edited or is damaged: its checksum does not fit. {mend}")
    for name, expected in manifest["files"].items():
        if splits is not None and name.split(".")[0] not in splits:
            continue
        if (found := files.sha256(folder / name)) != expected:
            raise ValueError(
                f"{folder / name} is damaged: its manifest says SHA-256 {expected}, it has {found}. {mend}"
            )
    return manifest


def _with_validation(splits: Mapping[str, Images], share: float, seed: int) -> dict[str, Images]:
    """Train without the share set aside, validation, test; each in the order of the source."""
    train = splits["train"]
    held_out = stratified(train.labels, round(share * len(train.labels)), seed)
    if not len(held_out):
        return {"train": train, "test": splits["test"]}
    kept = np.setdiff1d(np.arange(len(train.labels)), held_out)
    return {"train": _subset(train, kept), "validation": _subset(train, held_out), "test": splits["test"]}


def _subset(images: Images, chosen: npt.NDArray[np.int64]) -> Images:
    return images.subset(chosen)


def _write(images: Images, path: Path, side: int, faults: list[ValueError]) -> Iterator[int]:
    """Decode every picture into the array at `path`; gives the number of pictures after each chunk of them.

    faults: takes what is wrong with those that cannot be read.
    """
    count = len(images.labels)
    with files.naming(path):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
        if hasattr(os, "posix_fallocate"):  # macOS and Windows have none
            with path.open("rb+") as file:  # a disk that fills up under a map kills without a word
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

    def store(index: int) -> None:
        try:
            array[index] = np.asarray(to_square(rgb_of(images, index), side))
        except ValueError as error:
            faults.append(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the interpreter's lock
        for start in range(0, count, CHUNK):
            chunk = range(start, min(start + CHUNK, count))
            for _ in pool.map(store, chunk):  # draining it raises what a thread raised
                pass
            yield len(chunk)
    array.flush()


def _manifest(spec: Mapping[str, Any], classes: tuple[str, ...], counts: dict[str, int], folder: Path) -> Manifest:
    # Where the pictures lay says nothing about what they are: two machines must agree on the hash.
    source = {key: value for key, value in spec["source"].items() if key not in ("root", "download")}
    mean, std = _moments(np.load(folder / "train.npy", mmap_mode="r"))
    manifest = {
        "format": FORMAT,
        "spec": {**spec, "source": source},
        "classes": list(classes),
        "size": spec["size"],
        "stored": spec["stored"],
        "counts": counts,
        "transform": TRANSFORM,
        "mean": mean,
        "std": std,
        "duplicates_across_splits": _duplicates(folder, counts),
        "files": {path.name: files.sha256(path) for path in sorted(folder.iterdir())},
    }
    return {**manifest, "checksum": _checksum(manifest)}


def _moments(images: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1]. Sums of integers: exact, in whatever order."""
    histogram = np.zeros((3, 256), np.int64)
    for chunk in _chunks(images):
        histogram += [np.bincount(chunk[..., channel].ravel(), minlength=256) for channel in range(3)]
    values, count = np.arange(256) / 255, histogram[0].sum()
    mean = histogram @ values / count
    std = [math.sqrt(row @ (values - centre) ** 2 / count) for row, centre in zip(histogram, mean, strict=True)]
    return [round(float(each), 6) for each in mean], [round(each, 6) for each in std]


def _duplicates(folder: Path, counts: Mapping[str, int]) -> int:
    """Number of test images that are, pixel for pixel, also a training or validation image."""
    test = [digest for chunk in _chunks(np.load(folder / "test.npy", mmap_mode="r")) for digest in map(_digest, chunk)]
    wanted, seen = set(test), set()
    for split in counts.keys() - {"test"}:
        for chunk in _chunks(np.load(folder / f"{split}.npy", mmap_mode="r")):
            seen |= wanted & set(map(_digest, chunk))
    return sum(digest in seen for digest in test)


def _chunks(images: Pixels) -> Iterator[Pixels]:
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))


def _digest(image: Pixels) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _canonical(manifest: Manifest) -> bytes:
    """One spelling for one content; it is this file's hash that pins a set."""
    return (json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(_canonical({key: manifest[key] for key in manifest.keys() - {"checksum"}})).hexdigest()


def _mismatch(pin: str, found: str, out: Path) -> str:
    return (
        f"the data set prepared for {out} is not the pinned one: its manifest has SHA-256 {found}, the pin is {pin}.\n"
        f"Made with {', '.join(_versions())}. Pixels may differ with these versions or with the raw images.\n"
        "To accept the new set, remove `sha256` from its entry in params/datasets.yaml."
    )


def _versions() -> Iterator[str]:
    for package in ("numpy", "pillow", "torchvision", "matplotlib", "scikit-image", "scikit-learn"):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def _replace(out: Path, temporary: Path) -> None:
    """Put the finished folder in place. One already there is moved aside first: a rename does not replace a folder."""
    if out.exists():
        old = temporary.with_name(f"{temporary.stem}.old.tmp")
        out.rename(old)
        temporary.rename(out)
        shutil.rmtree(old)
    else:
        temporary.rename(out)
