from pathlib import Path

import pytest

from transmooth.data.parts import left_beside, part_of, parts_below


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        (" Training", "train"),
        ("dev", "val"),
        ("VALID", "val"),
        ("Testing", "test"),
        ("tests", None),
    ],
)
def test_what_parts_are_called(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("test", "train", "val"), {"train": "train", "val": "val", "test": "test"}),
        (("Testing", "Training"), {"Training": "train", "Testing": "test"}),
        (("test", "extra", "Dev"), {"test": "test"}),  # what else is there may be classes
        (("dev", "office"), {}),
        (("Train", "__MACOSX", ".git"), {"Train": "train"}),
        ((), {}),
    ],
)
def test_parts_are_folders_that_are_no_classes(folders: tuple[str, ...], parts: dict[str, str], tmp_path: Path) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    (tmp_path / "val").touch() if "val" not in folders else None
    found = parts_below(tmp_path)
    assert found == parts
    assert [*found] == [*parts]


def test_what_lies_beside_is_told(tmp_path: Path) -> None:
    for name in ("test", "Training", "a", "b", "@eaDir"):
        (tmp_path / name).mkdir()
    assert left_beside(tmp_path, ["test"]) == [f"{tmp_path}: left out, beside test/: a/, b/"]
    assert left_beside(tmp_path, []) == []
    for name in ("x.PNG", "y.jpg", ".z.png", "labels.txt"):
        (tmp_path / name).touch()
    assert left_beside(tmp_path, []) == [f"{tmp_path}: left out, beside the folders of classes: 2 pictures"]
    for name in "cdef":
        (tmp_path / name).mkdir()
    (note,) = left_beside(tmp_path, ["test", "Training"])
    assert note.endswith("beside test/, Training/: a/, b/, c/, d/, e/, …, 2 pictures")
