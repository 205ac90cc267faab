"""A folder is listed by its cards; what is wrong is said in its line."""

import json
from pathlib import Path

import pytest

from tests.helpers.calls import call, fault
from transmooth import files
from transmooth.checkpoint.card import write_card
from transmooth.checkpoint.inventory import checkpoints


def made(folder: Path, **changes: object) -> str:
    """Write a checkpoint whose weights nobody loads, and return the hash of these."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 200_000)
    sha256 = files.sha256(folder / "model.safetensors")
    card = {"classes": ["a", "b"], "size": 32, "network": {"name": "resnet18"}, "weights_sha256": sha256}
    write_card(folder, card | {"test": {"correct": 3, "images": 4}} | changes)
    return sha256


def test_every_checkpoint_is_listed_by_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(
        Path("models/unet"),
        network={"name": "unet2d"},
        spec={"sigmas": [1.0], "objective": "denoise"},
        test={"images": 4},
    )
    denoiser = {"text": "../unet", "sha256": "ab"}
    sha256 = made(Path("models/b"), spec={"sigmas": [0.0, 0.25, 0.5]}, denoiser=denoiser)
    made(Path("models/c/d"), spec={"sigmas": [0.0]}, test=None, denoiser={"text": "package:function", "sha256": "ab"})
    made(Path("models/.snakemake/e"))
    first, second, third = checkpoints(Path("models"))
    assert (first.path, first.network, first.sha256, first.fault) == ("models/b", "resnet18", sha256, "")
    assert (first.what, first.sigmas) == ("2 classes at 32 px, 75.0 % of 4 test images right", (0.25, 0.5))
    assert (first.denoiser, first.megabytes) == ("models/unet", 0.2)
    assert (second.path, second.what, second.sigmas) == ("models/c/d", "2 classes at 32 px", ())
    assert second.denoiser == "package:function"
    assert (third.path, third.what, third.sigmas) == ("models/unet", "a denoiser at 32 px", (1.0,))
    shown = call("models").stdout
    assert (
        "models/b\n    resnet18, 2 classes at 32 px, 75.0 % of 4 test images right, learned at sigma 0.25, 0.5, "
        in shown
    )
    assert "behind models/unet; 0.2 MB\n" in shown
    assert [each["path"] for each in json.loads(call("models", "models", "--json").stdout)] == [
        "models/b",
        "models/c/d",
        "models/unet",
    ]


def test_a_checkpoint_that_is_damaged_says_so_and_ends_with_1(tmp_path: Path) -> None:
    made(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"y" * 200_000)
    made(tmp_path / "b", network=None)
    made(tmp_path / "c", test={"correct": 1, "images": 0})
    made(tmp_path / "d")
    (tmp_path / "d" / "model.json").write_text("{}")
    faults = [each.fault for each in checkpoints(tmp_path)]
    assert "damaged: the weights are not those that the card names" in faults[0]
    assert all("holds values that no training writes" in each for each in faults[1:3])
    assert "damaged: it is not what its checksum says" in faults[3]
    assert "damaged" in call("models", tmp_path, status=1).stdout
    assert "no checkpoint below it" in fault("models", tmp_path / "none")
