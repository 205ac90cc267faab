"""What every source gives: class names and, per split, labels and a way to load one picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os.path import expanduser, expandvars
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..picture import HALVED, to_rgb

Spec = Mapping[str, Any]

# Whatever a file is called, Pillow would else hand PostScript in it to Ghostscript, which runs it.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Images:
    """Labels int64 [N] in [0, K), and `load(i)`: picture i of N, of any mode and size, decoded only then.

    names: of the files, where each picture is one: paths below the root.
    """

    labels: npt.NDArray[np.int64]
    load: Callable[[int], Image.Image]
    names: Sequence[str] | None = None

    def subset(self, chosen: npt.NDArray[np.int64]) -> "Images":
        """Return the pictures at these positions."""
        names = None if self.names is None else [self.names[index] for index in chosen]
        return Images(self.labels[chosen], lambda index: self.load(int(chosen[index])), names)


@dataclass(frozen=True)
class Source:
    """K class names, in the order of the labels, and the splits "train" and "test".

    notes: what should be known of how they were read.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Images]
    notes: tuple[str, ...] = ()


def resolve(path: str, base: Path) -> Path:
    """`path` with `~` and environment variables expanded; a relative path starts at `base`."""
    return base / expanduser(expandvars(path))


def decode(file: str | IO[bytes], shown: str) -> Image.Image:
    """The picture in a file, the first one of several.  Raises ValueError, with `shown` in it, if there is none."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            deep = any("16" in _raw_mode(tile[3]) for tile in getattr(image, "tile", []))
            image.load()
        if deep:
            image.info[HALVED] = True
        if image.mode == "F":
            raise ValueError("its pixels are floats, of no known range; store it as 8-bit or 16-bit integers")
    except UnidentifiedImageError:
        raise ValueError(f"cannot read {shown}: it should be {', '.join(FORMATS)}, and is none of them") from None
    except Exception as error:  # decoders raise many kinds, for files that are cut off, damaged or too large
        raise ValueError(f"cannot read {shown}: {error}") from error
    return image


def _raw_mode(arguments: object) -> str:
    """Return what Pillow calls the pixels in a file, such as RGB;16B."""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def rgb_of(images: Images, index: int) -> Image.Image:
    """Return a picture as `to_rgb` does.  Raises ValueError, naming it, if it cannot be read or has no known range."""
    picture = images.load(index)
    try:
        return to_rgb(picture)
    except ValueError as error:
        name = index if images.names is None else images.names[index]
        raise ValueError(f"cannot read the image {name}: {error}") from error


def unreadable(faults: Sequence[Exception], of: int) -> ValueError:
    """Return the error that names all pictures which cannot be read, the first 20 of them with their reasons."""
    if len(faults) == 1:
        return ValueError(str(faults[0]))
    shown = "; ".join(map(str, faults[:20])) + "; …" * (len(faults) > 20)
    return ValueError(f"{len(faults)} of {of} pictures cannot be read: {shown}")
