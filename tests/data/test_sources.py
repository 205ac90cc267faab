"""Every kind of source: its classes, order, determinism, and the errors that only the disk can cause."""

import io
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transmooth.data.sources import SOURCES, Source, open_source
from transmooth.data.sources.characters import CONTRAST, FONTS, LUMINANCE, _paint
from transmooth.data.sources.textures import PICTURES
from transmooth.data.split import stratified

pytestmark = pytest.mark.filterwarnings("error")

EMBEDDED: list[dict[str, Any]] = [
    {"kind": "characters", "seed": 3, "train": 130, "test": 70},
    {"kind": "digits", "seed": 3, "test": 500},
    {"kind": "textures", "seed": 3, "train": 50, "test": 30},
]


def pixels(source: Source, split: str, index: int) -> np.ndarray:
    return np.asarray(source.splits[split].load(index))


@pytest.mark.parametrize("spec", EMBEDDED, ids=lambda spec: spec["kind"])
class TestEmbedded:
    def test_shape(self, spec: dict[str, Any], tmp_path: Path) -> None:
        source = open_source(spec, tmp_path)
        for split in ("train", "test"):
            labels = source.splits[split].labels
            assert labels.dtype == np.int64
            assert set(labels) == set(range(len(source.classes)))
            assert np.ptp(np.bincount(labels)) <= 15  # balanced
        assert len(source.splits["test"].labels) == spec["test"]
        assert len(source.splits["train"].labels) == spec.get("train", 1797 - 500)

    def test_the_seed_decides(self, spec: dict[str, Any], tmp_path: Path) -> None:
        one, same, other = (open_source({**spec, "seed": seed}, tmp_path) for seed in (3, 3, 4))
        for split in ("train", "test"):
            for index in (0, 7, 29):
                np.testing.assert_array_equal(pixels(one, split, index), pixels(same, split, index))
            assert any(
                not np.array_equal(pixels(one, split, index), pixels(other, split, index)) for index in range(20)
            )

    def test_an_image_does_not_depend_on_what_was_loaded_before(self, spec: dict[str, Any], tmp_path: Path) -> None:
        source = open_source(spec, tmp_path)
        forward = [pixels(source, "train", index) for index in range(10)]
        for index in reversed(range(10)):
            np.testing.assert_array_equal(pixels(source, "train", index), forward[index])


@pytest.mark.parametrize("kind", ["characters", "textures"])
def test_a_larger_set_begins_with_the_smaller(kind: str, tmp_path: Path) -> None:
    small, large = (open_source({"kind": kind, "seed": 0, "train": n, "test": n}, tmp_path) for n in (5, 90))
    for split in ("train", "test"):
        for index in range(5):
            np.testing.assert_array_equal(pixels(small, split, index), pixels(large, split, index))


def test_train_and_test_are_other_draws(tmp_path: Path) -> None:
    source = open_source(EMBEDDED[0], tmp_path)
    assert not np.array_equal(pixels(source, "train", 0), pixels(source, "test", 0))


def test_every_font_draws_62_different_characters(tmp_path: Path) -> None:
    import matplotlib
    from PIL import ImageFont

    from transmooth.data.sources.characters import CLASSES, _glyph

    for name in FONTS:
        font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), 46)
        drawn = {_glyph(character, font).tobytes() for character in CLASSES}
        assert len(drawn) == 62, name


def test_characters_keep_their_contrast() -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 32))
    for seed in range(60):
        image = np.asarray(_paint(mask, np.random.default_rng(seed)), np.float64) @ LUMINANCE
        gap = image[:32].mean() - image[32:]
        assert np.abs(gap).min() >= CONTRAST - 1.5  # rounding
        assert len(np.unique(np.sign(gap))) == 1


def test_digits_are_all_there_once(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    source = open_source(EMBEDDED[1], tmp_path)
    ours = sorted(
        pixels(source, split, index).tobytes()
        for split in ("train", "test")
        for index in range(len(source.splits[split].labels))
    )
    assert ours == sorted(np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images)


def test_textures_of_train_and_test_share_no_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pictures whose pixels tell their column."""
    module = import_module("transmooth.data.sources.textures")  # as an attribute it is the function
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (160, 200, 3))
    monkeypatch.setattr(module, "_picture", lambda package, path: Image.fromarray(ramp.copy()))
    source = open_source({"kind": "textures", "seed": 1, "train": 300, "test": 300}, tmp_path)
    train, test = (np.unique([np.unique(pixels(source, s, i))[[0, -1]] for i in range(300)]) for s in ("train", "test"))
    assert train.min() < 10
    assert 140 <= train.max() < 150 <= test.min() < 155
    assert test.max() > 195
    assert source.classes == tuple(PICTURES)


def folder(root: Path, tree: dict[str, dict[str, list[str]]]) -> Path:
    """root/<split>/<class>/<file>, each file of one colour."""
    for number, (split, classes) in enumerate(tree.items()):
        for name, files in classes.items():
            for index, file in enumerate(files):
                path = root / split / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (number, index, 7)).save(path)
            (root / split / name).mkdir(parents=True, exist_ok=True)
    return root


TREE = {
    "train": {"zèbre": ["2.png", "1.png"], "猫": ["x/a.PNG"]},
    "test": {"zèbre": ["a.png"], "猫": ["b.png"]},
}
FOLDER = {"kind": "imagefolder", "root": "set", "splits": {"train": ["train"], "test": ["test"]}}


class TestImageFolder:
    def test_sorted_and_relative_to_base(self, tmp_path: Path) -> None:
        folder(tmp_path / "set", TREE)
        (tmp_path / "set/train/zèbre/._1.png").write_bytes(b"what macOS leaves")
        (tmp_path / "set/train/zèbre/notes.txt").write_text("not an image")
        source = open_source(FOLDER, tmp_path)
        assert source.classes == ("zèbre", "猫")
        assert source.splits["train"].labels.tolist() == [0, 0, 1]
        assert [pixels(source, "train", i)[0, 0, 1] for i in range(3)] == [1, 0, 0]  # 1.png was saved second
        assert pixels(source, "test", 1)[0, 0].tolist() == [1, 0, 7]

    def test_home_and_variables_in_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder(tmp_path / "set", TREE)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WHERE", str(tmp_path))
        for root in ("~/set", "$WHERE/set"):
            assert open_source({**FOLDER, "root": root}, Path("/nowhere")).classes == ("zèbre", "猫")

    def test_several_folders_make_a_split(self, tmp_path: Path) -> None:
        folder(tmp_path / "set", TREE)
        spec = {**FOLDER, "splits": {"train": ["train", "test"], "test": ["test"]}}
        source = open_source(spec, tmp_path)
        assert source.splits["train"].labels.tolist() == [0, 0, 1, 0, 1]
        assert pixels(source, "train", 4)[0, 0].tolist() == [1, 0, 7]

    def test_missing_folder(self, tmp_path: Path) -> None:
        folder(tmp_path / "set", {"training": TREE["train"], "test": TREE["test"]})
        with pytest.raises(FileNotFoundError, match=r"set/train; in .*set there is test, training"):
            open_source(FOLDER, tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no folder .*/gone/train; in "):
            open_source({**FOLDER, "root": "gone"}, tmp_path)

    def test_classes_differ(self, tmp_path: Path) -> None:
        folder(tmp_path / "set", {"train": TREE["train"], "test": {"zèbre": ["1.png"], "hund": ["1.png"]}})
        with pytest.raises(ValueError, match=r"same classes.*'hund', '猫'"):
            open_source(FOLDER, tmp_path)

    def test_no_classes(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            (tmp_path / "set" / split).mkdir(parents=True)
        with pytest.raises(ValueError, match="set/train has no folders"):
            open_source(FOLDER, tmp_path)

    def test_empty_class(self, tmp_path: Path) -> None:
        folder(tmp_path / "set", {"train": TREE["train"], "test": {**TREE["test"], "猫": []}})
        with pytest.raises(ValueError, match=r"class '猫' is empty.*set/test/猫"):
            open_source(FOLDER, tmp_path)

    def test_nested_classes_are_the_folders_that_hold_no_folders(self, tmp_path: Path) -> None:
        classes = {"b": ["1.png"], "a/abbey": ["1.png", "2.png"], "a/house/outdoor": ["1.png"]}
        folder(tmp_path / "set", {"train": classes, "test": classes})
        (tmp_path / "set/train/a/abbey/.cache").mkdir()
        source = open_source({**FOLDER, "nested": True}, tmp_path)
        assert source.classes == ("a/abbey", "a/house/outdoor", "b")
        assert source.splits["train"].labels.tolist() == [0, 0, 1, 2]
        assert pixels(source, "train", 1)[0, 0].tolist() == [0, 1, 7]
        assert open_source(FOLDER, tmp_path).classes == ("a", "b")

    def test_nested_classes_that_are_unclear(self, tmp_path: Path) -> None:
        classes = {"b": ["1.png"], "a/abbey": ["1.png"]}
        spec = {**FOLDER, "nested": True}
        folder(tmp_path / "set", {"train": classes, "test": {"b": ["1.png"], "a": ["1.png"]}})
        with pytest.raises(ValueError, match=r"same classes.*'a', 'a/abbey'"):
            open_source(spec, tmp_path)
        Image.new("RGB", (4, 4)).save(tmp_path / "set/train/a/lost.png")
        with pytest.raises(ValueError, match=r"^.*set/train/a: has images beside folders; with `nested` a class is"):
            open_source(spec, tmp_path)
        (tmp_path / "set/train/a/lost.png").unlink()
        (tmp_path / "set/train/a/abbey/1.png").unlink()
        (tmp_path / "set/train/a/abbey/around").symlink_to(tmp_path / "set/train/a")
        with pytest.raises(ValueError, match=r"set/train/a/abbey/around: is, through a link, a folder that it lies in"):
            open_source(spec, tmp_path)

    def test_classes_that_are_left_out(self, tmp_path: Path) -> None:
        more = {split: {**classes, "ape": ["1.png", "2.png"]} for split, classes in TREE.items()}
        folder(tmp_path / "set", more)
        source = open_source({**FOLDER, "without": ["zèbre"]}, tmp_path)
        assert source.classes == ("ape", "猫")
        assert source.splits["train"].labels.tolist() == [0, 0, 1]
        with pytest.raises(ValueError, match=r"^without: .*set/train has no class 'hund'; there are ape, zèbre, 猫"):
            open_source({**FOLDER, "without": ["hund"]}, tmp_path)
        with pytest.raises(ValueError, match="needs at least two classes, found none"):
            open_source({**FOLDER, "without": list(more["train"])}, tmp_path)

    @pytest.mark.parametrize("damage", ["text", "cut"])
    def test_unreadable_image(self, tmp_path: Path, damage: str) -> None:
        path = folder(tmp_path / "set", TREE) / "train/zèbre/2.png"
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(b"no image" if damage == "text" else path.read_bytes()[:900])
        source = open_source(FOLDER, tmp_path)  # found lazily
        with pytest.raises(ValueError, match=r"cannot read the image .*train/zèbre/2.png"):
            source.splits["train"].load(1)


class TestOneFolder:
    SPEC: ClassVar[dict[str, Any]] = {"kind": "onefolder", "root": "set/all"}

    @pytest.fixture(autouse=True)
    def pictures(self, tmp_path: Path) -> None:
        """Classes of 5, 3 and 4 pictures, each of the colour that tells its place in its folder."""
        sizes = {"x": 5, "deep/y": 3, "clutter": 4}
        tree = {name: [f"{index}.png" for index in range(count)] for name, count in sizes.items()}
        folder(tmp_path / "set", {"all": tree})

    def test_the_first_of_each_class_train_and_all_the_others_test(self, tmp_path: Path) -> None:
        spec = {**self.SPEC, "train_per_class": 2, "without": ["clutter"], "nested": True}
        source = open_source(spec, tmp_path)
        assert source.classes == ("deep/y", "x")
        assert source.splits["train"].labels.tolist() == [0, 0, 1, 1]
        assert source.splits["test"].labels.tolist() == [0, 1, 1, 1]
        assert [pixels(source, "train", index)[0, 0, 1] for index in range(4)] == [0, 1, 0, 1]
        assert [pixels(source, "test", index)[0, 0, 1] for index in range(4)] == [2, 2, 3, 4]

    @pytest.mark.parametrize("count", [3, 4])
    def test_a_class_of_which_none_would_test(self, tmp_path: Path, count: int) -> None:
        with pytest.raises(
            ValueError, match=f"^set/all: train_per_class: .* to test, but class 'deep' has 3, found {count}"
        ):
            open_source({**self.SPEC, "train_per_class": count}, tmp_path)

    def test_a_share_is_drawn_per_class(self, tmp_path: Path) -> None:
        source = open_source({**self.SPEC, "test": 0.25, "seed": 0}, tmp_path)
        assert np.bincount(source.splits["test"].labels).tolist() == [1, 1, 1]
        assert np.bincount(source.splits["train"].labels).tolist() == [3, 2, 4]


def shade(value: int, side: int = 4) -> np.ndarray:
    return np.full((side, side, 3), (value, 2 * value, 255 - value), np.uint8)


class TestArrays:
    SPEC: ClassVar = {"kind": "arrays", "root": "set", "splits": {"train": ["batch_*.npz"], "test": ["val.npz"]}}

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "set").mkdir()
        for name, values in (("batch_10", (40, 50)), ("batch_9", (10, 20, 30)), ("val", (60,))):
            data = np.stack([shade(value).transpose(2, 0, 1).ravel() for value in values])
            np.savez(tmp_path / "set" / f"{name}.npz", data=data, labels=[value // 10 for value in values])
        return tmp_path

    def test_files_in_order_of_their_numbers_and_labels_from_one(self, root: Path) -> None:
        source = open_source(self.SPEC, root)
        assert source.splits["train"].labels.tolist() == [0, 1, 2, 3, 4]
        assert source.splits["test"].labels.tolist() == [5]
        assert source.classes == tuple("012345")
        for index in range(5):
            np.testing.assert_array_equal(pixels(source, "train", index), shade(10 * index + 10))

    def test_faults(self, root: Path) -> None:
        np.savez(root / "set" / "val.npz", data=np.zeros((2, 48), np.uint8), labels=np.array([object()]))
        with pytest.raises(ValueError, match=r"val.npz: should be an npz file"):  # pickled content stays unread
            open_source(self.SPEC, root)
        np.savez(root / "set" / "val.npz", data=np.zeros((2, 47), np.uint8), labels=[1, 1])
        with pytest.raises(ValueError, match=r"val.npz: `data` should be uint8 .*found uint8 \[2, 47\]"):
            open_source(self.SPEC, root)
        (root / "set" / "val.npz").write_bytes(b"no zip")
        with pytest.raises(ValueError, match=r"val.npz: should be an npz file"):
            open_source(self.SPEC, root)
        (root / "set" / "val.npz").unlink()
        with pytest.raises(FileNotFoundError, match=r"no file val.npz in .*set"):
            open_source(self.SPEC, root)


class TestParquet:
    SPEC: ClassVar = {"kind": "parquet", "root": "set", "splits": {"train": ["train-*"], "test": ["val.parquet"]}}

    @staticmethod
    def write(path: Path, values: tuple[int, ...], *, struct: bool) -> None:
        encoded = []
        for value in values:
            stream = io.BytesIO()
            Image.fromarray(shade(value)).save(stream, "png")
            encoded.append({"bytes": stream.getvalue(), "path": "x.png"} if struct else stream.getvalue())
        pq.write_table(pa.table({"image": encoded, "label": [value // 10 for value in values]}), path)

    @pytest.mark.parametrize("struct", [False, True])
    def test_bytes_and_structs(self, tmp_path: Path, struct: bool) -> None:
        (tmp_path / "set").mkdir()
        self.write(tmp_path / "set" / "train-1", (0, 10, 20), struct=struct)
        self.write(tmp_path / "set" / "train-2", (30, 0), struct=struct)
        self.write(tmp_path / "set" / "val.parquet", (20,), struct=struct)
        source = open_source(self.SPEC, tmp_path)
        assert source.splits["train"].labels.tolist() == [0, 1, 2, 3, 0]
        assert source.classes == tuple("0123")
        np.testing.assert_array_equal(pixels(source, "train", 3), shade(30))
        np.testing.assert_array_equal(pixels(source, "test", 0), shade(20))

    def test_faults(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        self.write(tmp_path / "set" / "train-1", (0, 10), struct=True)
        with pytest.raises(FileNotFoundError, match=r"no file val.parquet in .*set"):
            open_source(self.SPEC, tmp_path)
        test = tmp_path / "set" / "val.parquet"
        for table, message in (
            (pa.table({"picture": [b""], "label": [0]}), "val.parquet: should be Parquet with columns"),
            (pa.table({"image": ["name"], "label": [0]}), "val.parquet: `image` should be bytes"),
            (pa.table({"image": [b""], "label": ["cat"]}), "val.parquet: `label` should be an integer"),
        ):
            pq.write_table(table, test)
            with pytest.raises(ValueError, match=message):
                open_source(self.SPEC, tmp_path)
        test.write_bytes(b"no Parquet")
        with pytest.raises(ValueError, match=r"val.parquet: should be Parquet"):
            open_source(self.SPEC, tmp_path)
        pq.write_table(pa.table({"image": [b"no picture"], "label": [0]}), test)
        source = open_source(self.SPEC, tmp_path)
        with pytest.raises(ValueError, match=r"cannot read picture 0 of val.parquet"):
            source.splits["test"].load(0)


class Boolean:
    """As CIFAR10: `train=`, `targets`, `classes`."""

    classes = ("a", "b")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        if not (download or Path(root, "here").exists()):
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.shade, self.targets = (10, [0, 1, 1]) if train else (20, [1])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (2, 2), self.shade + index), self.targets[index]


class Named:
    """As Flowers102: `split=`, `_labels`, no `download`, no class names."""

    shades: ClassVar = {"train": 10, "val": 20, "test": 30}

    def __init__(self, root: str, split: str = "train") -> None:
        if split not in self.shades:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        self.shade, self._labels = self.shades[split], [2, 0, 1]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (2, 2), self.shade + index), self._labels[index]


class TrainVal(Named):
    """As OxfordIIITPet."""

    shades: ClassVar = {"trainval": 40, "test": 50}

    def __init__(self, root: str, split: str = "trainval") -> None:
        super().__init__(root, split)


class Unlabelled(Named):
    """As GTSRB, which tells labels only item by item, and as STL10 with its -1."""

    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.hidden = [-1, 0, 1] if split == "val" else [0, 1, 1]
        del self._labels

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (2, 2)), self.hidden[index]


class TestTorchvision:
    @pytest.fixture(autouse=True)
    def fakes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torchvision.datasets

        for fake in (Boolean, TrainVal, Unlabelled):
            monkeypatch.setattr(torchvision.datasets, fake.__name__, fake, raising=False)
        monkeypatch.setattr(torchvision.datasets, "Flowers102", Named)
        monkeypatch.setattr(torchvision.datasets, "Named", Named, raising=False)

    def source(self, root: Path, name: str, **more: Any) -> Source:
        return open_source({"kind": "torchvision", "name": name, "root": str(root), **more}, Path("/nowhere"))

    def shades(self, source: Source, split: str) -> list[int]:
        return [int(pixels(source, split, index)[0, 0]) for index in range(len(source.splits[split].labels))]

    def test_train_true_or_false(self, tmp_path: Path) -> None:
        source = self.source(tmp_path, "Boolean", download=True)
        assert source.classes == ("a", "b")
        assert source.splits["train"].labels.tolist() == [0, 1, 1]
        assert (self.shades(source, "train"), self.shades(source, "test")) == ([10, 11, 12], [20])

    @pytest.mark.parametrize(
        ("name", "train", "test"),
        [
            ("Named", [10, 11, 12], [30, 31, 32]),
            ("Flowers102", [10, 11, 12, 20, 21, 22], [30, 31, 32]),
            ("TrainVal", [40, 41, 42], [50, 51, 52]),
        ],
    )
    def test_named_splits(self, tmp_path: Path, name: str, train: list[int], test: list[int]) -> None:
        source = self.source(tmp_path, name)
        assert (self.shades(source, "train"), self.shades(source, "test")) == (train, test)
        assert source.classes == ("0", "1", "2")
        assert source.splits["train"].labels.tolist() == [2, 0, 1] * (len(train) // 3)

    def test_splits_of_the_spec(self, tmp_path: Path) -> None:
        source = self.source(tmp_path, "Named", splits={"train": ["val", "train"], "test": ["test"]})
        assert self.shades(source, "train") == [20, 21, 22, 10, 11, 12]

    def test_labels_item_by_item(self, tmp_path: Path) -> None:
        assert self.source(tmp_path, "Unlabelled").splits["test"].labels.tolist() == [0, 1, 1]

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=rf"(?s)Boolean.*{tmp_path}.*download: true.*by hand"):
            self.source(tmp_path, "Boolean", download=False)

    def test_unknown_split(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="Named has no split 'extra'"):
            self.source(tmp_path, "Named", splits={"train": ["train"], "test": ["extra"]})

    @pytest.mark.parametrize("name", ["NoSuch", "FakeData", "ImageFolder", "utils"])
    def test_not_a_dataset_with_splits(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match=f"no class {name!r}"):
            self.source(tmp_path, name)

    def test_unlabelled(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="labels -1 to 1, but 2 classes"):
            self.source(tmp_path, "Unlabelled", splits={"train": ["val"], "test": ["test"]})


def test_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'zip'; there are " + ", ".join(SOURCES)):
        open_source({"kind": "zip"}, tmp_path)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_stratified(classes: list[int], data: st.DataObject) -> None:
    labels = np.array(classes)
    count = data.draw(st.integers(0, len(labels) - 1))
    chosen = stratified(labels, count, seed=0)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    for label in np.unique(labels):
        share = count * (labels == label).mean()
        assert abs((labels[chosen] == label).sum() - share) < 1


def test_stratified_leaves_some() -> None:
    with pytest.raises(ValueError, match="cannot take 3 of 3"):
        stratified(np.zeros(3, np.int64), 3, seed=0)
