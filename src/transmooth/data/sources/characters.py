"""Printed characters: a set of any size, made on the spot, to pretrain on without a download."""

import math
import string
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .source import Images, Source, Spec

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)

# Of the fonts that matplotlib ships, those that draw each of the 62 as itself.
FONTS = (
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-BoldOblique.ttf"),
    *(
        "DejaVuSansMono.ttf",
        "DejaVuSansMono-Bold.ttf",
        "DejaVuSansMono-Oblique.ttf",
        "DejaVuSansMono-BoldOblique.ttf",
    ),
    *("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSerif-BoldItalic.ttf"),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("cmb10.ttf", "cmr10.ttf", "cmss10.ttf", "cmti10.ttf", "cmtt10.ttf"),
)
SIDE = 64  # pixels; drawn large, so that `prepare` is the one place that resizes
CONTRAST = 160  # least difference in luminance between character and background, of 255: what noise has to drown
LUMINANCE = np.array([0.299, 0.587, 0.114])


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "characters", "seed": 0, "train": 12000, "test": 1240}`: 62 classes, 0-9 A-Z a-z.

    Image i of a split shows class i mod 62 in a random font, pose and pair of colours, all drawn from
    (seed, split, i): a larger set begins with the smaller one.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    # The basic layout is in every build of Pillow; Raqm, the default where there is one, may place glyphs elsewhere.
    fonts = [ImageFont.truetype(folder / name, 46, layout_engine=ImageFont.Layout.BASIC) for name in FONTS]

    def images(split: str, stream: int) -> Images:
        def load(index: int) -> Image.Image:
            rng = np.random.default_rng((spec["seed"], stream, index))
            mask = _pose(_glyph(CLASSES[index % len(CLASSES)], fonts[rng.integers(len(fonts))]), rng)
            return _paint(mask, rng)

        return Images(np.arange(spec[split], dtype=np.int64) % len(CLASSES), load)

    return Source(CLASSES, {"train": images("train", 0), "test": images("test", 1)})


def _glyph(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return the character in white on black, [SIDE, SIDE]. All share a size and a baseline: that tells c from C."""
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((SIDE / 2, 0.73 * SIDE), character, fill=255, font=font, anchor="ms")
    return image


def _pose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by up to 10 degrees, scaled by 0.9 to 1.2, sheared by up to 0.15, shifted by up to 2 pixels."""
    angle, shear = math.radians(rng.uniform(-10, 10)), rng.uniform(-0.15, 0.15)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) / rng.uniform(0.9, 1.2)
    centre = np.full(2, SIDE / 2)
    shift = centre - matrix @ (centre + rng.uniform(-2, 2, 2))
    # Pillow maps output to input pixels: rows of the inverse map.
    rows = (*matrix[0].tolist(), float(shift[0]), *matrix[1].tolist(), float(shift[1]))
    return image.transform((SIDE, SIDE), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)


def _paint(mask: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the mask as a character of one colour on a gentle gradient, light on dark as often as dark on light."""
    ink, paper = _colours(rng)
    while abs((ink - paper) @ LUMINANCE) < CONTRAST:
        ink, paper = _colours(rng)
    # The gradient is darkest or lightest away from the ink, so that it never eats into the contrast.
    far = np.clip(paper + np.sign((paper - ink) @ LUMINANCE) * rng.uniform(0, 60), 0, 255)
    weight = _ramp(rng.uniform(0, 2 * math.pi))[..., None]
    background = (1 - weight) * paper + weight * far
    cover = np.asarray(mask, np.float64)[..., None] / 255
    return Image.fromarray(np.rint(cover * ink + (1 - cover) * background).astype(np.uint8))


def _colours(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Two tinted greys, [2, 3]."""
    return np.clip(rng.uniform(0, 255, (2, 1)) + rng.uniform(-30, 30, (2, 3)), 0, 255)


def _ramp(angle: float) -> npt.NDArray[np.float64]:
    """[SIDE, SIDE] rising from 0 to 1 in the direction of the angle."""
    x, y = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    ramp: npt.NDArray[np.float64] = 0.5 + (math.cos(angle) * x + math.sin(angle) * y) / math.sqrt(8)
    return ramp
