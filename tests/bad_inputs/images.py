"""Pictures, and the folders and files that hold them."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.bad_inputs import Case
from transmooth.data.prepare import prepare
from transmooth.data.sources import open_source
from transmooth.data.sources.source import FORMATS
from transmooth.loading.images import load_images

SIDE = 8
A = Path("set/test/a")
FOLDER = {"kind": "imagefolder", "root": "set", "splits": {"train": ["train"], "test": ["test"]}}
NO_PICTURE = f"it should be {', '.join(FORMATS)}, and is none of them"


def folder() -> None:
    """set/{train,test}/{a,b} with a black picture each."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            path = Path("set", split, name)
            path.mkdir(parents=True)
            Image.new("RGB", (SIDE, SIDE), (split == "test", name == "a", 0)).save(path / "0.png")


def prepared(
    change: Callable[[], object], show: Callable[[dict[str, Any]], object] | None = None
) -> Callable[[], object]:
    """Change the folder, prepare it, and tell what became of set/test/a, or of the manifest."""

    def use() -> object:
        folder()
        change()
        manifest = prepare(
            {"source": FOLDER, "size": SIDE, "stored": SIDE, "validation": 0, "seed": 0}, Path("out"), Path()
        )
        if show:
            return show(manifest)
        pixels, labels = np.load("out/test.npy"), np.load("out/test.labels.npy")
        last = pixels[labels == 0][-1]
        return f"{(labels == 0).sum()} pictures in it, the last from {last[0, 0].tolist()} to {last[-1, -1].tolist()}"

    return use


def file(name: str, content: bytes) -> Callable[[], object]:
    return lambda: (A / name).write_bytes(content)


def saved(name: str, image: Image.Image, **how: Any) -> Callable[[], None]:
    return lambda: image.save(A / name, **how)


def cut_jpeg() -> None:
    Image.effect_noise((64, 64), 50).save(A / "1.jpg")
    (A / "1.jpg").write_bytes((A / "1.jpg").read_bytes()[:900])


def png(width: int, height: int) -> bytes:
    """What a PNG of that size begins with."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def turned() -> None:
    """Red to the left, blue to the right; EXIF says: turn by 90 degrees."""
    image, exif = Image.new("RGB", (SIDE, SIDE), "red"), Image.Exif()
    image.paste("blue", (SIDE // 2, 0, SIDE, SIDE))
    exif[0x112] = 6
    image.save(A / "1.png", exif=exif)


def one_class() -> None:
    for split in ("train", "test"):
        shutil.rmtree(f"set/{split}/b")


def renamed(name: str | bytes) -> Callable[[], None]:
    def change() -> None:
        for split in (b"train", b"test"):
            os.rename(b"set/" + split + b"/a", b"set/" + split + b"/" + os.fsencode(name))

    return change


def linked() -> None:
    (A / "more").symlink_to("../b")
    Path("set/test/b/more").symlink_to("../a")


def parquet(image: Any) -> Callable[[], object]:
    def use() -> object:
        Path("set").mkdir()
        rows = {"image": [image, b""], "label": [0, 1]} if image is not ... else {"image": [], "label": []}
        schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
        pq.write_table(pa.table(rows, schema), "set/all")
        spec = {"kind": "parquet", "root": "set", "splits": {"train": ["all"], "test": ["all"]}}
        return open_source(spec, Path()).splits["test"].load(0).size

    return use


def sourced(kind: str, lost: str | None = None, **spec: Any) -> Callable[[], object]:
    """Open a source of the folder; lost: an image that lies elsewhere in it."""

    def use() -> object:
        folder()
        if lost:
            shutil.copy(A / "0.png", Path("set", lost))
        return open_source({**FOLDER, "kind": kind, **spec}, Path()).classes

    return use


def without_size() -> object:
    folder()
    Image.new("RGB", (1, 1)).save(A / "1.png")
    images = load_images("set")
    return [images.fetch(index).shape for index in range(len(images))]


def cannot(name: str) -> str:
    return f"cannot read the image set/test/a/{name}: "


RGB = Image.new("RGB", (SIDE, SIDE), (255, 0, 0))
GREEN = Image.new("RGB", (SIDE, SIDE), (0, 255, 0))
BLACK, WHITE, RED = [0, 0, 0], [255, 255, 255], [255, 0, 0]


def shown(first: list[int], last: list[int] | None = None) -> str:
    return f"read: 2 pictures in it, the last from {first} to {last or first}"


CASES = [
    Case(
        "a JPEG that is cut off",
        cannot("1.jpg") + "image file is truncated (… bytes not processed)",
        prepared(cut_jpeg),
    ),
    Case("an image of no bytes", cannot("1.png") + NO_PICTURE, prepared(file("1.png", b""))),
    Case("a text called .jpg", cannot("1.jpg") + NO_PICTURE, prepared(file("1.jpg", b"hello"))),
    Case("an SVG called .png", cannot("1.png") + NO_PICTURE, prepared(file("1.png", b"<svg onload='touch ran'/>"))),
    Case(
        "PostScript called .jpg, which Ghostscript would run",
        cannot("1.jpg") + NO_PICTURE,
        prepared(file("1.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(ran) (w) file\n")),
    ),
    Case(
        "a PNG of 900 million pixels in 100 bytes",
        cannot("1.png")
        + "Image size (900000000 pixels) exceeds limit of … pixels, could be decompression bomb DOS attack.",
        prepared(file("1.png", png(30_000, 30_000))),
    ),
    Case(
        "a TIFF of floats",
        cannot("1.tif") + "its pixels are floats, of no known range; store it as 8-bit or 16-bit integers",
        prepared(saved("1.tif", Image.new("F", (SIDE, SIDE)))),
    ),
    Case(
        "a JPEG in CMYK",
        shown([0, 254, 254]).replace("254", "25…"),
        prepared(saved("1.jpg", Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)))),
    ),
    Case(
        "a grey PNG of 16 bits",
        shown(WHITE),
        prepared(saved("1.png", Image.fromarray(np.full((SIDE, SIDE), 65535, np.uint16)))),
    ),
    Case(
        "a palette with transparency (white shows through)",
        shown(WHITE),
        prepared(saved("1.png", Image.new("P", (SIDE, SIDE)), transparency=0)),
    ),
    Case(
        "grey with alpha, half of it seen",
        shown([127, 127, 127]),
        prepared(saved("1.png", Image.new("LA", (SIDE, SIDE), (0, 128)))),
    ),
    Case("black and white, 1 bit", shown(WHITE), prepared(saved("1.png", Image.new("1", (SIDE, SIDE), 1)))),
    Case("EXIF that says: turn (nobody in this field does)", shown(RED, [0, 0, 255]), prepared(turned)),
    Case(
        "an animated PNG: its first picture",
        shown(RED),
        prepared(saved("1.png", RGB, save_all=True, append_images=[GREEN])),
    ),
    Case(
        "an animated GIF called .jpg: its first picture",
        shown(RED),
        prepared(saved("1.jpg", RGB, format="GIF", save_all=True, append_images=[GREEN])),
    ),
    Case("one pixel: it is enlarged", shown(RED), prepared(saved("1.png", RGB.crop((0, 0, 1, 1))))),
    Case(
        "one pixel among larger ones, and no --size",
        "set: images 0 and 1 differ in size, (8, 8) and (1, 1): give a size",
        without_size,
    ),
    Case(
        "a class of nothing but .heic",
        "class 'a' is empty: no .apng .avif .bmp .dib .gif … .webp in set/test/a",
        prepared(lambda: (A / "0.png").rename(A / "0.heic")),
    ),
    Case(
        "a class to leave out that is not there",
        "without: set/train has no class 'c'; there are a, b",
        sourced("imagefolder", without=["c"]),
    ),
    Case(
        "an image beside folders of nested classes",
        "set/test: has images beside folders; with `nested` a class is a folder of images alone",
        sourced("onefolder", root="set", nested=True, train_per_class=1, lost="test/0.png"),
    ),
    Case(
        "a class with as many images as are to train: none would test",
        "set/test: train_per_class: should leave images to test, but class 'a' has 1, found 1",
        sourced("onefolder", root="set/test", train_per_class=1),
    ),
    Case("one class", "set: needs at least two classes, found a", prepared(one_class)),
    Case(
        "a class whose name has a line break",
        "set: the name of a class should be printable text in UTF-8, found 'a\\nb'",
        prepared(renamed("a\nb")),
    ),
    Case(
        "a class whose name is not UTF-8",
        "set: the name of a class should be printable text in UTF-8, found '\\udcff'",
        prepared(renamed(b"\xff")),
    ),
    Case(
        "a class called `$(touch ran); ü`",
        "read: ['$(touch ran); ü', 'b']",
        prepared(renamed("$(touch ran); ü"), lambda manifest: manifest["classes"]),
    ),
    Case(
        "a link to a folder that it lies in",
        "set/test/a/again/a: is, through a link, a folder that it lies in: its images would count many times",
        prepared(lambda: (A / "again").symlink_to("..")),
    ),
    Case(
        "two folders with links to each other",
        "set/test/a/more/more: is, through a link, a folder that it lies in: its images would count many times",
        prepared(linked),
    ),
    Case(
        "an image that is a link to itself",
        "[Errno 40] Too many levels of symbolic links: 'set/test/a/1.png'",
        prepared(lambda: (A / "1.png").symlink_to("1.png")),
    ),
    Case(
        "an image that is a link to nothing",
        cannot("1.png") + "[Errno 2] No such file or directory: …",
        prepared(lambda: (A / "1.png").symlink_to("gone")),
    ),
    Case(
        "a test image that is also a training image (prepared and told at the end of a run)",
        "read: 1 of 2 test images",
        prepared(
            lambda: shutil.copy("set/train/b/0.png", A / "0.png"),
            lambda manifest: f"{manifest['duplicates_across_splits']} of {manifest['counts']['test']} test images",
        ),
    ),
    Case("a Parquet file without images", "set: needs at least two classes, found none", parquet(...)),
    Case("a Parquet file with a null for a picture", "cannot read picture 0 of all in set: it is null", parquet(None)),
    Case(
        "a Parquet file with text for a picture",
        f"cannot read picture 0 of all in set: {NO_PICTURE}",
        parquet(b"hello"),
    ),
]
