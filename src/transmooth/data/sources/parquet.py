"""Pictures in Parquet files, as dataset hubs serve them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from PIL import Image

from .source import Images, Source, Spec, decode, resolve


def source(spec: Spec, base: Path) -> Source:
    """`{"kind": "parquet", "root": "path", "splits": {"train": ["train-*"], "test": ["validation-*"]}}`.

    Each file has a column `image`, encoded pictures as bytes or as {bytes, path}, and an integer column `label` in
    0 … K − 1. Encoded pictures are held in memory.

    Raises FileNotFoundError for a pattern without a file, ValueError, naming the file, for other columns; `load` raises
    ValueError for a picture that cannot be decoded.
    """
    root = resolve(spec["root"], base)
    splits = {split: _images(root, spec["splits"][split]) for split in ("train", "test")}
    count = max(int(images.labels.max(initial=-1)) for images in splits.values()) + 1
    return Source(tuple(map(str, range(count))), splits)


def _images(root: Path, patterns: list[str]) -> Images:
    encoded, labels = [], []
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if not found:
            raise FileNotFoundError(f"no file {pattern} in {root}")
        for path in found:
            try:
                table = pa.dataset.dataset(path, format="parquet").to_table(columns=["image", "label"])
            except (pa.ArrowException, KeyError) as error:
                raise ValueError(f"{path}: should be Parquet with columns `image` and `label`: {error}") from error
            images = table["image"].combine_chunks()
            if pa.types.is_struct(images.type):
                images = images.field("bytes")
            if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
                raise ValueError(f"{path}: `image` should be bytes or {{bytes, path}}, found {table['image'].type}")
            if not pa.types.is_integer(table["label"].type):
                raise ValueError(f"{path}: `label` should be an integer, found {table['label'].type}")
            encoded.append(images)
            labels.append(table["label"].to_numpy().astype(np.int64))
    pictures = pa.chunked_array(encoded)

    def load(index: int) -> Image.Image:
        shown = f"picture {index} of {', '.join(patterns)} in {root}"
        content = pictures[index].as_py()
        if content is None:
            raise ValueError(f"cannot read {shown}: it is null")
        return decode(io.BytesIO(content), shown)

    return Images(np.concatenate(labels), load)
