"""Batches: their pixels, their order over ranks and epochs, and augmentations against exact answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transmooth.data.augment import AUGMENTATIONS, augment, resample
from transmooth.data.loader import open_split
from transmooth.data.order import batch_indices, epoch_order
from transmooth.data.prepare import prepare

pytestmark = pytest.mark.filterwarnings("error")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """uint8 [count, 3, side, side] without zeros, channels last, as `Split.pixels` gives them."""
    images = torch.randint(1, 256, (count, side, side, 3), generator=generator(seed), dtype=torch.uint8)
    return images.permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Textures of 12 pixels stored, 8 read."""
    out = tmp_path_factory.mktemp("set") / "textures"
    source = {"kind": "textures", "seed": 0, "train": 48, "test": 24}
    prepare({"source": source, "size": 8, "stored": 12, "validation": 0.25, "seed": 0}, out, out)
    return out


class TestSplit:
    def test_fields(self, folder: Path) -> None:
        split = open_split(folder, "validation")
        assert len(split) == 12
        assert split.size == 8
        assert len(split.classes) == 12
        assert isinstance(split.images, np.memmap)
        assert not split.images.flags.writeable
        assert len(split.mean) == len(split.std) == 3
        assert min(split.std) > 0
        assert split.mean == open_split(folder, "test").mean  # the training split's

    def test_batch(self, folder: Path) -> None:
        split = open_split(folder, "train")
        images, labels = split.batch([5, 0, 5])
        assert (images.shape, images.dtype, labels.dtype) == ((3, 3, 8, 8), torch.float32, torch.int64)
        assert images.is_contiguous(memory_format=torch.channels_last)
        expected = np.load(folder / "train.npy")[[5, 0, 5], 2:10, 2:10].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_array_equal(images, expected)
        assert labels.tolist() == np.load(folder / "train.labels.npy")[[5, 0, 5]].tolist()

    def test_item_and_iteration(self, folder: Path) -> None:
        split = open_split(folder, "test")
        image, label = split[3]
        assert torch.equal(image, split.batch(np.array([3]))[0][0])
        assert label == split.labels[3]
        assert type(label) is int
        with pytest.raises(IndexError):  # which ends a loop over it
            split[24]

    def test_a_batch_is_the_caller_s(self, folder: Path) -> None:
        split = open_split(folder, "test")
        before = split.images[0].copy()
        split.pixels([0])[0].zero_()
        np.testing.assert_array_equal(split.images[0], before)

    def test_missing(self, folder: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no split 'val'; there is: test, train, validation"):
            open_split(folder, "val")
        with pytest.raises(FileNotFoundError, match=r"no manifest.json; there is: textures"):
            open_split(folder.parent, "train")
        with pytest.raises(FileNotFoundError, match=r"gone.*no such folder"):
            open_split(folder / "gone", "train")

    @pytest.mark.parametrize("damage", ["cut", "other"])
    def test_a_file_that_does_not_fit(self, tmp_path: Path, damage: str) -> None:
        source = {"kind": "textures", "seed": 0, "train": 12, "test": 12}
        prepare({"source": source, "size": 4, "stored": 4, "validation": 0, "seed": 0}, tmp_path / "set", tmp_path)
        path = tmp_path / "set/test.npy"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-9])
        else:
            np.save(path, np.zeros((11, 4, 4, 3), np.uint8))
        with pytest.raises(ValueError, match=r"test.npy .*Prepare the set again"):
            open_split(tmp_path / "set", "test")


class TestAugment:
    def test_nothing_is_the_centre(self, folder: Path) -> None:
        split = open_split(folder, "test")
        augmented = augment(split.pixels(range(6))[0], (), 8, generator())
        assert torch.equal(augmented, split.batch(range(6))[0])

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    @pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.float() / 255], ids=["uint8", "float"])
    def test_shape_range_and_seed(self, name: str, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        images = convert(noise(64, 16))
        kept = images.clone()
        one, same, other = (augment(images, [name], 12, generator(seed)) for seed in (0, 0, 1))
        assert (one.shape, one.dtype) == ((64, 3, 12, 12), torch.float32)
        assert one.min() >= 0
        assert 0.5 < one.max() <= 1
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(images, kept)

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_each_image_has_its_own_draw(self, name: str) -> None:
        images = noise(1, 16).expand(64, -1, -1, -1)
        assert len(torch.unique(augment(images, [name], 16, generator()), dim=0)) > 1

    def test_flip(self) -> None:
        images = noise(200, 6)
        flipped = augment(images, ["flip"], 6, generator())
        mirrored = (flipped == images.flip(-1) / 255).all((1, 2, 3))
        same = (flipped == images / 255).all((1, 2, 3))
        assert (mirrored ^ same).all()
        assert 70 < mirrored.sum() < 130

    @pytest.mark.parametrize("side", [16, 19])
    def test_crop(self, side: int) -> None:
        """Each result is the crop at one place of the padded image, and all places occur."""
        size, pad = 16, 2 if side == 16 else 0
        images = noise(600, side)
        cropped = augment(images, ["crop"], size, generator())
        padded = torch.nn.functional.pad(images, [pad] * 4) / 255
        places = side + 2 * pad - size + 1
        windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # [B, 3, places, places, size, size]
        hits = (windows == cropped[:, :, None, None]).all(1).all(-1).all(-1)
        assert (hits.sum((1, 2)) == 1).all()
        assert hits.shape[1:] == (places, places)
        assert hits.any(0).all()

    def test_resample_of_the_whole_is_the_identity(self) -> None:
        images, one, none = noise(4, 9) / 255, torch.ones(4), torch.zeros(4)
        torch.testing.assert_close(resample(images, one, one, none, none, 9), images)

    def test_resample_of_a_quarter(self) -> None:
        """Half the width and height about (1/2, -1/2) is the upper right quarter."""
        images, half = noise(4, 8) / 255, torch.full((4,), 0.5)
        torch.testing.assert_close(resample(images, half, half, half, -half, 4), images[:, :, :4, 4:])

    def test_resized_crop_draws_rectangles_in_range(self) -> None:
        """Images whose channels tell x and y: the rectangle can be read off the result."""
        ramp = (torch.arange(64) + 0.5) / 64
        image = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.ones(64, 64)])
        crops = augment(image.expand(2000, -1, -1, -1), ["resized_crop"], 32, generator())
        middle = slice(8, 24)  # away from edges, where the ramp is cut
        width = (crops[:, 0, 16, middle].diff(dim=1)).mean(1) * 32
        height = (crops[:, 1, middle, 16].diff(dim=1)).mean(1) * 32
        area, ratio = width * height, width / height
        assert 0.075 < area.min() < 0.12
        assert 0.9 < area.max() < 1.001
        assert 0.749 < ratio.min() < 0.78
        assert 1.28 < ratio.max() < 1.334
        assert width.max() < 1.001
        assert height.max() < 1.001
        assert (width > 0.9999).float().mean() < 0.005  # those that do not fit are drawn anew, not cut
        centre = crops[:, :2, 15:17, 15:17].mean((2, 3))
        free = torch.stack([1 - width, 1 - height], 1)
        place = ((centre - 0.5) / free)[free.min(1).values > 0.2]
        assert -0.502 < place.min() < -0.45
        assert 0.45 < place.max() < 0.502
        assert crops.max() <= 1
        assert (crops[:, 2] > 1 - 1e-6).all()

    def test_order_and_unknown_names(self) -> None:
        images = noise(32, 16)
        both = augment(images, ["flip", "crop"], 16, generator())
        shared = generator()
        assert torch.equal(both, augment(augment(images, ["flip"], 16, shared), ["crop"], 16, shared))
        with pytest.raises(ValueError, match=r"unknown augmentations \['mixup'\]; there are flip, crop"):
            augment(images, ["mixup"], 16, generator())


class TestOrder:
    @given(
        n=st.integers(1, 90),
        batch=st.integers(1, 40),
        epoch=st.integers(0, 3),
        seed=st.integers(0, 9),
        world=st.integers(1, 5),
    )
    def test_batches(self, n: int, batch: int, epoch: int, seed: int, world: int) -> None:
        size, steps = min(n, batch), max(1, n // batch)
        seen = []
        for step in range(epoch * steps, (epoch + 1) * steps):
            whole = batch_indices(n, batch, step, seed)
            parts = [batch_indices(n, batch, step, seed, rank, world) for rank in range(world)]
            assert len(whole) == size
            np.testing.assert_array_equal(np.concatenate(parts), whole)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            seen += whole.tolist()
        assert len(set(seen)) == len(seen) == size * steps
        assert set(seen) <= set(range(n))

    def test_epochs_and_seeds_shuffle_anew(self) -> None:
        orders = [epoch_order(50, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
        assert len(set(map(tuple, orders))) == 4
        assert all(sorted(order) == list(range(50)) for order in orders)
        np.testing.assert_array_equal(batch_indices(50, 20, 3, 0), epoch_order(50, 0, 1)[20:40])

    def test_the_cached_order_is_read_only(self) -> None:
        with pytest.raises(ValueError, match="read-only"):
            batch_indices(9, 3, 0, 0)[0] = 1

    @pytest.mark.parametrize("bad", [{"rank": 2}, {"rank": -1}, {"n": 0}, {"batch": 0}])
    def test_refused(self, bad: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="need 0 <= rank < world"):
            batch_indices(**{"n": 9, "batch": 3, "step": 0, "seed": 0, "rank": 0, "world": 2, **bad})
