"""Denoisers that others trained: folders of diffusers, OpenAI's files, and specs that name one."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.helpers.denoisers import TINY, edit, scheduler, write
from tests.helpers.fake_hub import FakeHub
from tests.helpers.specs import train_spec
from tests.models.test_openai_unet import CIFAR10, reference
from transmooth import files
from transmooth.checkpoint import weights
from transmooth.hub import API, HubError
from transmooth.models.build import create
from transmooth.models.check import check
from transmooth.models.denoiser import Denoiser
from transmooth.models.published import load
from transmooth.specs import NetworkSpec
from transmooth.training.loop import train

WEIGHTS = "diffusion_pytorch_model.safetensors"
NOISY = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def denoised(unet: Any, schedule: Any, sigma: float) -> torch.Tensor:
    """One step by the formula, from diffusers' own tables, for a U-Net that predicts the noise."""
    alphas = schedule.alphas_cumprod.double()
    time = next(t for t in range(1, len(alphas)) if ((1 - alphas[t]) / alphas[t]).sqrt() >= 2 * sigma)
    a, b = (float(each.sqrt()) for each in (alphas[time], 1 - alphas[time]))
    scaled = a * (2 * NOISY - 1)
    with torch.inference_mode():
        clean: torch.Tensor = (scaled - b * unet(scaled, time).sample) / a
    return (clean.clamp(-1, 1) + 1) / 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "ddpm")
    return tmp_path / "ddpm"


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize(
    "schedule",
    [
        {"num_train_timesteps": 1000},
        {"num_train_timesteps": 200, "beta_schedule": "squaredcos_cap_v2", "clip_sample": False},
        {"beta_start": 0.001, "beta_end": 0.01, "beta_schedule": "scaled_linear"},
        {"trained_betas": [0.01] * 500},
    ],
)
def test_a_folder_of_diffusers_denoises_as_diffusers_does(
    tmp_path: Path, schedule: dict[str, Any], pipeline: bool
) -> None:
    there = tmp_path / "ddpm"
    unet = write(there, schedule=schedule)
    if pipeline:
        for part, names in (("unet", ("config.json", WEIGHTS)), ("scheduler", ("scheduler_config.json",))):
            (there / part).mkdir()
            for name in names:
                (there / name).rename(there / part / name)
        (there / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    found = load(str(there))
    for sigma in (0.25, 0.5):
        with torch.inference_mode():
            ours = found.module.at(sigma)(NOISY)
        torch.testing.assert_close(ours, denoised(unet, scheduler(**schedule), sigma), atol=1e-5, rtol=0)
    assert not any(module.training for module in found.module.modules())
    assert found.name == str(there)
    assert found.sha256 == files.sha256(next(there.rglob(WEIGHTS)))


def test_the_first_versions_of_diffusers_are_read(tmp_path: Path) -> None:
    attention: dict[str, Any] = {
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    }
    old: dict[str, Any] = {
        "add_attention": True,
        "downsample_padding": 0,
        "attention_head_dim": None,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
    }
    unet = write(tmp_path, attention | old)
    state = safetensors.torch.load_file(tmp_path / WEIGHTS)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {re.sub("to_(q|k|v|out.0)", lambda found: names[found[0]], name): state[name] for name in state}
    assert renamed.keys() != state.keys()
    safetensors.torch.save_file(renamed, tmp_path / WEIGHTS)
    (tmp_path / "scheduler_config.json").write_text(
        json.dumps(
            {
                "_class_name": "GaussianDDPMScheduler",
                "_diffusers_version": "0.0.4",
                "beta_end": 0.03,
                "beta_schedule": "linear",
                "beta_start": 0.0001,
                "clip_predicted_image": True,
                "timesteps": 500,
                "trained_betas": None,
                "variance_type": "fixed_large",
            }
        )
    )
    with torch.inference_mode():
        ours = load(str(tmp_path)).module.at(0.5)(NOISY)
    expected = denoised(unet, scheduler(num_train_timesteps=500, beta_end=0.03), 0.5)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_what_a_network_predicts_is_read_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path, schedule={"prediction_type": "v_prediction"})
    assert load(str(tmp_path)).module.prediction == "v_prediction"
    edit(tmp_path / "scheduler_config.json", prediction_type="flow")
    with pytest.raises(ValueError, match=r"schedule\.prediction_type: should be one of epsilon, .*, found 'flow'"):
        load(str(tmp_path))


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "diffusion_pytorch_model.bin")


def broken(folder: Path, name: str = "conv_in.bias", value: torch.Tensor | None = None) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    if value is None:
        del state[name]
    else:
        state[name] = value
    safetensors.torch.save_file(state, folder / WEIGHTS)


FOLDERS: dict[str, tuple[Any, str]] = {
    "no configuration": (
        lambda folder: (folder / "config.json").unlink(),
        f"config.json: no such file; a folder of diffusers has config.json, {WEIGHTS} and scheduler_config.json",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json: not a configuration: Expect"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), "should be a JSON object, found list"),
    "another class": (
        lambda folder: edit(folder / "config.json", _class_name="UNet2DConditionModel"),
        "config.json: should be of a UNet2DModel, is of 'UNet2DConditionModel'",
    ),
    "class-conditional": (
        lambda folder: edit(folder / "config.json", num_class_embeds=10),
        "unet.num_class_embeds: a class-conditional model is no denoiser: it would know the class",
    ),
    "an unknown option": (lambda folder: edit(folder / "config.json", twice=1), "unexpected keyword argument 'twice'"),
    "one channel": (lambda folder: edit(folder / "config.json", in_channels=1), "unet.in_channels: should be 3"),
    "a size of no computer": (
        lambda folder: edit(folder / "config.json", block_out_channels=[2**22, 2**22]),
        "does not fit the U-Net of its configuration: ",
    ),
    "no scheduler": (lambda folder: (folder / "scheduler_config.json").unlink(), "scheduler_config.json: no such file"),
    "no betas": (
        lambda folder: edit(folder / "scheduler_config.json", _class_name="ScoreSdeVeScheduler", beta_schedule=...),
        "scheduler_config.json: ScoreSdeVeScheduler has no betas: there is no `beta_schedule`",
    ),
    "no such betas": (lambda folder: edit(folder / "scheduler_config.json", beta_schedule="steep"), "steep"),
    "pickle": (pickled, f"{WEIGHTS}: no such file; diffusion_pytorch_model.bin is a pickle, which is not read"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS}: no such file"),
    "no safetensors": (lambda folder: (folder / WEIGHTS).write_bytes(b"{}"), f"{WEIGHTS}: not weights: "),
    "NaN": (
        lambda folder: broken(folder, value=torch.full((8,), torch.nan)),
        f"{WEIGHTS}: the weights are NaN (conv_in.bias)",
    ),
    "a tensor less": (
        broken,
        f"{WEIGHTS}: does not fit the U-Net of its configuration: conv_in.bias is missing",
    ),
    "a tensor more": (
        lambda folder: broken(folder, "x.bias", torch.zeros(1)),
        "configuration: x.bias is unknown to it",
    ),
    "another shape": (
        lambda folder: broken(folder, value=torch.zeros(7)),
        "configuration: conv_in.bias should be [8], is [7]",
    ),
    "other shapes": (
        lambda folder: edit(folder / "config.json", block_out_channels=[16, 32]),
        "configuration: conv_in.bias should be [16], is [8], and ",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_no_denoiser_is_refused_in_one_line(folder: Path, case: str) -> None:
    change, message = FOLDERS[case]
    load(str(folder))
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as told:
        load(str(folder))
    assert str(told.value).startswith(f"{folder}/")
    assert "\n" not in str(told.value)


# ------------------------------------------------------------------------------------------------------- OpenAI's files
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_openais_files_are_read_in_each_form(form: str, tmp_path: Path) -> None:
    net = reference(32, **CIFAR10)
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pt")  # a name says nothing
    if form == "safetensors":
        safetensors.torch.save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    found = load(str(path))
    times = torch.tensor([1158, 40])
    with torch.inference_mode():
        ours = found.module(NOISY, times)
    torch.testing.assert_close(ours, net(NOISY, times / 4)[:, :3], atol=1e-5, rtol=1e-5)
    assert found.module.at(0.25).time == 1158
    assert found.sha256 == files.sha256(path)


class Code:
    """What a pickle can do."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {Code.witness}",)

    witness = ""


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    Code.witness = str(tmp_path / "ran")
    path = tmp_path / "net.pt"
    torch.save({"time_embed.0.weight": Code()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"net\.pt: holds more than weights, which is not read") as told:
        load(str(path))
    assert "\n" not in str(told.value)
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match=r"net\.pt: (holds more than|not) weights"):
        load(str(path))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Code()))  # it is code indeed
    assert (tmp_path / "ran").exists()


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    state = reference(32, **CIFAR10).state_dict()
    narrow = state | {"out.2.bias": torch.zeros(5)}
    less = {name: value for name, value in state.items() if name != "middle_block.0.in_layers.0.bias"}
    split = state | {"middle_block.1.qkv.weight": torch.zeros(100, 64, 1)}
    faults: list[tuple[Any, str]] = [
        (torch.zeros(2), "should hold a U-Net as OpenAI's are saved, names and tensors; found Tensor"),
        ({"epoch": 3, "state_dict": state}, "found a dict of epoch, state_dict"),
        ({"conv1.weight": torch.zeros(1)}, "(time_embed.0.weight, …), its first keys are conv1.weight"),
        (state | {"label_emb.weight": torch.zeros(10, 128)}, "label_emb: a class-conditional model is no denoiser"),
        (narrow, "does not fit the U-Net of its configuration: conv_out.bias should be [6], is [5]"),
        (less, "does not fit the U-Net of its configuration: mid_block.resnets.0.norm1.bias is missing"),
        (split, "RuntimeError: shape"),
        (state | {"out.2.bias": torch.full((6,), torch.nan)}, "the weights are NaN (conv_out.bias)"),
        (state | {"output_blocks.x.0.bias": torch.zeros(1)}, "invalid literal"),
    ]
    path = tmp_path / "net.pt"
    for content, message in faults:
        torch.save(content, path)
        with pytest.raises(ValueError, match=re.escape(message)) as told:
            load(str(path))
        assert str(told.value).startswith(f"{path}: ")
        assert "\n" not in str(told.value)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"net\.pt: (holds more than|not) weights"):
        load(str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"net\.pt: no such file"):
        load(str(path))
    with pytest.raises(
        ValueError, match="no denoiser 'nowhere': a denoiser is a checkpoint folder of one, a folder of"
    ):
        load("nowhere")


# --------------------------------------------------------------------------------------------------------------- a hub
@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path / "home", monkeypatch)


def uploaded(fake: FakeHub, folder: Path) -> str:
    made = fake.upload_folder(repo_id="google/tiny", folder_path=folder, commit_message="x", delete_patterns=[])
    return str(made.oid)


def test_a_denoiser_of_a_hub_is_named_by_its_commit(folder: Path, fake: FakeHub) -> None:
    commit = uploaded(fake, folder)
    for text in ("diffusers:google/tiny", "diffusers:google/tiny@main", f"diffusers:google/tiny@{commit}"):
        found = load(text)
        assert found.name == f"diffusers:google/tiny@{commit}"
        assert found.sha256 == files.sha256(folder / WEIGHTS)
    pickled(folder)
    shutil.rmtree(fake.cache)
    commit = uploaded(fake, folder)
    with pytest.raises(ValueError, match=f"^diffusers:google/tiny@{commit}: {WEIGHTS}: no such file"):
        load("diffusers:google/tiny")
    with pytest.raises(HubError, match="diffusers:google/gone: not in the cache, and the hub cannot be reached"):
        load("diffusers:google/gone")
    for text in ("diffusers:tiny", "diffusers:a/b/c", "diffusers:../b", "diffusers:a/b@"):
        with pytest.raises(ValueError, match=r"OWNER/NAME.*found '"):
            load(text)


def test_configurations_and_safetensors_are_all_that_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(repository: str, **settings: Any) -> str:
        asked.update(settings, repository=repository)
        return str(folder)

    monkeypatch.setattr(API, "snapshot_download", download)
    load("diffusers:google/tiny@v1")
    patterns = asked.pop("allow_patterns")
    assert asked == {"repository": "google/tiny", "revision": "v1"}
    assert {"config.json", WEIGHTS, f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"} <= {*patterns}
    assert {Path(pattern).suffix for pattern in patterns} == {".json", ".safetensors"}


# ---------------------------------------------------------------------------------------------------------------- specs
def spec(**options: Any) -> NetworkSpec:
    return NetworkSpec(name="unet2d", stem="imagenet", norm="batch", groups=1, options=options, weights="published")


def test_a_spec_names_it_and_a_checkpoint_describes_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "ddpm", schedule={"prediction_type": "sample", "num_train_timesteps": 400})
    monkeypatch.setenv("HOME", str(tmp_path))
    named = spec(**{"from": "~/ddpm"})
    check(named)
    made = create(named, 10, (0.0,) * 3, (1.0,) * 3)
    assert isinstance(made, Denoiser)
    # As a study has it: a stage of 0 epochs.
    out = tmp_path / "run"
    train(train_spec(network=named.dump(), objective="denoise", sigmas=[0.5], epochs=0, warmup_epochs=0), digits, out)
    shutil.rmtree(tmp_path / "ddpm")
    again, card = weights.load_any(out)
    assert isinstance(again, Denoiser)
    assert card["network"]["weights"] == "random"  # its configuration, not where it was
    assert card["network"]["options"]["unet"]["block_out_channels"] == [8, 16]
    assert card["network"]["options"]["schedule"]["num_train_timesteps"] == 400
    with torch.inference_mode():
        assert torch.equal(again.at(0.5)(NOISY), made.at(0.5)(NOISY))


def test_a_spec_of_a_published_one_is_checked_without_it(tmp_path: Path) -> None:
    check(spec(**{"from": "diffusers:google/nowhere@main"}))
    faults: list[tuple[dict[str, Any], str]] = [
        ({}, "options.from: should name a denoiser: a folder, a file or diffusers:OWNER/NAME, found None"),
        ({"from": ""}, "options.from: should name a denoiser"),
        ({"from": 3}, "options.from: should name a denoiser"),
        ({"from": "x", "unet": TINY}, "options.unet: a published unet2d has `from` alone"),
    ]
    for options, message in faults:
        with pytest.raises(ValueError, match=re.escape(message)):
            check(spec(**options))
        with pytest.raises(ValueError, match=re.escape(message)):
            create(spec(**options), 10, (0.0,) * 3, (1.0,) * 3)


def test_a_card_cannot_have_any_file_opened(digits: Path, folder: Path, tmp_path: Path) -> None:
    made = load(str(folder)).module
    card = {"network": spec(**{"from": str(folder)}).dump(), "classes": ["a"], "mean": [0.5] * 3, "std": [0.5] * 3}
    weights.save(tmp_path / "run", made, card)
    with pytest.raises(ValueError, match=r"describes no network: options\.from: a unet2d has unet, schedule"):
        weights.load_any(tmp_path / "run")
