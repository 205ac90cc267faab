import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transmooth.data.manifest import read_manifest
from transmooth.loading.images import load_images


def pictures(folder: Path, side: int = 16) -> None:
    for label, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((side, side, 3), 100 * label + k, np.uint8)).save(folder / name / f"{k}.png")


def test_a_prepared_folder(digits: Path) -> None:
    images = load_images(str(digits))
    assert len(images) == 300
    assert images.classes == tuple("0123456789")
    assert images.fetch(7).shape == (3, 8, 8)
    assert images.identity == {"split": "test", "checksum": read_manifest(digits)["checksum"]}
    assert load_images(str(digits), split="train").identity != images.identity
    with pytest.raises(ValueError, match="was prepared at size 8, not 32"):
        load_images(str(digits), size=32)
    with pytest.raises(FileNotFoundError, match="has no split 'val'; there is: test, train, validation"):
        load_images(str(digits), split="val")


@pytest.mark.parametrize("inner", ["val", "."])
def test_a_folder_of_images_with_and_without_splits(inner: str, tmp_path: Path) -> None:
    pictures(tmp_path / inner)
    images = load_images(str(tmp_path), split="val")
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.fetch(3).dtype == torch.float32
    torch.testing.assert_close(images.fetch(3), torch.full((3, 16, 16), 101 / 255))
    assert load_images(str(tmp_path), split="val", size=4).fetch(0).shape == (3, 4, 4)


def test_a_folder_of_splits_without_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    for name in ("train", "validation", "notes"):
        pictures(tmp_path / name)
    with pytest.raises(ValueError, match=rf"^{tmp_path} has no split 'test'; there is: train, validation$"):
        load_images(str(tmp_path))


def test_images_are_told_apart(tmp_path: Path) -> None:
    pictures(tmp_path)
    identity = load_images(str(tmp_path)).identity
    assert identity == load_images(str(tmp_path)).identity == json.loads(json.dumps(identity))
    assert identity["images"] == f"{tmp_path} test as stored"
    assert identity["number"] == 4

    def changed() -> set[str]:
        now = load_images(str(tmp_path)).identity
        return {key for key in identity if now[key] != identity[key]}

    stat = (tmp_path / "b" / "1.png").stat()
    os.utime(tmp_path / "b" / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert changed() == {"files"}
    (tmp_path / "b" / "1.png").rename(tmp_path / "a" / "2.png")
    assert changed() == {"files", "labels"}
    (tmp_path / "b").rename(tmp_path / "c")
    assert changed() == {"files", "labels", "classes"}


def test_images_of_different_sizes_need_one(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("RGB", (20, 30)).save(tmp_path / "b" / "2.png")
    with pytest.raises(ValueError, match=r"images 0 and 4 differ in size, \(16, 16\) and \(20, 30\): give a size"):
        load_images(str(tmp_path)).fetch(4)
    assert load_images(str(tmp_path), size=8).fetch(4).shape == (3, 8, 8)


def test_what_are_no_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/where: no such folder, and no name of a torchvision dataset"):
        load_images("no/where")
    with pytest.raises(ValueError, match=r"torchvision.datasets has no class 'NoSuchSet'"):
        load_images("NoSuchSet")
    with pytest.raises(FileNotFoundError, match=r"torchvision's CIFAR10 .* is not under"):
        load_images(f"CIFAR10@{tmp_path}")
