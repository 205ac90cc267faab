"""A training on one's own pictures is a job of a study, on a set that was prepared like a study's."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from tests.conftest import NETWORK
from tests.helpers.checkpoints import changed, same
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card, write_card
from transmooth.data.loader import open_split
from transmooth.data.manifest import read_manifest
from transmooth.loading.models import load_model
from transmooth.params.values import Augmentation, Trainable
from transmooth.runtime import shutdown
from transmooth.specs import NetworkSpec, TrainSpec
from transmooth.training import own_pictures
from transmooth.training.loop import train

SCHEDULE: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "batch": 8, "lr": [0.01]}


def asked(
    network: NetworkSpec | None = NETWORK,
    *,
    trainable: Trainable = "all",
    augment: Sequence[Augmentation] = (),
    seed: int = 0,
) -> TrainSpec:
    """A clean training of one epoch."""
    return own_pictures.train_spec(network, SCHEDULE, sigmas=[0.0], trainable=trainable, augment=augment, seed=seed)


def picture(folder: Path, number: int, mode: str = "L") -> None:
    """Noise of its own size and mode, so that every picture is another."""
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (9 + number % 5, 11, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 10 and 20 pictures of several sizes and modes, not split."""
    folder = tmp_path_factory.mktemp("fit") / "pictures"
    for number in range(30):
        picture(folder / ("few" if number < 10 else "many"), number, ("L", "RGB", "P", "RGBA")[number % 4])
    return folder


@pytest.fixture(scope="module")
def data(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_pictures.prepared(str(pictures), tmp_path_factory.mktemp("fit") / "data", 8, [], 0.2, 0)


def test_one_folder_is_split_once_and_for_all(pictures: Path, data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data)
    assert manifest["counts"] == {"train": 22, "validation": 2, "test": 6}
    assert manifest["classes"] == ["few", "many"]
    assert np.bincount(open_split(data, "test").labels).tolist() == [2, 4]
    assert manifest["duplicates_across_splits"] == 0
    again = own_pictures.prepared(str(pictures), tmp_path / "again", 8, [], 0.2, 0)
    assert read_manifest(again)["checksum"] == manifest["checksum"]
    other = own_pictures.prepared(str(pictures), tmp_path / "other", 8, [], 0.2, 1)
    assert read_manifest(other)["checksum"] != manifest["checksum"]


def test_a_table_of_labels_is_prepared_as_folders_are(pictures: Path, data: Path, tmp_path: Path) -> None:
    lines = [f"{path.relative_to(pictures)},{path.parent.name}" for path in sorted(pictures.rglob("*.png"))]
    table = pictures / "labels.csv"
    table.write_text("\n".join(["file,label", *lines, ""]))
    made = own_pictures.prepared(str(table), tmp_path / "data", 8, [], 0.2, 0)
    assert (made / "train.npy").read_bytes() == (data / "train.npy").read_bytes()
    assert read_manifest(made)["checksum"] == read_manifest(data)["checksum"]
    assert own_pictures.account(str(table), made, asked())[0] == own_pictures.account(str(table), data, asked())[0]
    table.unlink()


def test_folders_called_otherwise_are_splits(tmp_path: Path) -> None:
    for name in ("Train", "Test"):
        picture(tmp_path / name / "a", 0)
    assert own_pictures.source_of(str(tmp_path), 0.2, 0)["splits"] == {"train": ["Train"], "test": ["Test"]}
    (tmp_path / "other").mkdir()
    assert own_pictures.source_of(str(tmp_path), 0.2, 0)["kind"] == "onefolder"


def test_splits_that_are_there_are_kept(tmp_path: Path) -> None:
    for number in range(20):
        picture(tmp_path / "train" / "ab"[number % 2], number)
    for number in range(20, 24):
        picture(tmp_path / "val" / "ab"[number % 2], number)
    counts = read_manifest(own_pictures.prepared(str(tmp_path), tmp_path / "one", 8, [], 0.2, 0))["counts"]
    assert counts == {"train": 18, "validation": 2, "test": 4}
    for number in range(24, 30):
        picture(tmp_path / "test" / "ab"[number % 2], number)
    counts = read_manifest(own_pictures.prepared(str(tmp_path), tmp_path / "two", 8, [], 0.2, 0))["counts"]
    assert counts == {"train": 22, "validation": 2, "test": 6}
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(ValueError, match=r"should have train/ and test/ .*has \['val', 'test'\]"):
        own_pictures.source_of(str(tmp_path), 0.2, 0)


def test_a_random_crop_has_room(pictures: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own_pictures.prepared(str(pictures), tmp_path / "data", 14, ["resized_crop"], 0.2, 0))
    assert (manifest["size"], manifest["stored"]) == (14, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"augment": ["turn"]}, r"augment\[0\]: should be 'flip', .* or 'grey', found 'turn'"),
        ({"test": 0.01}, "a share of 0.01 of its 30 images is 0"),
        ({"pictures": "no/such"}, "no/such: no such folder, and no name of a torchvision dataset"),
    ],
)
def test_faults_of_pictures(pictures: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {
        "pictures": str(pictures),
        "out": tmp_path / "d",
        "size": 8,
        "augment": [],
        "test": 0.2,
        "seed": 0,
    }
    with pytest.raises((ValueError, OSError), match=message):
        own_pictures.prepared(**(settings | arguments))


def test_a_prepared_set_is_taken_as_it_is(data: Path, tmp_path: Path) -> None:
    assert own_pictures.prepared(str(data), tmp_path / "out", 8, [], 0.2, 0) == data
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="was prepared at size 8, not 16"):
        own_pictures.prepared(str(data), tmp_path / "out", 16, [], 0.2, 0)
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    (damaged / "test.npy").write_bytes((data / "test.npy").read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match=r"test\.npy is damaged"):
        own_pictures.prepared(str(damaged), tmp_path / "out", 8, [], 0.2, 0)


def test_too_few_pictures_are_told(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "few" / "ab"[number % 2], number)
    with pytest.raises(ValueError, match="2 training images are too few"):
        own_pictures.prepared(str(tmp_path / "few"), tmp_path / "data", 8, [], 0.5, 0)
    for number in range(10):
        picture(tmp_path / "one of each" / f"class {number}", number)
    with pytest.raises(ValueError, match=r"class 'class \d' has no image to train on beside those that are set aside"):
        own_pictures.prepared(str(tmp_path / "one of each"), tmp_path / "data", 8, [], 0.2, 0)


def test_pictures_do_not_take_in_what_is_made_of_them(pictures: Path) -> None:
    with pytest.raises(ValueError, match=r"model: is inside the pictures, .*pictures; choose another --out"):
        own_pictures.prepared(str(pictures), pictures / "model" / "data", 8, [], 0.2, 0)
    assert not (pictures / "model").exists()


@pytest.mark.parametrize("held", ["model.json", "resume.pt"])
def test_the_set_of_a_training_stays_when_another_is_asked_for(pictures: Path, tmp_path: Path, held: str) -> None:
    out = own_pictures.prepared(str(pictures), tmp_path / "own" / "data", 8, [], 0.2, 0)
    (tmp_path / "own" / held).touch()
    before = read_manifest(out)
    with pytest.raises(ValueError, match=r"own: holds another training \(its data\); choose another --out"):
        own_pictures.prepared(str(pictures), out, 8, [], 0.2, 1)
    assert read_manifest(out) == before
    assert own_pictures.prepared(str(pictures), out, 8, [], 0.2, 0) == out


def test_it_is_the_training_of_a_study(data: Path, tmp_path: Path) -> None:
    card = own_pictures.fit(tmp_path / "own", data, asked(augment=["flip"]), None)
    train(TrainSpec.of(card["spec"]), data, tmp_path / "job")
    assert same(tmp_path / "own", tmp_path / "job")
    assert card["spec"]["schedule"]["optimizer"] == "adamw"
    assert card["spec"]["augment"] == ["flip"]
    assert card == read_card(tmp_path / "own")


def test_a_finished_training_is_not_done_again_and_another_is_not_replaced(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    card = own_pictures.fit(out, data, asked(), None)
    written = (out / "model.json").stat().st_mtime_ns
    assert own_pictures.fit(out, data, asked(), None) == card
    assert (out / "model.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"holds another training \(its spec\); choose another --out"):
        own_pictures.fit(out, data, asked(seed=1), None)
    with pytest.raises(ValueError, match=r"holds another training \(its start\)"):
        own_pictures.fit(out, data, asked(), out)
    (out / "model.safetensors").unlink()  # as a message says, where they are damaged
    assert own_pictures.fit(out, data, asked(), None)["weights_sha256"] == card["weights_sha256"]
    assert (out / "model.safetensors").is_file()


def test_an_interrupted_training_is_not_replaced_by_another(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "own"
    with monkeypatch.context() as patched:
        patched.setattr(shutdown, "stop_requested", lambda: True)
        with pytest.raises(KeyboardInterrupt):
            own_pictures.fit(out, data, asked(), None)
    state = (out / "resume.pt").read_bytes()
    with pytest.raises(ValueError, match=r"holds another training, interrupted \(its spec\); choose another --out"):
        own_pictures.fit(out, data, asked(seed=1), None)
    assert (out / "resume.pt").read_bytes() == state
    assert own_pictures.fit(out, data, asked(), None) == read_card(out)


def test_a_training_behind_another_denoiser_is_another(data: Path, tmp_path: Path) -> None:
    out, spec = tmp_path / "own", asked()
    card = own_pictures.fit(out, data, spec, None)
    write_card(out, card | {"denoiser": {"text": "x", "sha256": "0" * 64, "parameters": 1}})
    with pytest.raises(ValueError, match=r"holds another training \(its denoiser\)"):
        own_pictures.fit(out, data, spec, None)


def test_a_checkpoint_starts_a_finetuning(data: Path, tmp_path: Path) -> None:
    own_pictures.fit(tmp_path / "base", data, asked(), None)
    with own_pictures.start_from(str(tmp_path / "base")) as (network, start, side):
        assert (network, start, side) == (None, tmp_path / "base", 8)
        card = own_pictures.fit(tmp_path / "own", data, asked(None, trainable="head"), start)
    assert card["start"] == read_card(tmp_path / "base")["weights_sha256"]
    assert changed(tmp_path / "base", tmp_path / "own") == {"backbone.fc.weight", "backbone.fc.bias"}


def test_a_network_of_timm_starts_with_its_weights_and_normalisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t").eval()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    text = f"timm:resnet10t@{path}"
    images = torch.rand(2, 3, 32, 32)
    with own_pictures.start_from(text) as (network, start, side):
        assert (network, side) == (None, 176)
        assert start is not None
        loaded, _ = weights.load(start)
        torch.testing.assert_close(loaded(images), load_model(text).module(images))
    assert not start.exists()
    with own_pictures.start_from("timm:resnet10t") as (network, start, side):
        assert network is not None
        assert (network.name, network.weights, start, side) == ("resnet10t", "published", None, 176)


def test_a_start_is_normalised_as_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(timm.create_model("test_vit", img_size=32).state_dict(), tmp_path / "w.pth")
    text = f"timm:test_vit@{tmp_path / 'w.pth'}"
    with own_pictures.start_from(text) as (_, start, side):
        assert start is not None
        assert side == 32  # of its weights
        assert read_card(start)["mean"] == [0.5] * 3
    assert "note: " in (said := capsys.readouterr().err)
    assert "w.pth: mean 0.5,0.5,0.5 and std 0.5,0.5,0.5 are assumed" in said
    with own_pictures.start_from(text, None, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)) as (_, start, _):
        assert start is not None
        card = read_card(start)
        assert (card["mean"], card["std"]) == (pytest.approx([0.4, 0.5, 0.6]), pytest.approx([0.2, 0.3, 0.1]))
    assert capsys.readouterr().err == ""
    for other in ("timm:test_vit", str(tmp_path)):
        with (
            pytest.raises(ValueError, match=r"--mean and --std are for timm:NAME@WEIGHTS"),
            own_pictures.start_from(other, None, (0.5, 0.5, 0.5)),
        ):
            pass
    torch.save(timm.create_model("test_vit", in_chans=1).state_dict(), tmp_path / "w.pth")
    with (
        pytest.raises(ValueError, match="takes 1 channels; images are prepared in three"),
        own_pictures.start_from(text),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:resnet99", "timm serves no weights for 'resnet99'"),
        ("timm:resnet10t@{folder}/vit.safetensors", "does not fit timm's resnet10t"),
        ("timm:resnet10t@{folder}/no.safetensors", r"no\.safetensors: no such file"),
        ("{folder}", r"model\.json: no such card"),
    ],
)
def test_starts_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    if "vit" in text:
        state = timm.create_model("vit_tiny_patch16_224").state_dict()
        safetensors.torch.save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises((ValueError, OSError), match=message), own_pictures.start_from(text.format(folder=tmp_path)):
        pass


def test_a_vision_transformer_of_timm_learns_by_low_rank_corrections(digits: Path, tmp_path: Path) -> None:
    """Its own norms stay, images are enlarged inside it, and what is written is a plain network."""
    model = timm.create_model("test_vit", num_classes=10)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    schedule = {"epochs": 1, "warmup_epochs": 0, "batch": 64, "lr": (0.003,)}
    with own_pictures.start_from(f"timm:test_vit@{tmp_path / 'vit.safetensors'}", 160) as (network, start, _):
        assert network is None
        spec = own_pictures.train_spec(None, schedule, sigmas=[0.0], trainable="lora", augment=[], seed=0)
        card = own_pictures.fit(tmp_path / "out", digits, spec, start)
    assert card["network"]["size"] == 160
    loaded, _ = weights.load(tmp_path / "out")
    learned = {
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, loaded.backbone.get_parameter(name))
    }
    assert learned == {"head.weight", "head.bias", *(f"blocks.{at}.attn.qkv.weight" for at in range(len(model.blocks)))}


def test_a_start_without_classes_is_finetuned_as_any_other(data: Path, tmp_path: Path) -> None:
    spec = own_pictures.train_spec(
        NETWORK, SCHEDULE, sigmas=[0.0], trainable="all", augment=["colour"], seed=0, objective="simclr"
    )
    assert (spec.views, spec.head) == (2, "projection")
    assert own_pictures.fit(tmp_path / "start", data, spec, None)["test"].keys() == {"images", "score"}
    with own_pictures.start_from(str(tmp_path / "start")) as (network, start, side):
        assert (network, start, side) == (None, tmp_path / "start", 8)
        card = own_pictures.fit(tmp_path / "model", data, asked(None), start)
    assert card["test"].keys() == {"images", "correct"}
