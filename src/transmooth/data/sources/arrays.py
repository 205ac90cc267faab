"""Pictures that come as arrays in npz files, as the published 32x32 ImageNet does."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .source import Images, Source, Spec, resolve


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "arrays", "root": "path", "splits": {"train": ["train_data_batch_*.npz"], "test": ["val_data.npz"]}}`.

    Each file holds `data`, uint8 [N, 3·H·H] with the red, green and blue planes one after the other, and `labels`,
    integers [N] in 1 … K (or 0 … K − 1, if a 0 occurs). Patterns are expanded in order of name and number. All of it
    is held in memory (3.9 GB for ImageNet at 32x32). Nothing is unpickled.

    Raises FileNotFoundError for a pattern without a file, ValueError, naming the file, for one of another content.
    """
    root = resolve(spec["root"], base)
    raw = {split: [_read(path) for path in _files(root, spec["splits"][split])] for split in ("train", "test")}
    pixels = {split: [images for images, _ in parts] for split, parts in raw.items()}
    labels = {split: np.concatenate([part for _, part in parts]) for split, parts in raw.items()}
    first = 0 if any(part.min() == 0 for part in labels.values()) else 1
    count = max(int(part.max()) for part in labels.values()) + 1 - first
    splits = {split: _images(pixels[split], labels[split] - first) for split in ("train", "test")}
    return Source(tuple(map(str, range(count))), splits)


def _files(root: Path, patterns: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for pattern in patterns:
        # Batch 10 comes after batch 9.
        found = sorted(root.glob(pattern), key=lambda path: (len(path.name), path.name))
        if not found:
            raise FileNotFoundError(f"no file {pattern} in {root}")
        files += found
    return files


def _read(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            data, labels = content["data"], content["labels"].astype(np.int64)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: should be an npz file with the arrays `data` and `labels`: {error}") from error
    side = round((data.shape[1] / 3) ** 0.5) if data.ndim == 2 else 0
    if data.dtype != np.uint8 or data.shape != (len(labels), 3 * side * side) or labels.min(initial=0) < 0:
        raise ValueError(
            f"{path}: `data` should be uint8 [N, 3·H·H] with one label >= 0 each, found {data.dtype} "
            f"{list(data.shape)} for {len(labels)} labels"
        )
    return data.reshape(-1, 3, side, side).transpose(0, 2, 3, 1), labels


def _images(parts: Sequence[npt.NDArray[np.uint8]], labels: npt.NDArray[np.int64]) -> Images:
    ends = np.cumsum([len(part) for part in parts])

    def load(index: int) -> Image.Image:
        which = int(np.searchsorted(ends, index, side="right"))
        return Image.fromarray(parts[which][index - int(ends[which])])

    return Images(labels, load)
