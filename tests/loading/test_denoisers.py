"""Classifiers behind a denoiser, by the command line: which denoiser a checkpoint needs, and where it is found."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.calls import call, fault
from tests.helpers.checkpoints import CARD
from tests.helpers.denoisers import write
from tests.helpers.fake_hub import FakeHub
from tests.helpers.specs import train_spec
from transmooth import files
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError, read_card
from transmooth.loading.denoisers import load_denoiser
from transmooth.loading.models import load_model
from transmooth.models.build import Network
from transmooth.models.denoiser import Denoised, of_config
from transmooth.records import table as records
from transmooth.training.loop import train

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Three channels in and out, 3 x 3, with a bias.
PARAMETERS = 3 * 3 * 3 * 3 + 3
MODULE = """
import torch

def smooth():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 3, 3, padding=1)
"""


@pytest.fixture(scope="module")
def finetuned(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a denoiser, ddpm/, and model/, which was trained behind it for sigma 0.5."""
    folder = tmp_path_factory.mktemp("behind")
    write(folder / "ddpm")
    spec = train_spec(epochs=1, warmup_epochs=0, sigmas=[0.5])
    train(spec, digits, folder / "model", denoiser=str(folder / "ddpm"))
    return folder


@pytest.fixture
def copied(finetuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finetuned, tmp_path / "copied"))


def certify(model: Any, digits: Path, out: Path, *more: Any) -> list[Any]:
    sigma = [] if "--sigma" in more else ["--sigma", 0.5]
    settings = [*sigma, "--n0", 10, "--n", 100, "--alpha", 0.01, "--images", 2, "--batch", 50, "--out", out]
    return ["certify", model, digits, *settings, *more]


def rows(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "seconds"} for each in records.read(out).to_pylist()]


def hashes(out: Path) -> set[str]:
    return {each["model"] for each in rows(out)}


def test_a_denoiser_before_anyones_classifier_is_part_of_what_is_certified(
    digits: Path, network: Network, tmp_path: Path
) -> None:
    weights.save(tmp_path / "model", network, CARD)
    write(tmp_path / "ddpm")
    write(tmp_path / "other", seed=1)
    found = []
    for name in (None, "ddpm", "other"):
        out = tmp_path / f"{name}.parquet"
        call(*certify(tmp_path / "model", digits, out, *(["--denoiser", tmp_path / name] if name else [])))
        found.append(hashes(out))
        assert len(rows(out)) == 2
    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == 3
    assert found[0] == {read_card(tmp_path / "model")["weights_sha256"]}
    message = fault(*certify(tmp_path / "model", digits, tmp_path / "None.parquet", "--denoiser", tmp_path / "ddpm"))
    assert "is of another job (model.sha256: " in message
    large = certify(tmp_path / "model", digits, tmp_path / "x.parquet", "--denoiser", tmp_path / "ddpm", "--sigma", 90)
    note, told = call(*large, status=1).stderr.splitlines()
    assert note.startswith("note: ")
    assert "sigma 90 is beyond the denoiser's schedule" in told
    message = fault(*certify(tmp_path / "model", digits, tmp_path / "x.parquet", "--denoiser", tmp_path / "gone"))
    assert (
        f"no denoiser '{tmp_path / 'gone'}': a denoiser is a checkpoint folder of one, a folder of diffusers" in message
    )


def test_what_is_certified_is_the_classifier_of_denoised_images(network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path / "model", network, CARD)
    write(tmp_path / "ddpm")
    loaded, cleaner = load_model(str(tmp_path / "model"), str(tmp_path / "ddpm")), load_denoiser(str(tmp_path / "ddpm"))
    assert isinstance(loaded.module, Denoised)
    noisy = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network(cleaner.module.at(0.5)(noisy))
        assert torch.equal(loaded.module.at(0.5)(noisy), expected)
        assert not torch.allclose(expected, network(noisy), atol=1e-3)
        assert torch.equal(loaded.module(noisy), network(noisy))


def test_a_checkpoint_knows_its_denoiser(copied: Path, digits: Path, tmp_path: Path) -> None:
    card = read_card(copied / "model")
    cleaner = load_denoiser(str(copied / "ddpm"))
    weights_of = sum(each.numel() for each in cleaner.module.parameters())
    assert card["denoiser"] == {"text": "../ddpm", "sha256": cleaner.sha256, "parameters": weights_of}
    call(*certify(copied / "model", digits, tmp_path / "alone.parquet"))
    expected = rows(tmp_path / "alone.parquet")
    assert hashes(tmp_path / "alone.parquet") != {card["weights_sha256"]}
    # Wherever both are, and from wherever.
    moved = copied.rename(tmp_path / "moved")
    call(*certify(moved / "model", digits, tmp_path / "moved.parquet"))
    (moved / "ddpm").rename(tmp_path / "elsewhere")
    call(*certify(moved / "model", digits, tmp_path / "named.parquet", "--denoiser", tmp_path / "elsewhere"))
    assert rows(tmp_path / "moved.parquet") == rows(tmp_path / "named.parquet") == expected


def test_a_checkpoint_is_not_certified_at_a_sigma_that_it_was_not_finetuned_for(copied: Path, digits: Path) -> None:
    message = fault(*certify(copied / "model", digits, copied / "x.parquet", "--sigma", 0.25))
    assert message == (f"transmooth: {copied / 'model'}: was finetuned behind a denoiser for sigma 0.5, not 0.25\n")
    assert not (copied / "x.parquet").exists()


def test_0_epochs_put_a_network_behind_a_denoiser_for_any_sigma(
    copied: Path, network: Network, digits: Path, tmp_path: Path
) -> None:
    weights.save(tmp_path / "clean", network, read_card(copied / "model") | {"spec": {}})
    spec = train_spec(network=None, epochs=0, warmup_epochs=0, sigmas=[0.5])
    train(spec, digits, tmp_path / "model", tmp_path / "clean", denoiser=str(copied / "ddpm"))
    call(*certify(tmp_path / "model", digits, tmp_path / "x.parquet", "--sigma", 0.25))


def test_a_checkpoint_without_its_denoiser_is_refused(copied: Path, digits: Path) -> None:
    theirs = read_card(copied / "model")["denoiser"]["sha256"]
    shutil.rmtree(copied / "ddpm")
    message = fault(*certify(copied / "model", digits, copied / "x.parquet"))
    assert f"was trained behind a denoiser, ../ddpm (SHA-256 {theirs}), and that cannot be loaded: " in message
    assert message.endswith("; --denoiser says where it is\n")
    write(copied / "ddpm", seed=1)
    other = load_denoiser(str(copied / "ddpm")).sha256
    expected = f"was trained behind a denoiser with SHA-256 {theirs}, {copied / 'ddpm'} has {other}"
    for more in ([], ["--denoiser", copied / "ddpm"]):
        assert expected in fault(*certify(copied / "model", digits, copied / "x.parquet", *more))
    (copied / "ddpm" / WEIGHTS).unlink()
    (copied / "ddpm" / "diffusion_pytorch_model.bin").touch()
    message = fault(*certify(copied / "model", digits, copied / "x.parquet"))
    assert "diffusion_pytorch_model.bin is a pickle, which is not read; --denoiser says where it is" in message


def test_a_denoiser_of_a_hub_stays_the_same_commit(
    finetuned: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHub(tmp_path / "home", monkeypatch)
    upload: dict[str, Any] = {"repo_id": "google/tiny", "commit_message": "x", "delete_patterns": []}
    commit = fake.upload_folder(folder_path=finetuned / "ddpm", **upload).oid
    name = f"diffusers:google/tiny@{commit}"
    spec = train_spec(epochs=1, warmup_epochs=0, sigmas=[0.5])
    train(spec, digits, tmp_path / "model", denoiser="diffusers:google/tiny")
    assert read_card(tmp_path / "model")["denoiser"]["text"] == name
    write(tmp_path / "other", seed=1)
    fake.upload_folder(folder_path=tmp_path / "other", **upload)
    call(*certify(tmp_path / "model", digits, tmp_path / "x.parquet"))
    shutil.rmtree(fake.cache)
    message = fault(*certify(tmp_path / "model", digits, tmp_path / "y.parquet"))
    assert f"was trained behind a denoiser, {name} (SHA-256 " in message
    assert "the hub cannot be reached" in message
    call(*certify(tmp_path / "model", digits, tmp_path / "y.parquet", "--denoiser", finetuned / "ddpm"))
    assert rows(tmp_path / "x.parquet") == rows(tmp_path / "y.parquet")


def test_anyones_model_behind_one_of_a_hub_is_described_with_the_commit(
    finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHub(tmp_path / "home", monkeypatch)
    commit = fake.upload_folder(
        repo_id="google/tiny", folder_path=finetuned / "ddpm", commit_message="x", delete_patterns=[]
    ).oid
    monkeypatch.chdir(tmp_path)
    Path("classifiers.py").write_text("import torch\ndef flat():\n    return torch.nn.Flatten()\n")
    loaded = load_model("classifiers:flat", "diffusers:google/tiny")
    assert loaded.description == f"classifiers:flat behind diffusers:google/tiny@{commit}"
    assert loaded.sha256 not in (load_model("classifiers:flat").sha256, load_denoiser("diffusers:google/tiny").sha256)


def test_a_card_cannot_have_a_function_called(
    network: Network, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import pathlib, torch\ndef clean():\n    pathlib.Path('ran').touch()\n    return torch.nn.Identity()\n"
    Path("runs.py").write_text(code)
    sha256 = load_denoiser("runs:clean").sha256
    Path("ran").unlink()
    weights.save(tmp_path / "model", network, CARD | {"denoiser": {"text": "runs:clean", "sha256": sha256}})
    message = fault(*certify("model", digits, tmp_path / "x.parquet"))
    assert message == "transmooth: model: was trained behind runs:clean, which is code; --denoiser runs:clean runs it\n"
    assert not Path("ran").exists()
    call(*certify("model", digits, tmp_path / "x.parquet", "--denoiser", "runs:clean"))
    assert Path("ran").exists()


def test_a_denoiser_is_a_checkpoint_or_a_function_too(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    unet = write(tmp_path / "ddpm")
    made = of_config({k: v for k, v in unet.config.items() if not k.startswith("_")}, {})
    made.unet.load_state_dict(unet.state_dict())
    assert made.spec is not None
    weights.save(tmp_path / "trained", made, CARD | {"network": made.spec.dump()})
    noisy = torch.rand(2, 3, 8, 8)
    found = [load_denoiser(text) for text in ("ddpm", str(tmp_path / "ddpm"), "~/ddpm", "trained", "~/trained")]
    with torch.inference_mode():
        for each in found:
            assert torch.equal(each.module.at(0.5)(noisy), made.eval().at(0.5)(noisy))
    assert all(Path(each.text).exists() for each in found)  # so that a card can say where it is
    assert found[0].named(tmp_path / "a" / "b")["text"] == os.path.join("..", "..", "ddpm")
    weights.save(tmp_path / "classifier", network, CARD)
    with pytest.raises(CheckpointError, match="classifier: should be a denoiser, is a classifier of 10 classes"):
        load_denoiser("classifier")
    with pytest.raises(CheckpointError, match="trained: is a denoiser; a classifier takes it by --denoiser"):
        load_model("trained")
    Path("cleaners.py").write_text("import torch\ndef halve():\n    return torch.nn.Threshold(0.5, 0.0)\n")
    fixed = load_denoiser("cleaners:halve")
    fixed.check([0.1, 100], 7)
    sigma = torch.tensor([0.0, 0.5])
    expected = torch.stack([noisy[0], noisy[1] * (noisy[1] > 0.5)])
    assert torch.equal(fixed.module.denoise(noisy, sigma), expected)


def test_the_card_counts_the_weights_of_the_denoiser_apart(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs_smooth.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    train(train_spec(epochs=0, warmup_epochs=0, sigmas=[0.25]), digits, tmp_path / "alone")
    train(
        train_spec(epochs=0, warmup_epochs=0, sigmas=[0.25]),
        digits,
        tmp_path / "behind",
        denoiser="theirs_smooth:smooth",
    )
    alone, behind = (read_card(tmp_path / name) for name in ("alone", "behind"))
    assert "denoiser" not in alone
    assert behind["denoiser"] == {
        "text": "theirs_smooth:smooth",
        "sha256": behind["denoiser"]["sha256"],
        "parameters": PARAMETERS,
    }
    assert behind["parameters"] == alone["parameters"]
    load_model(str(tmp_path / "behind"), "theirs_smooth:smooth")  # what it says more is no other denoiser


def test_another_schedule_of_the_same_weights_is_another_denoiser(tmp_path: Path) -> None:
    write(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    path = tmp_path / "other" / "scheduler_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"beta_schedule": "squaredcos_cap_v2"}))
    one, other = (load_denoiser(str(tmp_path / name)) for name in ("one", "other"))
    assert files.sha256(tmp_path / "one" / WEIGHTS) == files.sha256(tmp_path / "other" / WEIGHTS)
    assert one.sha256 != other.sha256
