"""Prepared sets as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .augment import centre_crop, enlarge, to_unit
from .manifest import read_manifest

Indices = npt.NDArray[np.integer] | Sequence[int]


@dataclass(frozen=True)
class Split:
    """One split of a prepared set: an indexable of (image float32 [3, size, size] in [0, 1], label).

    images: memory-mapped uint8 [N, stored, stored, 3]; labels: int64 [N]; size: the side that readers see;
    mean, std: per channel of the training split in [0, 1], whichever split this is.  resize: the side that images are
    resized to before `size` is cut out of them, where that is not as stored.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """The central squares, float32 [B, 3, size, size] in [0, 1], channels last in memory, and labels int64 [B]."""
        images, labels = self.pixels(indices)
        return to_unit(centre_crop(self.resized(images), self.size)), labels

    def squares(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """Return the images of `batch` as bytes, uint8 [B, 3, size, size]."""
        squares: npt.NDArray[np.uint8] = centre_crop(self.pixels(indices)[0], self.size).contiguous().numpy()
        return squares

    def pixels(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """As stored, uint8 [B, 3, stored, stored], channels last, and labels int64 [B]."""
        chosen = np.asarray(indices, np.int64)
        images = torch.from_numpy(self.images[chosen]).permute(0, 3, 1, 2)
        return images, torch.from_numpy(self.labels[chosen])

    def resized(self, pixels: Tensor) -> Tensor:
        """What `augment` takes: pixels as stored, or floats [B, 3, resize, resize], made where the pixels are."""
        return pixels if self.resize is None else enlarge(pixels, self.resize)


def positions_of(indices: Indices) -> Tensor:
    """Return positions in a split as a tensor of the CPU, int64 [B], of its own memory."""
    return torch.from_numpy(np.array(indices, np.int64))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, for which the processor does not wait: a GPU takes it from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def open_split(folder: Path, split: str) -> Split:
    """Open "train", "validation" or "test" of the prepared set in `folder`, without reading its pixels.

    Raises FileNotFoundError if there is no prepared set or no such split in it, and ValueError if a file's shape is not
    the manifest's (`verify` also compares contents).
    """
    manifest = read_manifest(folder)
    if split not in manifest["counts"]:
        raise FileNotFoundError(f"{folder} has no split {split!r}; there is: {', '.join(sorted(manifest['counts']))}")
    count, side = manifest["counts"][split], manifest["stored"]
    return Split(
        images=_open(folder / f"{split}.npy", (count, side, side, 3)),
        labels=_open(folder / f"{split}.labels.npy", (count,)),
        classes=tuple(manifest["classes"]),
        size=manifest["size"],
        mean=tuple(manifest["mean"]),
        std=tuple(manifest["std"]),
        resize=manifest["spec"].get("resize"),
    )


def _open(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except ValueError as error:  # a file cut short cannot be mapped
        raise ValueError(f"{path} is damaged: {error}. Prepare the set again.") from error
    if array.shape != shape:
        raise ValueError(f"{path} has shape {array.shape}, its manifest says {shape}. Prepare the set again.")
    return array
