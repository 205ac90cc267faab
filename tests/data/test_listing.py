"""Which files below a folder are pictures, and which of its folders are classes."""

import os
from pathlib import Path

import pytest

from transmooth.data.listing import list_classes, list_leaves, list_pictures, out_of_order, skipped_note


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_regular_files_of_known_suffixes_sorted(tmp_path: Path) -> None:
    # Neither this order nor its reverse, as file systems list them, is the sorted one.
    touch(
        tmp_path, "b.png", "c/d.JPG", "a.tiff", "c/a.webp", ".hidden.png", "__MACOSX/x.png", "c/Thumbs.db", "n.txt", "x"
    )
    touch(tmp_path, "c/@eaDir/y.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.png").symlink_to(tmp_path / "b.png")
    listing = list_pictures(tmp_path)
    found = [str(Path(path).relative_to(tmp_path)) for path in listing.paths]
    assert found == ["a.tiff", "b.png", "c/a.webp", "c/d.JPG", "gone.png", "link.png"]
    assert listing.skipped == {".txt": 1, "without one": 1, "no regular file, .png": 1}
    assert skipped_note("here", listing.skipped)[0].startswith("here: 3 files were left out")
    assert skipped_note("here", list_pictures(tmp_path / "c").skipped) == []


def test_a_link_to_a_folder_around_it_is_refused_and_another_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "pics/a/1.png", "other/x/2.png")
    (tmp_path / "pics/b").symlink_to(tmp_path / "other")
    assert len(list_pictures(tmp_path / "pics").paths) == 2
    assert list(list_leaves(tmp_path / "pics")) == ["a", "b/x"]
    (tmp_path / "other/back").symlink_to(tmp_path / "pics")
    for lists in (list_pictures, list_leaves):
        with pytest.raises(ValueError, match="is, through a link, a folder that it lies in"):
            lists(tmp_path / "pics")


def test_classes_are_folders_sorted_by_one_spelling_of_their_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "z/1.png",
        "cafe\u0301/1.png",
        "caf\u00e9/2.png",
        "cafz/1.png",
        "a/1.png",
        "@eaDir/1.png",
        ".git/1.png",
        "file.png",
    )
    classes = list_classes(tmp_path)
    assert list(classes) == ["a", "cafz", "caf\u00e9", "z"]
    assert {path.name for path in classes["caf\u00e9"]} == {"cafe\u0301", "caf\u00e9"}
    with pytest.raises(FileNotFoundError, match=r"no folder .*b; in .* there is .*a, "):
        list_classes(tmp_path / "b")


def test_leaves_are_folders_without_folders_by_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "z/b/1.png", "z/a/1.png", "c/1.png", "c/@eaDir/1.png", "z/notes.txt", "z/.hidden.png")
    assert list(list_leaves(tmp_path)) == ["c", "z/a", "z/b"]
    assert list_leaves(tmp_path)["z/b"] == [tmp_path / "z" / "b"]
    assert list_leaves(tmp_path / "c") == {}  # it holds no folders: it is no class of itself
    touch(tmp_path, "z/beside.png")
    with pytest.raises(ValueError, match="z: has images beside folders"):
        list_leaves(tmp_path)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [("0 1 10 2", True), ("0 1 2 10", False), ("a 10 2", False), ("b a", False), ("² 1", False)],
)
def test_numbers_in_the_order_of_text_are_found(classes: str, expected: bool) -> None:
    assert out_of_order(classes.split()) is expected
