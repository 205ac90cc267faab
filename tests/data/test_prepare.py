"""Prepared sets: pixels, manifest and pin, and that a set is there whole or not at all."""

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from transmooth.data.picture import to_rgb, to_square
from transmooth.data.prepare import CHUNK, prepare, verify

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Two classes; 10 training images of each and 3 test images, one of which is a copy of a training image."""
    for split, count in (("train", 10), ("test", 3)):
        for name in ("a", "b"):
            (tmp_path / "raw" / split / name).mkdir(parents=True)
            for index in range(count):
                noise = RNG.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(noise).save(tmp_path / f"raw/{split}/{name}/{index}.png")
    (tmp_path / "raw/test/b/0.png").write_bytes((tmp_path / "raw/train/a/4.png").read_bytes())
    source = {"kind": "imagefolder", "root": "raw", "splits": {"train": ["train"], "test": ["test"]}}
    return {"source": source, "size": 8, "stored": 8, "validation": 0.2, "seed": 0}


def pin_of(folder: Path) -> str:
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


class TestPixels:
    def test_grey_palette_and_bilevel(self) -> None:
        grey = RNG.integers(0, 256, (5, 5), np.uint8)
        np.testing.assert_array_equal(np.asarray(to_rgb(Image.fromarray(grey))), np.stack([grey] * 3, -1))
        colour = Image.new("P", (2, 2), 1)
        colour.putpalette([0, 0, 0, 200, 100, 50])
        assert to_rgb(colour).getpixel((0, 0)) == (200, 100, 50)
        assert to_rgb(Image.new("1", (2, 2), 1)).getpixel((1, 1)) == (255, 255, 255)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparent_is_white(self, mode: str) -> None:
        clear = (0, 0, 0, 0) if mode == "RGBA" else (0, 0)
        assert to_rgb(Image.new(mode, (1, 1), clear)).getpixel((0, 0)) == (255, 255, 255)
        half = (100, 100, 100, 128) if mode == "RGBA" else (100, 128)
        assert to_rgb(Image.new(mode, (1, 1), half)).getpixel((0, 0)) == (177, 177, 177)

    def test_transparent_palette_from_a_file(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([9, 9, 9, 200, 100, 50])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "p.png", transparency=0)
        with Image.open(tmp_path / "p.png") as loaded:
            rgb = to_rgb(loaded)
        assert [rgb.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 100, 50)]

    def test_sixteen_bit_from_a_file(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "deep.png")
        with Image.open(tmp_path / "deep.png") as image:
            np.testing.assert_array_equal(np.asarray(to_rgb(image))[0, :, 0], [0, 100, 255])

    def test_cmyk(self) -> None:
        assert to_rgb(Image.new("CMYK", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (0, 255, 255)

    def test_floats(self) -> None:
        with pytest.raises(ValueError, match="no known range"):
            to_rgb(Image.new("F", (1, 1)))

    def test_square_of_its_size_is_untouched(self) -> None:
        noise = RNG.integers(0, 256, (9, 9, 3), np.uint8)
        np.testing.assert_array_equal(np.asarray(to_square(Image.fromarray(noise), 9)), noise)

    @pytest.mark.parametrize("shape", [(40, 20), (20, 40), (41, 20), (333, 20)])
    def test_centre_of_a_long_picture(self, shape: tuple[int, int]) -> None:
        """A ramp along the longer side is cut alike on both ends."""
        ramp = np.linspace(0, 255, max(shape))
        image = np.broadcast_to(ramp[:, None] if shape[0] > shape[1] else ramp, shape).astype(np.uint8)
        square = np.asarray(to_square(Image.fromarray(image).convert("RGB"), 10))
        assert square.shape == (10, 10, 3)
        assert square[0, 0, 0] / 2 + square[-1, -1, 0] / 2 == pytest.approx(127.5, abs=6)
        assert np.ptp(square) > 0

    def test_shrinking_is_antialiased(self) -> None:
        board = np.indices((64, 64)).sum(0) % 2 * 255
        square = np.asarray(to_square(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 8))
        assert np.abs(square[1:-1, 1:-1].astype(int) - 127).max() <= 4


class TestSet:
    def test_arrays_hold_the_images(self, spec: dict[str, Any], tmp_path: Path) -> None:
        manifest = prepare(spec, tmp_path / "deep/out", tmp_path)
        assert manifest["counts"] == {"train": 16, "validation": 4, "test": 6}
        assert manifest["classes"] == ["a", "b"]
        seen = []
        for split, count in manifest["counts"].items():
            images, labels = (np.load(tmp_path / f"deep/out/{split}{end}.npy") for end in ("", ".labels"))
            assert (images.dtype, images.shape) == (np.uint8, (count, 8, 8, 3))
            assert labels.dtype == np.int64
            np.testing.assert_array_equal(np.bincount(labels), [count / 2] * 2)
            seen += [
                (image.tobytes(), "ab"[label], split == "test") for image, label in zip(images, labels, strict=True)
            ]
        raw = [
            (np.asarray(Image.open(path)).tobytes(), path.parent.name, path.parts[-3] == "test")
            for path in tmp_path.glob("raw/*/*/*.png")
        ]
        assert sorted(seen) == sorted(raw)

    def test_moments_and_duplicates(self, spec: dict[str, Any], tmp_path: Path) -> None:
        manifest = prepare(spec, tmp_path / "out", tmp_path)
        train = np.load(tmp_path / "out/train.npy") / 255
        np.testing.assert_allclose(manifest["mean"], train.mean((0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(manifest["std"], train.std((0, 1, 2)), atol=1e-6)
        assert manifest["duplicates_across_splits"] == 1

    def test_the_manifest_knows_no_machine(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "one", tmp_path)
        (tmp_path / "raw").rename(tmp_path / "elsewhere")
        moved = {**spec, "source": {**spec["source"], "root": str(tmp_path / "elsewhere")}}
        prepare(moved, tmp_path / "two", Path("/"))
        assert pin_of(tmp_path / "one") == pin_of(tmp_path / "two")
        text = (tmp_path / "one/manifest.json").read_text()
        assert str(tmp_path) not in text
        assert "raw" not in text

    def test_the_seed_picks_the_validation_images(self, spec: dict[str, Any], tmp_path: Path) -> None:
        one, other = (prepare({**spec, "seed": seed}, tmp_path / str(seed), tmp_path) for seed in (0, 1))
        assert one["files"]["validation.npy"] != other["files"]["validation.npy"]
        assert one["files"]["test.npy"] == other["files"]["test.npy"]

    def test_without_validation(self, spec: dict[str, Any], tmp_path: Path) -> None:
        manifest = prepare({**spec, "validation": 0}, tmp_path / "out", tmp_path)
        assert manifest["counts"] == {"train": 20, "test": 6}
        assert not list((tmp_path / "out").glob("validation*"))

    def test_the_first_training_images_of_each_class(self, spec: dict[str, Any], tmp_path: Path) -> None:
        manifest = prepare({**spec, "train_per_class": 3, "validation": 0}, tmp_path / "out", tmp_path)
        assert manifest["counts"] == {"train": 6, "test": 6}
        images, labels = (np.load(tmp_path / f"out/train{end}.npy") for end in ("", ".labels"))
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        first = [
            np.asarray(Image.open(tmp_path / f"raw/train/{name}/{index}.png")) for name in "ab" for index in range(3)
        ]
        np.testing.assert_array_equal(images, first)
        assert prepare({**spec, "train_per_class": 99}, tmp_path / "all", tmp_path)["counts"]["train"] == 16

    def test_stored_below_size(self, spec: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"stored \(4\) must be at least size \(8\)"):
            prepare({**spec, "stored": 4}, tmp_path / "out", tmp_path)
        with pytest.raises(ValueError, match=r"resize \(7\) must be at least size \(8\)"):
            prepare({**spec, "stored": 4, "resize": 7}, tmp_path / "out", tmp_path)
        assert prepare({**spec, "stored": 4, "resize": 8}, tmp_path / "out", tmp_path)["stored"] == 4

    def test_progress_over_chunks(self, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = prepare(spec, tmp_path / "whole", tmp_path)
        calls: list[tuple[int, int]] = []
        # import_module: transmooth.data.prepare, as an attribute, is the function
        monkeypatch.setattr(import_module("transmooth.data.prepare"), "CHUNK", 3)
        chunked = prepare(spec, tmp_path / "out", tmp_path, progress=lambda done, total: calls.append((done, total)))
        assert [done for done, _ in calls] == [3, 6, 9, 12, 15, 16, 19, 20, 23, 26]
        assert {total for _, total in calls} == {26}
        assert chunked == whole
        assert CHUNK > 26


class TestPin:
    def test_match(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "one", tmp_path)
        prepare(spec, tmp_path / "two", tmp_path, pin=pin_of(tmp_path / "one"))
        assert pin_of(tmp_path / "two") == pin_of(tmp_path / "one")

    def test_mismatch(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "one", tmp_path)
        with pytest.raises(ValueError, match=r"(?s)pillow \d.*remove `sha256`.*params/datasets.yaml") as caught:
            prepare(spec, tmp_path / "two", tmp_path, pin="0" * 64)
        assert "0" * 64 in str(caught.value)
        assert pin_of(tmp_path / "one") in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "raw"]


class TestAtomic:
    @pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
    def test_stopped_in_the_middle(self, spec: dict[str, Any], tmp_path: Path, stop: type[BaseException]) -> None:
        def progress(done: int, total: int) -> None:
            raise stop

        with pytest.raises(stop):
            prepare(spec, tmp_path / "out", tmp_path, progress=progress)
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_a_bad_picture(self, spec: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "raw/test/b/2.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"cannot read the image .*raw/test/b/2.png"):
            prepare(spec, tmp_path / "out", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]

    def test_nothing_has_the_final_name_before_the_end(self, spec: dict[str, Any], tmp_path: Path) -> None:
        out, seen = tmp_path / "out", []
        prepare(spec, out, tmp_path, progress=lambda done, total: seen.append(out.exists()))
        assert seen
        assert not any(seen)

    def test_a_failed_rerun_keeps_the_old_set(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "out", tmp_path)
        before = pin_of(tmp_path / "out")
        with pytest.raises(ValueError, match="the pin is"):
            prepare({**spec, "seed": 1}, tmp_path / "out", tmp_path, pin="0" * 64)
        assert pin_of(tmp_path / "out") == before
        verify(tmp_path / "out")

    def test_a_rerun_replaces(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "out", tmp_path)
        manifest = prepare({**spec, "validation": 0}, tmp_path / "out", tmp_path)
        assert verify(tmp_path / "out") == manifest
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]

    def test_an_empty_folder_is_filled_and_a_strange_one_kept(self, spec: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        prepare(spec, tmp_path / "out", tmp_path)
        verify(tmp_path / "out")
        (tmp_path / "out" / "manifest.json").unlink()  # as Snakemake does before it prepares anew
        prepare(spec, tmp_path / "out", tmp_path)
        verify(tmp_path / "out")
        with pytest.raises(FileExistsError, match="raw is not a prepared set"):
            prepare(spec, tmp_path / "raw", tmp_path)


class TestVerify:
    def test_changed_pixels(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "out", tmp_path)
        array = np.load(tmp_path / "out/test.npy", mmap_mode="r+")
        array[0, 0, 0, 0] ^= 1
        array.flush()
        with pytest.raises(ValueError, match=r"test.npy is damaged: .* Remove the folder"):
            verify(tmp_path / "out")

    def test_missing_file(self, spec: dict[str, Any], tmp_path: Path) -> None:
        prepare(spec, tmp_path / "out", tmp_path)
        (tmp_path / "out/train.labels.npy").unlink()
        with pytest.raises(FileNotFoundError, match=r"train.labels.npy"):
            verify(tmp_path / "out")

    def test_edited_manifest(self, spec: dict[str, Any], tmp_path: Path) -> None:
        manifest = prepare(spec, tmp_path / "out", tmp_path)
        (tmp_path / "out/manifest.json").write_text(json.dumps({**manifest, "classes": ["b", "a"]}))
        with pytest.raises(ValueError, match=r"manifest.json was edited"):
            verify(tmp_path / "out")
