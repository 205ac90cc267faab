import json
import os
import shutil
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
    assert images.identity == {"classes": list("0123456789")}
    assert images.prepared == {"split": "test", "checksum": read_manifest(digits)["checksum"]}
    assert load_images(str(digits), split="train").picture(0) != images.picture(0)
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


def test_what_an_image_is_are_its_pixels(tmp_path: Path) -> None:
    pictures(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    for path in sorted((tmp_path / "other").rglob("*.png")):
        os.utime(path, (1, 1))
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
    one, other = (load_images(str(tmp_path / name)) for name in ("one", "other"))
    assert one.identity == other.identity == {"classes": ["a", "b"]} == json.loads(json.dumps(one.identity))
    assert one.pictures(range(4)) == other.pictures(range(4))
    assert len(set(one.pictures(range(4)).values())) == 4
    assert one.picture(0) != load_images(str(tmp_path / "one"), size=8).picture(0)
    assert list(one.names or ()) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(tmp_path / "one" / "b" / "1.png")
    changed = load_images(str(tmp_path / "one")).pictures(range(4))
    assert [changed[index] == other.picture(index) for index in range(4)] == [True, True, True, False]
    assert one.grey().picture(0) != one.picture(0)


def test_grey_images_stay_what_they_are_and_colours_are_weighed(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("RGB", (16, 16), (255, 10, 100)).save(tmp_path / "b" / "1.png")
    grey = load_images(str(tmp_path)).grey()
    torch.testing.assert_close(grey.fetch(1), torch.full((1, 16, 16), 1 / 255))
    with Image.open(tmp_path / "b" / "1.png") as image:
        assert torch.equal(grey.fetch(3)[0], torch.from_numpy(np.asarray(image.convert("L")).astype(np.float32) / 255))


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(Path("set"))
    for name in ("a/0.png", "b/1.png"):
        Path("set", name).write_bytes(b"no picture")
    images = load_images("set")
    with pytest.raises(
        ValueError,
        match=r"^2 of 4 pictures cannot be read: cannot read the image set/a/0.png: .*; "
        r"cannot read the image set/b/1.png: ",
    ):
        images.pictures(range(4))
    with pytest.raises(ValueError, match=r"^cannot read the image set/b/1.png"):
        images.pictures([1, 2, 3])
    assert len(images.pictures([1, 2])) == 2


def test_images_of_different_sizes_need_one(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("RGB", (20, 30)).save(tmp_path / "b" / "2.png")
    with pytest.raises(ValueError, match=r"images 0 and 4 differ in size, \(16, 16\) and \(20, 30\): give a size"):
        load_images(str(tmp_path)).fetch(4)
    assert load_images(str(tmp_path), size=8).fetch(4).shape == (3, 8, 8)


def test_what_are_no_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/where: no such folder or table \(.csv\), and no name"):
        load_images("no/where")
    with pytest.raises(FileNotFoundError, match=r"^NoSuchSet: no such folder, and no name of a torchvision dataset"):
        load_images("NoSuchSet")
    (tmp_path / "pics.zip").touch()
    with pytest.raises(
        ValueError, match=r"pics.zip: is a file; images are a folder \(unpack an archive first\), or a t"
    ):
        load_images(str(tmp_path / "pics.zip"))
    with pytest.raises(FileNotFoundError, match=r"torchvision's CIFAR10 .* is not under"):
        load_images(f"CIFAR10@{tmp_path}")


def test_a_flat_folder_says_what_it_needs(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"has 1 pictures and no folders: it needs .* a table of files and labels"):
        load_images(str(tmp_path))
    assert load_images(str(tmp_path), unlabelled=True).labels.tolist() == [-1]


def test_two_folders_that_could_be_the_split_are_named(tmp_path: Path) -> None:
    for name in ("train", "Testing", "TEST"):
        pictures(tmp_path / name)
    with pytest.raises(ValueError, match=r"has no split 'test'; there is: TEST, Testing, train"):
        load_images(str(tmp_path))


def test_a_folder_with_classes_keeps_its_labels_where_none_are_needed(tmp_path: Path) -> None:
    pictures(tmp_path)
    found, labelled = load_images(str(tmp_path), unlabelled=True), load_images(str(tmp_path))
    assert (found.classes, found.labels.tolist()) == (labelled.classes, labelled.labels.tolist())
    assert found.classes == ("a", "b")


def test_splits_may_be_called_otherwise_and_what_lies_beside_is_told(tmp_path: Path) -> None:
    for name in ("Training", "Testing"):
        pictures(tmp_path / name)
    found = load_images(str(tmp_path))
    assert (found.classes, found.notes) == (("a", "b"), ())
    assert found.names is not None
    assert found.names[0] == "Testing/a/0.png"
    with pytest.raises(ValueError, match=r"has no split 'val'; there is: Testing, Training"):
        load_images(str(tmp_path), split="val")
    pictures(tmp_path / "test")
    Image.new("RGB", (4, 4)).save(tmp_path / "test" / "stray.png")
    (tmp_path / "more").mkdir()
    first, second = load_images(str(tmp_path)).notes
    assert first.endswith(": left out, beside test/: more/")
    assert second.endswith("test: left out, beside the folders of classes: 1 pictures")


def test_a_table_has_the_splits_that_it_names(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na/0.png,a\nb/0.png,b\n")
    for split in ("train", "test", "val"):
        assert len(load_images(str(table), split=split)) == 2
    table.write_text("file,label,split\na/0.png,a,train\na/1.png,a,train\nb/0.png,b,test\n")
    assert [len(load_images(str(table), split=split)) for split in ("train", "Training", "test")] == [2, 2, 1]
    with pytest.raises(ValueError, match=r"labels.csv: has no split 'val' apart; there is: train, test"):
        load_images(str(table), split="val")
    with pytest.raises(ValueError, match=r"labels.csv: has no split 'tset'; there is: train, test"):
        load_images(str(table), split="tset")


def test_where_nothing_is_split_only_what_splits_are_called_is_all_of_it(tmp_path: Path) -> None:
    pictures(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na/0.png,a\nb/0.png,b\n")
    for text, count in ((str(tmp_path), 4), (str(table), 2)):
        assert len(load_images(text, split="Training")) == count
        with pytest.raises(ValueError, match=r"has no split 'tset'; there are none, and all of it is train, val and"):
            load_images(text, split="tset")
