"""Patches of pictures that scikit-image and scikit-learn carry: real images to transfer to, without a download."""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

from .source import Images, Source, Spec

# class: (package, path in it). Pictures that look alike from left to right, since the right is for testing.
PICTURES = {
    "brick": ("skimage", "data/brick.png"),
    "coins": ("skimage", "data/coins.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "moon": ("skimage", "data/moon.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "page": ("skimage", "data/page.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "sky": ("skimage", "data/hubble_deep_field.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "text": ("skimage", "data/text.png"),
    "tissue": ("skimage", "data/ihc.png"),
}
SCALE = (0.12, 0.25)  # side of a patch over the shorter side of its picture


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "textures", "seed": 0, "train": 3000, "test": 600}`: from which of 12 pictures is this patch?

    Image i of a split is a square from picture i mod 12, its size and place drawn from (seed, split, i). Training
    patches lie in the left three quarters of a picture and test patches in the right quarter: no pixel is in both.
    """
    pictures = [_picture(package, path) for package, path in PICTURES.values()]

    def images(split: str, stream: int) -> Images:
        def load(index: int) -> Image.Image:
            rng = np.random.default_rng((spec["seed"], stream, index))
            picture = pictures[index % len(pictures)]
            border = picture.width * 3 // 4
            start, end = {"train": (0, border), "test": (border, picture.width)}[split]
            side = round(rng.uniform(*SCALE) * min(picture.size))
            x = int(rng.integers(start, end - side, endpoint=True))
            y = int(rng.integers(0, picture.height - side, endpoint=True))
            return picture.crop((x, y, x + side, y + side))

        return Images(np.arange(spec[split], dtype=np.int64) % len(pictures), load)

    return Source(tuple(PICTURES), {"train": images("train", 0), "test": images("test", 1)})


def _picture(package: str, path: str) -> Image.Image:
    with as_file(files(package) / path) as file, Image.open(file) as image:
        return image.convert("RGB")
