"""Publish to a hub, load from it: without a network, through huggingface_hub's own code wherever that needs none."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.conftest import NETWORK, ROOT
from tests.helpers.calls import call, fault
from tests.helpers.checkpoints import CARD
from tests.helpers.fake_hub import FakeHub
from tests.helpers.records import row, table
from tests.helpers.specs import train_spec
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError, read_card
from transmooth.hub import API
from transmooth.loading import hub
from transmooth.loading.models import load_model
from transmooth.models.build import build
from transmooth.publishing import folder as publishing
from transmooth.publishing.model_card import Origin
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.report import compare
from transmooth.smoothing.bounds import share_interval
from transmooth.specs import RunSpec
from transmooth.training import own_pictures
from transmooth.training.loop import train

NAME = "somebody/digits"


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "model"
    run = RunSpec(network="n", stages=("mixed@digits",), seed=0, dataset="digits", path="n/mixed@digits/0")
    train(train_spec(epochs=4, lr=[0.02], sigmas=[0.0, 0.25], run=run.dump()), digits, folder)
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path / "home", monkeypatch)


def certify(model: str | Path, digits: Path, out: Path, *more: Any) -> list[dict[str, Any]]:
    sigma = [] if "--sigma" in more else ["--sigma", 0.25]
    settings = [*sigma, "--n0", 20, "--n", 200, "--alpha", 0.01, "--images", 20, "--out", out]
    call("certify", model, digits, *settings, *more)
    return [{k: v for k, v in each.items() if k != "seconds"} for each in records.read(out).to_pylist()]


def test_what_is_published_certifies_as_it_did(model: Path, digits: Path, fake: FakeHub, tmp_path: Path) -> None:
    ours = certify(model, digits, tmp_path / "ours.parquet")
    name = call("publish", model, NAME, "--records", tmp_path / "ours.parquet").stdout.strip()
    assert re.fullmatch(rf"hf-hub:{NAME}@[0-9a-f]{{40}}", name)
    assert [path.name for path in fake.files(NAME)] == ["README.md", "model.json", "model.safetensors"]
    for asked in (f"hf-hub:{NAME}", f"hf-hub:{NAME}@main", name):
        out = tmp_path / "theirs.parquet"
        assert certify(asked, digits, out) == ours
        made = records.metadata(out)
        assert made["model"]["model"] == name  # whatever was asked for, the commit
        assert str(tmp_path) not in json.dumps(made)
        out.unlink()


def test_a_finetuning_starts_from_a_hub(model: Path, fake: FakeHub) -> None:
    publishing.publish(model, NAME)
    with own_pictures.start_from(f"hf-hub:{NAME}") as (network, start, side):
        assert (network, side) == (None, 8)
        assert start is not None
        assert read_card(start) == read_card(model)


def test_the_commands_of_the_model_card_run(
    model: Path, digits: Path, fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.publish(model, NAME)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits, "pictures")
    block = re.search(r"^```sh\n(.*?)^```", fake.files(NAME)[0].read_text(), re.DOTALL | re.MULTILINE)
    assert block
    run = []
    for line in block[1].splitlines():
        program, command, *arguments = shlex.split(line)
        assert program == "transmooth"
        short = {"certify": ["--images", 2, "--n", 100], "finetune": ["--epochs", 1]}.get(command, [])
        call(command, *arguments, *short)
        run.append(command)
    assert run == ["certify", "accuracy", "finetune"]
    assert read_card(Path("model"))["start"] == read_card(model)["weights_sha256"]


def test_a_card_does_not_tell_transductive_records(model: Path, tmp_path: Path) -> None:
    left = {"smoothed_radius": 0.3, "region": 1.0, "radius": 0.3, "allocation": "a"}
    rows = [
        row(index, sigma, model=read_card(model)["weights_sha256"], **left) for index, sigma in ((0, 0.25), (1, 0.5))
    ]
    records.write(table(*rows), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match=r"own\.parquet: is transductive; a model card tells what one sigma certifies"):
        publishing.write(model, NAME, tmp_path / "out", [tmp_path / "own.parquet"])


def test_the_model_card_is_of_the_hubs_form_and_its_numbers_are_of_the_records(
    model: Path, digits: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    certify(model, digits, paths[0])
    certify(model, digits, paths[1], "--sigma", 0.5)
    origin = Origin("cc-by-4.0", ("somebody/pictures",))
    publishing.write(model, NAME, tmp_path / "out", paths, origin)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict() == {
        "library_name": "transmooth",
        "pipeline_tag": "image-classification",
        "license": "cc-by-4.0",
        "datasets": ["somebody/pictures"],
        "metrics": ["accuracy"],
        "tags": ["randomized-smoothing", "certified-robustness"],
    }
    lines = card.text.splitlines()
    for path, sigma in zip(paths, (0.25, 0.5), strict=True):
        frame = logs.read_any(path, sigma)
        found = compare.accuracy(frame, [0.0, 0.25, 0.5, 0.75, 1.0])
        cells = [f"{sigma:g}"]
        for radius, share in found["certified_accuracy"].items():
            low, high = found["interval"][radius]
            cells.append(f"{100 * share:.1f} [{100 * low:.0f}, {100 * high:.0f}]")
        assert f"| {' | '.join(cells)} | {found['acr']:.3f} |" in lines
    told = read_card(model)
    low, high = share_interval(told["test"]["correct"], 300)
    assert f": {told['test']['correct'] / 3:.1f} [{100 * low:.0f}, {100 * high:.0f}] of 300 test images." in card.text
    assert "Method: cohen, n0 = 20, n = 200, α = 0.01." in card.text
    assert f"| digits; checksum of its manifest `{told['data']}` |" in card.text
    assert f"of the split test of checksum `{told['data']}`" in card.text
    for value in (told["weights_sha256"], told["data"], told["versions"]["torch"], "one of 0, 0.25", "random weights"):
        assert value in card.text
    assert str(tmp_path) not in card.text


def test_the_model_card_tells_where_the_weights_came_from(model: Path, digits: Path, tmp_path: Path) -> None:
    train(train_spec(network=None, epochs=0, warmup_epochs=0), digits, tmp_path / "next", model)
    publishing.write(tmp_path / "next", NAME, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    before = read_card(model)["weights_sha256"]
    assert f"| start | the weights of SHA-256 `{before}`; the last layer is new if the classes are not the" in text
    assert "| data | a prepared set; checksum" in text


def test_without_records_nothing_is_claimed(model: Path, tmp_path: Path) -> None:
    publishing.write(model, NAME, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license is None
    assert card.data.datasets is None
    assert "no records were published with it" in card.text
    assert "Licence: none was stated" in card.text
    assert "ACR" not in card.text


def saved(folder: Path, like: Path, **network: Any) -> Path:
    """A checkpoint of another network, with random weights and statistics, and the card of a training."""
    torch.manual_seed(0)
    spec = NETWORK.model_copy(update=network)
    card = read_card(like) | {"network": spec.dump(), "size": 32}
    made = build(spec, 10, card["mean"], card["std"])
    made.train()(torch.rand(8, 3, 32, 32))
    weights.save(folder, made, card)
    return folder


@pytest.mark.parametrize(
    ("norm", "groups", "name", "options"),
    [
        ("batch", 1, "resnet10t", {}),
        ("layer", 1, "resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}),
        ("group", 32, "resnet26", {"layers": [1, 1, 1, 1]}),
    ],
)
def test_timm_loads_the_same_network_where_it_can(
    model: Path, fake: FakeHub, tmp_path: Path, norm: str, groups: int, name: str, options: dict[str, Any]
) -> None:
    network = {"stem": "imagenet", "norm": norm, "groups": groups, "name": name, "options": options}
    publishing.publish(saved(tmp_path / "m", model, **network), NAME)
    assert "timm" in ModelCard.load(next(p for p in fake.files(NAME) if p.name == "README.md")).data.tags
    ours, theirs = load_model(f"hf-hub:{NAME}").module, timm.create_model(f"hf-hub:{NAME}", pretrained=True).eval()
    config = theirs.pretrained_cfg
    images = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        torch.testing.assert_close(theirs((images - mean) / std), ours(images))
    assert config["label_names"] == list("0123456789")
    assert config["input_size"] == [3, 32, 32]
    assert not config.get("license")  # of the weights that timm has under this name

    publishing.publish(model, NAME)  # another network, which timm cannot build
    assert [path.name for path in fake.files(NAME)] == ["README.md", "model.json", "model.safetensors"]


@pytest.mark.parametrize(
    "network",
    [
        {"stem": "cifar", "norm": "layer"},
        {"stem": "imagenet", "norm": "instance"},
        {"stem": "imagenet", "norm": "group", "groups": 2},
    ],
)
def test_what_timm_cannot_build_is_not_said_to_be_for_timm(model: Path, tmp_path: Path, network: Any) -> None:
    publishing.write(saved(tmp_path / "m", model, **network), NAME, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]
    assert "timm.create_model" not in (tmp_path / "out" / "README.md").read_text()


def test_a_public_repository_does_not_become_private_in_silence(model: Path, fake: FakeHub) -> None:
    publishing.publish(model, NAME, private=True)
    publishing.publish(model, NAME, private=True)
    publishing.publish(model, "somebody/open")
    files = fake.files("somebody/open")
    message = fault("publish", model, "somebody/open", "--private", "--license", "mit")
    assert "hf-hub:somebody/open: should be private, but is there already and public; nothing was uploaded" in message
    assert fake.files("somebody/open") == files


def test_a_folder_to_look_at_is_written_whole_or_not(model: Path, fake: FakeHub, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert call("publish", model, NAME, "--out", out).stdout == f"{out}\n"
    call("publish", model, NAME)
    assert [path.read_bytes() for path in sorted(out.iterdir())] == [path.read_bytes() for path in fake.files(NAME)]
    assert "out: is there already; remove it or choose another --out" in fault("publish", model, NAME, "--out", out)
    records.write(table(row(0, model="abc")), tmp_path / "r.parquet")
    message = fault("publish", model, NAME, "--records", tmp_path / "r.parquet", "--out", tmp_path / "other")
    assert "r.parquet: of other weights, abc; the checkpoint's are " in message
    assert not (tmp_path / "other").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_repository_without_a_sound_checkpoint_is_named(model: Path, fake: FakeHub, tmp_path: Path) -> None:
    publishing.publish(model, NAME)
    (stored,) = (path for path in fake.files(NAME) if path.suffix == ".safetensors")
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError) as told:
        load_model(f"hf-hub:{NAME}")
    assert str(told.value).startswith(
        f"hf-hub:{NAME}@{stored.parent.name}: holds no sound checkpoint of transmooth: model.safetensors: damaged: its"
    )
    assert str(told.value).endswith(f"; if it is only damaged here, remove {fake.repository(NAME)} to fetch it anew")
    (stored.parent / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint of transmooth: model\.json: no such card; if it"):
        own_pictures.start_from(f"hf-hub:{NAME}").__enter__()
    weights.save(stored.parent, build(NETWORK, 10, (0.5,) * 3, (0.25,) * 3), CARD)
    with pytest.raises(CheckpointError, match="its card should tell the size of its images"):
        own_pictures.start_from(f"hf-hub:{NAME}").__enter__()


@pytest.mark.parametrize(
    "text", ["hf-hub:", "hf-hub:digits", "hf-hub:a/b/c", "hf-hub:../b", "hf-hub:a/b@", "hf-hub:a/b@c d"]
)
def test_names_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"OWNER/NAME.*found '"):
        load_model(text)


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (RepositoryNotFoundError, 401, "the hub has no such repository, or hides it: log in as somebody who may"),
        (GatedRepoError, 403, "its owner asks you to accept terms on its page; then log in"),
        (RevisionNotFoundError, 404, "the hub has no such revision of it"),
        (HfHubHTTPError, 403, "the hub refuses: log in"),
        (HfHubHTTPError, 500, "asking the hub failed: HfHubHTTPError: said this"),
    ],
)
def test_what_the_hub_answers_is_told_in_one_line(
    model: Path, fake: FakeHub, monkeypatch: pytest.MonkeyPatch, kind: Any, status: int, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise kind("said\nthis", response=SimpleNamespace(status_code=status, headers={}, request=None))

    for name in ("snapshot_download", "create_repo"):
        monkeypatch.setattr(API, name, refuse)
    for arguments in (["predict", f"hf-hub:{NAME}", "pictures", "--sigma", 1], ["publish", model, NAME]):
        assert fault(*arguments).startswith(f"transmooth: hf-hub:{NAME}: {message}")


def test_card_and_weights_are_all_that_is_fetched(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(repository: str, **settings: Any) -> str:
        asked.update(settings, repository=repository)
        return str(shutil.copytree(model, tmp_path / "0123abc"))

    monkeypatch.setattr(API, "snapshot_download", download)
    *_, name = hub.load(f"hf-hub:{NAME}@v1")
    assert name == f"hf-hub:{NAME}@0123abc"
    assert asked == {
        "repository": NAME,
        "revision": "v1",
        "allow_patterns": ["model.json", "model.safetensors"],
    }


def predict(digits: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["predict", f"hf-hub:{NAME}", str(digits), "--sigma", "0.25", "--images", "2", "--n", "20"]
    made = os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment
    return subprocess.run(
        [sys.executable, "-m", "transmooth", *command], env=made, capture_output=True, text=True, timeout=200
    )


def test_the_settings_of_huggingface_hub_hold(model: Path, digits: Path, fake: FakeHub, tmp_path: Path) -> None:
    publishing.publish(model, NAME)
    home = {"HF_HOME": str(tmp_path / "home")}
    done = predict(digits, HF_HUB_OFFLINE="1", **home)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    shutil.rmtree(fake.cache)
    done = predict(digits, HF_HUB_OFFLINE="1", **home)
    assert done.returncode == 1
    assert f"transmooth: hf-hub:{NAME}: not in the cache, and the hub cannot be reached: " in done.stderr
    done = predict(digits, HF_ENDPOINT="http://127.0.0.1:9", **home)  # the port of discard: nobody listens
    assert done.returncode == 1
    assert f"transmooth: hf-hub:{NAME}: not in the cache, and the hub cannot be reached: " in done.stderr
    assert done.stderr.count("\n") == 1
