"""Batches: their pixels, their order over ranks and epochs, and augmentations against exact answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as torchvision

from transmooth.data.augment import (
    AUGMENTATIONS,
    STRENGTH,
    augment,
    enlarge,
    luminance,
    recolour,
    resample,
    turn_hue,
)
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

    def test_small_pictures_are_enlarged_where_they_are_read(self, folder: Path, tmp_path: Path) -> None:
        """By Pillow's filter, as what is stored so; alone as in a batch."""
        source = {"kind": "textures", "seed": 0, "train": 48, "test": 24}
        spec = {"source": source, "size": 21, "stored": 12, "resize": 24, "validation": 0.25, "seed": 0}
        prepare(spec, tmp_path / "set", tmp_path)
        split, plain = open_split(tmp_path / "set", "test"), open_split(folder, "test")
        np.testing.assert_array_equal(split.images, plain.images)
        images, labels = split.batch(range(24))
        assert (images.shape, images.dtype, split.size) == ((24, 3, 21, 21), torch.float32, 21)
        assert torch.equal(labels, plain.batch(range(24))[1])
        assert images.min() >= 0
        assert images.max() <= 1
        for stored, image in zip(split.images.transpose(0, 3, 1, 2), images, strict=True):
            for channel, found in zip(stored, image.numpy(), strict=True):  # of floats, which Pillow does not round
                large = Image.fromarray(channel.astype(np.float32)).resize((24, 24), Image.Resampling.BICUBIC)
                np.testing.assert_allclose(found, np.clip(np.asarray(large), 0, 255)[1:22, 1:22] / 255, atol=1e-5)
        assert torch.equal(split[5][0], images[5])
        pixels, _ = split.pixels(range(24))
        assert torch.equal(augment(split.resized(pixels), (), 21, generator()), images)
        assert plain.resized(pixels) is pixels

    def test_flat_pictures_stay_flat_and_edges_do_not_ring_out_of_range(self) -> None:
        flat = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)
        torch.testing.assert_close(enlarge(flat, 9), torch.full((1, 3, 9, 9), 77 / 255), atol=1e-6, rtol=0)
        edge = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        edge[..., 4:] = 255
        large = enlarge(edge, 32)
        assert (large.min().item(), large.max().item()) == (0, 1)


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


def draws(low: float, high: float, count: int = 16) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator(5))


ONE, ZERO = torch.ones(16, 1, 1, 1), torch.zeros(16, 1, 1, 1)


class TestColours:
    def test_no_change_is_the_identity(self) -> None:
        images = noise(16, 8) / 255
        torch.testing.assert_close(recolour(images, ONE, ONE, ONE, ZERO), images, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("turns", [1.0, -1.0, 2.0])
    def test_a_full_turn_of_the_hue_is_the_identity(self, turns: float) -> None:
        images = noise(16, 8) / 255
        torch.testing.assert_close(turn_hue(images, turns * ONE), images, atol=2e-6, rtol=0)

    def test_a_third_of_a_turn_makes_red_green_and_green_blue(self) -> None:
        images = noise(16, 8) / 255
        torch.testing.assert_close(turn_hue(images, ONE / 3), images.roll(1, 1), atol=2e-6, rtol=0)

    def test_grey_has_neither_hue_nor_saturation(self) -> None:
        images = (noise(16, 8)[:, :1] / 255).expand(-1, 3, -1, -1)
        assert torch.equal(turn_hue(images, draws(-0.5, 0.5)), images)
        torch.testing.assert_close(recolour(images, ONE, ONE, draws(0, 2), ZERO), images, atol=1e-6, rtol=0)

    def test_brightness_is_a_factor_and_contrast_keeps_the_mean(self) -> None:
        images, factor = noise(16, 8) / 510, draws(0, 2)
        torch.testing.assert_close(recolour(images, factor, ONE, ONE, ZERO), images * factor, atol=1e-6, rtol=0)
        low = 0.4 + images / 5  # which a factor of 2 does not clip
        changed, mean = recolour(low, ONE, factor, ONE, ZERO), luminance(low).mean((2, 3), keepdim=True)
        torch.testing.assert_close(changed - mean, factor * (low - mean), atol=1e-6, rtol=0)

    def test_without_saturation_it_is_the_luminance(self) -> None:
        images = noise(16, 8) / 255
        torch.testing.assert_close(
            recolour(images, ONE, ONE, ZERO, ZERO), luminance(images).expand(-1, 3, -1, -1), atol=1e-6, rtol=0
        )

    def test_each_part_is_torchvisions(self) -> None:
        """Whose luminance has shares that add up to 0.9999."""
        images, few = noise(16, 8) / 255, draws(0.6, 1.4)
        turns = draws(-0.1, 0.1)
        mine = {
            "brightness": recolour(images, few, ONE, ONE, ZERO),
            "contrast": recolour(images, ONE, few, ONE, ZERO),
            "saturation": recolour(images, ONE, ONE, few, ZERO),
            "hue": recolour(images, ONE, ONE, ONE, turns),
        }
        for name, changed in mine.items():
            adjust, numbers = getattr(torchvision, f"adjust_{name}"), turns if name == "hue" else few
            theirs = [adjust(image, float(number)) for image, number in zip(images, numbers, strict=True)]
            torch.testing.assert_close(changed, torch.stack(theirs), atol=3e-4, rtol=0)

    @given(numbers=st.lists(st.floats(0, 4), min_size=4, max_size=4), seed=st.integers(0, 9))
    def test_colours_stay_in_range(self, numbers: list[float], seed: int) -> None:
        images = torch.rand(2, 3, 4, 4, generator=generator(seed)).round(decimals=1)
        brightness, contrast, saturation, turns = (torch.full((2, 1, 1, 1), number) for number in numbers)
        changed = recolour(images, brightness, contrast, saturation, turns - 2)
        assert changed.min() >= 0
        assert changed.max() <= 1

    def test_colour_draws_its_numbers_for_each_image(self) -> None:
        """Read off images of few colours, of which the changes tell them."""
        image = torch.tensor([0.45, 0.5, 0.55]).view(3, 1, 1).expand(3, 4, 4).clone()
        image[:, :2] *= 0.5
        drawn = torch.rand(5, 3000, 1, 1, 1, generator=generator(3))
        brightness, contrast, saturation = 1 + 0.8 * STRENGTH * (2 * drawn[:3] - 1)
        images = image.expand(3000, -1, -1, -1)
        changed = augment(images, ["colour"], 4, generator(3))
        kept = (changed == images).all(1).all(1).all(1)
        assert torch.equal(kept, drawn[4].flatten() >= 0.8)
        assert 0.17 < kept.float().mean() < 0.23
        expected = recolour(images, brightness, contrast, saturation, 0.2 * STRENGTH * (2 * drawn[3] - 1))
        assert torch.equal(changed[~kept], expected[~kept])
        assert STRENGTH == 0.5
        for each in (brightness, contrast, saturation):
            assert 0.6 <= each.min() < 0.61
            assert 1.39 < each.max() <= 1.4

    def test_grey_is_every_fifth_image(self) -> None:
        images = noise(3000, 4)
        changed = augment(images, ["grey"], 4, generator())
        kept = (changed == images / 255).all(1).all(1).all(1)
        assert 0.77 < kept.float().mean() < 0.83
        assert torch.equal(changed[~kept], luminance(images[~kept] / 255).expand(-1, 3, -1, -1))


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
