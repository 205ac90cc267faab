"""Certify and predict a small function's network on folders of pictures, as people have them."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.calls import call, fault
from transmooth.records import table as records
from transmooth.smoothing import chunks, methods

NETS = """
import torch
from torch import nn

class Level(nn.Module):
    # Knows grey levels: class k is the level (k + 1/2) / classes.
    def __init__(self, classes):
        super().__init__()
        self.levels = nn.Parameter((torch.arange(classes) + 0.5) / classes)
    def forward(self, images):
        return -((images.mean((1, 2, 3))[:, None] - self.levels) ** 2)

def three():
    return Level(3)

def twelve():
    return Level(12)

class Grey(Level):
    def forward(self, images):
        assert images.shape[1] == 1, "one channel"
        return super().forward(images)

def grey():
    return Grey(3)

class Output(Level):
    def forward(self, images):
        return {"loss": None, "logits": super().forward(images)}

def output():
    return Output(3)
"""
LEVELS = (42, 128, 213)


@pytest.fixture(autouse=True)
def pics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with nets.py, and pics/ of three classes, whose levels `three` knows."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    folder("pics", "abc")
    yield tmp_path / "pics"
    sys.modules.pop("nets", None)


def folder(root: str, names: Any, levels: tuple[int, ...] = LEVELS, each: int = 2) -> None:
    for name, level in zip(names, levels, strict=True):
        Path(root, name).mkdir(parents=True)
        for k in range(each):
            Image.fromarray(np.full((4, 4, 3), level + k, np.uint8)).save(Path(root, name, f"{k}.png"))


def certify(*more: Any, net: str = "three", images: str = "pics", sigma: str = "0.25", out: str = "r.parquet") -> Any:
    settings = ["--sigma", sigma, "--n", 60, "--n0", 10, "--batch", 32, "--out", out, *more]
    return ["certify", f"nets:{net}", images, *settings]


def rows(path: str = "r.parquet") -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in records.read(Path(path)).to_pylist()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which images are certified from here on."""
    seen: list[int] = []
    real = methods.METHODS["cohen"]

    def counted(counts: Any, images: Any, *rest: Any) -> Any:
        seen.extend(int(index) for index in images)
        return real(counts, images, *rest)

    monkeypatch.setattr(methods, "METHODS", {"cohen": counted})
    return seen


def test_a_job_is_its_content(pics: Path, asked: list[int]) -> None:
    call(*certify())
    assert asked == list(range(6))
    whole = rows()
    assert [(row["file"], row["label"], row["prediction"]) for row in whole] == [
        (f"{name}/{k}.png", label, label) for label, name in enumerate("abc") for k in range(2)
    ]
    os.utime("pics/a/0.png", (1, 1))
    shutil.copytree("pics", "copy")
    for images in ("pics", "./pics/", str(pics), "copy"):
        call(*certify(images=images))
    assert asked == list(range(6))
    Image.fromarray(np.full((4, 4, 3), 60, np.uint8)).save("pics/b/0.png")
    assert "r.parquet: is of another job: image 2 (b/0.png) had another picture; remove it" in fault(*certify())
    shutil.move("pics/b/1.png", "pics/a/2.png")
    assert "is of another job: image 2 " in fault(*certify())
    shutil.move("copy/c", "copy/d")
    message = "is of another job (data.classes: ['a', 'b', 'c'] there, ['a', 'b', 'd'] asked for)"
    assert message in fault(*certify(images="copy"))
    assert rows() == whole


def test_more_images_extend_what_is_done(asked: list[int]) -> None:
    call(*certify(out="whole.parquet"))
    asked.clear()
    call(*certify("--images", 2))
    assert [row["index"] for row in rows()] == [0, 3] == asked
    assert records.metadata(Path("r.parquet"))["spec"]["images"] == 2
    call(*certify("--images", 3))  # 0, 2, 4: what another number chose stays
    assert (asked, len(rows())) == ([0, 3, 2, 4], 4)
    call(*certify("--images", 2))
    assert len(rows()) == 4
    call(*certify())
    assert sorted(asked) == list(range(6))
    assert rows() == rows("whole.parquet")
    assert records.metadata(Path("r.parquet"))["spec"] == records.metadata(Path("whole.parquet"))["spec"]
    assert "alpha: 0.001 there, 0.01 asked for" in fault(*certify("--alpha", "0.01"))


def test_a_killed_extension_keeps_both(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    call(*certify("--images", 2))
    real = methods.METHODS["cohen"]

    def killed(counts: Any, images: Any, *rest: Any) -> Any:
        if len(asked) >= 4:
            raise KeyboardInterrupt
        return real(counts, images, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", {"cohen": killed})
        patch.setattr(chunks, "images_per_chunk", lambda *_: 1)
        call(*certify(), status=130)
    call(*certify())
    assert sorted(asked) == list(range(6))
    assert len(rows()) == 6


def test_images_may_be_chosen_by_number_or_by_other_records() -> None:
    call(*certify("--indices", "5,0,3"))
    assert [row["index"] for row in rows()] == [0, 3, 5]
    call(*certify("--indices", "r.parquet", out="again.parquet"))
    assert rows("again.parquet") == rows()
    for text in ("5\n0\n3\n", "\ufeff0, 3,\t5"):
        Path("ids.txt").write_text(text)
        call(*certify("--indices", "ids.txt", out="again.parquet"))
        assert rows("again.parquet") == rows()
    Path("ids.txt").write_text("a\nb\n")
    assert "ids.txt: no log: its header" in fault(*certify("--indices", "ids.txt"))
    assert "has images 0 to 5, not 6" in fault(*certify("--indices", "6"))
    assert "both say which images" in fault(*certify("--indices", "1", "--images", 2))
    assert "should be numbers of images" in fault(*certify("--indices", "one"))


def test_several_sigmas_in_one_call() -> None:
    call(*certify(sigma="0.5,0.25"))
    call(*certify(sigma="0.5", out="one.parquet"))
    assert [row["sigma"] for row in rows()] == [0.25] * 6 + [0.5] * 6
    assert rows()[6:] == rows("one.parquet")
    call(*certify("--sigma", 0.5, out="twice.parquet"))
    assert rows("twice.parquet") == rows()
    call("merge", "one.parquet", "twice.parquet", "--out", "merged.parquet")
    assert rows("merged.parquet") == rows()
    assert "is there twice; several numbers go in one" in call(*certify("--sigma=1"), status=2).stderr
    assert "r.tsv: a log is of one sigma" in fault(*certify(sigma="0.25,0.5", out="r.tsv"))


def test_a_large_sigma_is_told_in_grey_levels() -> None:
    assert "note: sigma is in units of images in [0, 1]: 64 is 16320 grey levels" in call(*certify(sigma="64")).stderr
    assert "note" not in call(*certify(sigma="2", out="two.parquet")).stderr


def test_a_network_of_one_channel_gets_grey_images() -> None:
    said = call(*certify(net="grey")).stderr
    assert "note: the network takes one channel: the images are turned grey" in said
    assert [row["prediction"] for row in rows()] == [0, 0, 1, 1, 2, 2]


def test_logits_in_an_output_are_taken() -> None:
    call(*certify(net="output"))
    call(*certify(out="plain.parquet"))
    kept = ("index", "prediction", "radius", "top_count")
    assert [[row[key] for key in kept] for row in rows()] == [
        [row[key] for key in kept] for row in rows("plain.parquet")
    ]


def test_images_of_some_of_the_classes() -> None:
    folder("some", ("0", "11", "5"), levels=(10, 244, 117))
    said = call(*certify("--n", 200, net="twelve", images="some", sigma="0.01")).stderr
    assert "note: 3 of the 12 classes, matched by the numbers" in said
    assert [row["label"] for row in rows()] == [0, 0, 11, 11, 5, 5] == [row["prediction"] for row in rows()]
    Path("names.txt").write_text("b\na\nc\n\n")
    call(*certify("--classes", "names.txt", out="named.parquet"))
    assert [row["label"] for row in rows("named.parquet")] == [1, 1, 0, 0, 2, 2]
    Path("names.txt").write_text("b\na\nb\n")
    assert "names.txt: should name each class of the network once" in fault(
        *certify("--classes", "names.txt", out="other.parquet")
    )


def test_what_systems_leave_is_no_class_and_a_file_left_out_is_told(pics: Path) -> None:
    (pics / "__MACOSX" / "a").mkdir(parents=True)
    (pics / "__MACOSX" / "a" / "._0.png").touch()
    (pics / "@eaDir").mkdir()
    (pics / "a" / "Thumbs.db").touch()
    os.mkfifo(pics / "a" / "pipe.png")
    for name in ("notes.txt", "list.txt", "raw.cr2"):
        (pics / "b" / name).touch()
    (pics / "empty").mkdir()
    said = call(*certify()).stderr
    assert len(rows()) == 6
    assert "note: pics: 4 files were left out, by their suffix: 2 .txt, " in said
    assert "1 no regular file, .png" in said
    assert "1 .cr2" in said
    assert "note: empty: without images, and no class of nets:three" in said
    assert "pics test as stored: 6 images in 3 classes, 6 used" in said


def test_labels_stand_in_a_table() -> None:
    Path("flat").mkdir()
    for k, name in enumerate("abc"):
        shutil.copy(f"pics/{name}/0.png", f"flat/{2 - k}.png")
    Path("labels.csv").write_text("id;Label;file\n7;c;flat/0.png\n8;b;flat/1.png\n\n9;a;flat/2.png\n")
    call(*certify(images="labels.csv"))
    assert [(row["file"], row["label"], row["prediction"]) for row in rows()] == [
        ("flat/0.png", 2, 2),
        ("flat/1.png", 1, 1),
        ("flat/2.png", 0, 0),
    ]
    for text, message in (
        ("name,n,label\na,1,b\n", "its header should name a column file, found 'name, n, label'"),
        ("file,label\nflat/0.png\n", "line 2: should have a file and a label, found 'flat/0.png'"),
        ("file,label\nflat/9.png,a\n", "line 2: no such file: flat/9.png"),
        ("file,label\nflat/0.png,a\nflat/0.png,b\n", "1 files are there twice, such as flat/0.png"),
        ("file,label\n", "has no pictures: it is a header only"),
    ):
        Path("labels.csv").write_text(text)
        assert message in fault(*certify(images="labels.csv", out="x.parquet"))


def test_predict_takes_pictures_without_labels() -> None:
    settings = ["--sigma", "0.1", "--n", 60]
    shown = call("predict", "nets:three", "pics/b", *settings).stdout.splitlines()
    assert shown == ["index\tprediction\tfile", "0\t1\t0.png", "1\t1\t1.png"]
    shown = call("predict", "nets:three", "pics", "--indices", "1,4", *settings).stdout.splitlines()
    assert shown == ["index\tlabel\tprediction\tfile", "1\t0\t0\ta/1.png", "4\t2\t2\tc/0.png"]
    assert "has 2 pictures and no folders: it needs one for each class" in fault(*certify(images="pics/b"))
