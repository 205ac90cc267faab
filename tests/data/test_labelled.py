from pathlib import Path

import pytest
from PIL import Image

from transmooth.data.labelled import is_table, read_labelled
from transmooth.data.sources import open_source
from transmooth.data.sources.source import Source


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for number in range(3):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def read(folder: Path, *lines: str, newline: str = "\n") -> Source:
    (folder / "labels.csv").write_bytes(newline.join((*lines, "")).encode())
    return read_labelled(folder / "labels.csv")


def answers(source: Source, split: str = "test") -> list[tuple[str, str]]:
    images = source.splits[split]
    assert images.names is not None
    for index in range(len(images.names)):  # the picture is the one of the name
        assert images.load(index).convert("RGB").getpixel((0, 0)) == (int(Path(images.names[index]).stem[-1]), 0, 0)
    return [(name, source.classes[label]) for name, label in zip(images.names, images.labels, strict=True)]


@pytest.mark.parametrize(
    "lines",
    [
        ("file,label", "0.png,b", "2.png,a"),
        ("\ufefflabel;File;n", "b;0.png;1", "a;2.png;2"),
        (",Image_ID\tCLASS,x".replace(",", "\t"), "0\t0.png\tb\t", "1\t2.png\ta\t"),
        ('"file","label"', '"0.png","b"', "", "2.png , a "),
        ("id,breed", "0,b", "2,a"),  # of two columns, one known
        ("picture name,label", "0,b", "2,a"),
        ("label,picture name", "b,0", "a,2"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_of_files_and_labels(lines: tuple[str, ...], newline: str, flat: Path) -> None:
    source = read(flat, *lines, newline=newline)
    assert source.classes == ("a", "b")
    assert answers(source) == answers(source, "train") == [("0.png", "b"), ("2.png", "a")]


def test_files_are_found_in_the_folder_that_has_them(flat: Path) -> None:
    (flat / "train").mkdir()
    (flat / "empty").mkdir()
    for number in (4, 5):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(flat / "train" / f"{number}.png")
    assert answers(read(flat, "id,label", "4,b", "5,a")) == [("train/4.png", "b"), ("train/5.png", "a")]
    assert answers(read(flat, "id,label", "train\\4.png,b", "0,a")) == [("train/4.png", "b"), ("0.png", "a")]
    assert answers(read(flat, "id,label", f"{flat}/0.png,a", "1,b")) == [("0.png", "a"), ("1.png", "b")]
    with pytest.raises(ValueError, match=r"labels.csv, line 3: no such file: .*/4$"):
        read(flat, "id,label", "0,a", "4,b")  # all of a table lie in one folder
    (flat / "empty" / "4.png").touch()
    with pytest.raises(ValueError, match=r"labels.csv, line 2: no such file: .*/4$"):
        read(flat, "id,label", "4,b")  # which of the two is not certain
    (flat / "2.jpg").touch()
    with pytest.raises(ValueError, match=r"line 3: no such file: .*/2$"):
        read(flat, "id,label", "0,b", "2,a")


def test_absolute_files_are_named_from_the_table(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flat)
    assert answers(read(Path(), "file,label", f"{flat}/0.png,a", "1.png,b")) == [("0.png", "a"), ("1.png", "b")]


def test_labels_are_names_or_numbers(flat: Path) -> None:
    assert read(flat, "file,label", "0.png,10", "1.png,9", "2.png,2").classes == ("2", "9", "10")
    assert read(flat, "file,label", "0.png,10.0", "1.png,9.00", "2.png,2").classes == ("2", "9", "10")
    assert read(flat, "file,label", "0.png,10", "1.png,9", "2.png,x").classes == ("10", "9", "x")
    assert read(flat, "file,label", "0.png,10.5", "1.png,9.0").classes == ("10.5", "9.0")
    one = read(flat, "file,label", "0.png,cafe\u0301", "1.png,caf\u00e9", "2.png,x")
    assert one.classes == ("caf\u00e9", "x")
    assert one.splits["test"].labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("parts", "test"),
    [(("train", "Training", "test"), [2]), (("train", "val", "test"), [2]), (("train", "val", "train"), [1])],
)
def test_a_table_may_have_splits(parts: tuple[str, ...], test: list[int], flat: Path) -> None:
    lines = [f"{number}.png,{'ab'[number % 2]},{part}" for number, part in enumerate(parts)]
    source = read(flat, "file,label,split", *lines)
    assert [int(name[0]) for name, _ in answers(source)] == test
    assert [int(name[0]) for name, _ in answers(source, "train")] == [each for each in range(3) if each not in test]
    whole = open_source({"kind": "onefolder", "root": "labels.csv", "test": 0.5, "seed": 0}, flat)
    assert answers(whole) == answers(source)
    with pytest.raises(ValueError, match=r"line 2: its split should be train, val or test, found 'fold1'"):
        read(flat, "file,label,split", "0.png,a,fold1")


def test_a_table_without_splits_is_split_by_class(flat: Path) -> None:
    read(flat, "file,label", "0.png,a", "1.png,a", "2.png,b")
    source = open_source({"kind": "onefolder", "root": str(flat / "labels.csv"), "test": 0.4, "seed": 0}, Path())
    assert sorted(answers(source) + answers(source, "train")) == [("0.png", "a"), ("1.png", "a"), ("2.png", "b")]
    assert len(answers(source)) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "should name a column file and label"),
        (("file,label",), "has no pictures"),
        (("0.png,a", "1.png,b"), "should name a column file and label, found '0.png, a'"),
        (("image,MEL,NV", "0.png,1,0"), "should name a column label, found 'image, MEL, NV'"),
        (("x,y,z", "0.png,1,0"), "should name a column file, found"),
        (("file,split", "0.png,train"), "should name a column label"),
        (("file,label", "0.png,"), r"line 2: should have a file and a label, found '0.png,'"),
        (("file,label", "0.png,a", " ,b"), r"line 3: should have a file and a label"),
        (("file,label,split", "0.png,a"), r"line 2: should have a file and a label"),
        (("file,label", "0.png,a", "1.png,b", "0.png,a"), r"1 files are there twice, such as .*0.png"),
        (("file,label", "0.png,a", "gone.png,b"), r"line 3: no such file: .*gone.png"),
    ],
)
def test_what_is_no_table_of_labels_is_named(lines: tuple[str, ...], message: str, flat: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(flat, *lines)


def test_tables_are_known_by_their_names(flat: Path) -> None:
    for name, known in (("a.csv", True), ("B.TSV", True), ("c.txt", False)):
        assert not is_table(flat / name)
        (flat / name).touch()
        assert is_table(flat / name) == known
    (flat / "d.csv").mkdir()
    assert not is_table(flat / "d.csv")
    (flat / "latin.csv").write_bytes("file,label\n0.png,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is text in UTF-8"):
        read_labelled(flat / "latin.csv")
