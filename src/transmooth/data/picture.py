"""One picture of any mode and shape to an RGB square."""

import numpy as np
from PIL import Image

TRANSFORM = "RGB; shorter side to `stored` with Pillow's antialiased bicubic filter; centre crop"


# What a file of 16 bits is taken for must hold more than 12 bits, or be black: else its range is not certain.
LEAST = 4096
# The key in a picture's `info` that says that its file has 16 bits a channel, of which Pillow keeps the upper 8.
HALVED = "transmooth 16 bits"


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight-bit RGB: grey is repeated, palettes are looked up, transparency is laid over white, CMYK converted.

    Sixteen-bit grey is divided by 257, so that 65535 is 255. EXIF rotation is not applied, as nowhere in the field.
    Raises ValueError for pixels without a known range: floats, integers outside 0 to 65535, and sixteen-bit ones that
    end below 4096, which are 8 or 12 bits as often as a dark picture.
    """
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64)
        low, high = int(grey.min()), int(grey.max())
        if low < 0 or high > 65535:
            raise ValueError(
                f"a picture of 32-bit integers from {low} to {high} has no known range; store it as 8 bits"
            )
        if 0 < high < LEAST:
            raise ValueError(_dark(f"ends at {high}"))
        return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
    if HALVED in image.info and int(np.asarray(image.convert("RGB")).max()) < LEAST // 256:
        raise ValueError(_dark(f"ends below {LEAST}"))
    if image.mode == "F":
        raise ValueError("a picture of floats has no known range; store it as 8-bit or 16-bit integers")
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _dark(what: str) -> str:
    return (
        f"a 16-bit picture {what} of 65535, nearly black; where it holds 8 bits, or 12, store it as 8 bits, or times "
        "257, or 16"
    )


def to_square(image: Image.Image, side: int) -> Image.Image:
    """Return the central square of [side, side] after resizing the shorter side to `side`; the identity where it is."""
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))
