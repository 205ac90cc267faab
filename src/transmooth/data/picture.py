"""One picture of any mode and shape to an RGB square."""

import numpy as np
from PIL import Image

TRANSFORM = "RGB; shorter side to `stored` with Pillow's antialiased bicubic filter; centre crop"


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight-bit RGB: grey is repeated, palettes are looked up, transparency is laid over white, CMYK converted.

    Sixteen-bit grey is divided by 257, so that 65535 is 255. EXIF rotation is not applied, as nowhere in the field.
    Raises ValueError for pixels without a known range (floats).
    """
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.float64), 0, 65535)
        return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("a picture of floats has no known range; store it as 8-bit or 16-bit integers")
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def to_square(image: Image.Image, side: int) -> Image.Image:
    """The central square of [side, side] after resizing the shorter side to `side`; the identity where it is."""
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))
