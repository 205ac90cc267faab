import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from transmooth.data.picture import to_rgb
from transmooth.data.sources.source import decode

RAMP = np.arange(256).reshape(16, 16)


def stored(pixels: npt.NDArray[np.integer], kind: str) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    file.seek(0)
    return file


def colour16(pixels: npt.NDArray[np.integer]) -> io.BytesIO:
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def read(file: io.BytesIO) -> npt.NDArray[np.uint8]:
    return np.asarray(to_rgb(decode(file, "it")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_and_fewer_are_no_black_picture(kind: str) -> None:
    assert (read(stored((RAMP * 257).astype(np.uint16), kind))[..., 0] == RAMP).all()
    assert read(stored(np.zeros((4, 4), np.uint16), kind)).max() == 0
    assert read(stored(np.full((4, 4), 4096, np.uint16), kind)).max() == 16
    for highest in (1, 255, 4095):
        with pytest.raises(
            ValueError, match=rf"16-bit picture ends at {highest} of 65535, nearly black; .* 8 bits, or 12"
        ):
            read(stored(np.full((4, 4), highest, np.uint16), kind))


def test_sixteen_bits_of_colour_are_no_black_picture_either() -> None:
    ramp = np.stack([RAMP] * 3, -1)
    assert (read(colour16(ramp * 257)) == ramp).all()
    assert read(colour16(np.full((4, 4, 3), 4096))).max() == 16
    with pytest.raises(ValueError, match="16-bit picture ends below 4096 of 65535"):
        read(colour16(ramp))


def test_integers_of_32_bits_have_a_range_or_none() -> None:
    assert (read(stored((RAMP * 257).astype(np.int32), "TIFF"))[..., 0] == RAMP).all()
    for pixels, shown in ((RAMP * 300, "0 to 76500"), (RAMP * 257 - 1, "-1 to 65534")):
        with pytest.raises(ValueError, match=f"32-bit integers from {shown} has no known range"):
            read(stored(pixels.astype(np.int32), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "JPEG2000"])
def test_other_formats_are_read(kind: str) -> None:
    picture = np.full((16, 16, 3), 128, np.uint8)
    assert abs(read(stored(picture, kind)).astype(int) - 128).max() <= 2
