"""What a stage trains by: options, views, denoisers; and that trainings with them resume bit by bit."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tests.conftest import NETWORK
from tests.helpers.checkpoints import same, tensors_of
from tests.helpers.specs import train_spec
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError, read_card
from transmooth.data.loader import open_split
from transmooth.loading.denoisers import Fixed, load_classifier, load_denoiser
from transmooth.loading.models import load_model
from transmooth.models.build import Network, Projection
from transmooth.models.denoiser import Denoised
from transmooth.noise import add_noise, draw_sigmas
from transmooth.publishing import folder as publishing
from transmooth.training import loop
from transmooth.training.loop import train
from transmooth.training.task import Task, task_of

UNET = {
    "name": "unet2d",
    "stem": "imagenet",
    "norm": "own",
    "groups": 1,
    "options": {"unet": {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}, "schedule": {}},
}
DENOISER: dict[str, Any] = {"network": UNET, "objective": "denoise", "sigmas": [1.0], "epochs": 2}
CADIS: dict[str, Any] = {
    "network": None,
    "objective": "confidence",
    "options": {"copies": 2, "steps": 1, "selected_by": "start"},
    "options_from": {"1": {"epsilon": 0.25, "selected_by": "learning"}},
    "sigmas": [0.5],
    "denoiser": "unet/denoise@upstream/0",
    "epochs": 2,
}
ADVERSARIAL: dict[str, Any] = {
    "objective": "adversarial",
    "options": {"steps": 2},
    "sigmas": [0.0, 0.25],
    "augment": ["crop"],
    "epochs": 2,
}
CONSISTENCY: dict[str, Any] = {"objective": "consistency", "options": {"weight": 1.0}, "sigmas": [0.25], "epochs": 2}
SIMCLR: dict[str, Any] = {
    "network": NETWORK.model_copy(update={"norm": "batch"}).dump(),
    "objective": "simclr",
    "views": 2,
    "head": "projection",
    "augment": ["resized_crop", "flip", "colour", "grey"],
    "sigmas": [0.0, 0.25],
    "epochs": 2,
    "lr": [0.02],
}
SAMPLEWISE: dict[str, Any] = {
    "network": None,
    "objective": "smooth_adversarial",
    "options": {"steps": 1},
    "options_from": {"1": {"epsilon": 0.5}},
    "sigmas": [0.12, 0.25, 0.5],
    "noise": "samplewise",
    "n0": 20,
    "epochs": 2,
}
STAGES = {
    "denoise": DENOISER,
    "cadis": CADIS,
    "adversarial": ADVERSARIAL,
    "consistency": CONSISTENCY,
    "simclr": SIMCLR,
    "samplewise": SAMPLEWISE,
}
HEAD = {"backbone.fc.weight", "backbone.fc.bias"}


@pytest.fixture(scope="module")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser, `unet`, a classifier of clean images, `clean`, and a start without classes, `simclr`."""
    folder = tmp_path_factory.mktemp("made")
    train(train_spec(**DENOISER), digits, folder / "unet")
    train(train_spec(epochs=2), digits, folder / "clean")
    train(train_spec(**SIMCLR), digits, folder / "simclr")
    return folder


def test_options_of_a_later_epoch_take_the_place_of_others() -> None:
    seen: list[dict[str, Any]] = []
    spec = train_spec(options={"copies": 4}, options_from={"10": {"epsilon": 1}, "2": {"epsilon": 3, "steps": 5}})
    task = Task(spec, keywords={"start": None})

    def loss(*given: Any, **options: Any) -> None:
        seen.append(options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transmooth.training.task.load_objective", lambda name: loss)
        for epoch in (0, 1, 2, 9, 10, 11):
            task.loss(nn.Identity(), torch.rand(1, 3, 2, 2), torch.zeros(1).long(), torch.Generator(), epoch)
    first: dict[str, Any] = {"copies": 4, "start": None}
    middle, last = {"epsilon": 3, "steps": 5}, {"epsilon": 1, "steps": 5}
    assert seen == [first] * 2 + [first | middle] * 2 + [first | last] * 2


def test_a_training_image_has_the_sigma_that_was_chosen_and_others_draw_theirs() -> None:
    seen: list[Tensor] = []

    def loss(classifier: Any, view: Any, images: Any, labels: Any, sigma: Tensor, generator: Any) -> None:
        seen.append(sigma)

    def drawn() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    given = torch.nn.Identity(), torch.rand(3, 3, 2, 2), torch.zeros(3).long()
    spec = train_spec(sigmas=[0.25, 0.5], noise="samplewise", n0=20)
    task = task_of(Accelerator(cpu=True), spec, nn.Identity, None, torch.tensor([0.1, 0.2, 0.3, 0.4]).double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transmooth.training.task.load_objective", lambda name: loss)
        task.loss(*given, drawn(), 0, torch.tensor([3, 0, 0]))
        task.loss(*given, drawn())
        Task(train_spec(sigmas=[0.25, 0.5])).loss(*given, drawn(), 0, torch.tensor([3, 0, 0]))
    assert seen[0].tolist() == pytest.approx([0.4, 0.1, 0.1])
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[1], draw_sigmas([0.25, 0.5], 3, drawn()))
    assert torch.equal(seen[2], seen[1])


class Halves(nn.Module):
    """A denoiser that halves images and has a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, noisy: Tensor) -> Tensor:
        assert not self.training
        return noisy * self.weight


def test_the_view_is_noise_then_the_denoiser_without_gradient() -> None:
    denoiser = Fixed(Halves().train())
    task = task_of(Accelerator(cpu=True), train_spec(), nn.Identity, denoiser)
    images, sigma = torch.rand(3, 3, 4, 4), torch.tensor([0.5, 0.0, 1.0])
    seen = task.view(images, sigma, torch.Generator().manual_seed(1))
    noisy = add_noise(images, sigma, torch.Generator().manual_seed(1))
    assert torch.equal(seen[[0, 2]], noisy[[0, 2]] / 2)
    assert torch.equal(seen[1], images[1])  # without noise there is nothing to remove
    assert not seen.requires_grad
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_only_an_objective_that_asks_for_it_gets_the_start_of_the_stage() -> None:
    calls: list[nn.Module] = []

    def begin() -> nn.Module:
        calls.append(nn.Linear(2, 2).train())
        return calls[-1]

    assert task_of(Accelerator(cpu=True), train_spec(), begin, None).keywords == {}
    assert not calls
    start = task_of(Accelerator(cpu=True), train_spec(objective="confidence"), begin, None).keywords["start"]
    assert start is calls[0]
    assert not start.training
    assert not any(parameter.requires_grad for parameter in start.parameters())


def test_a_denoiser_learns_and_its_card_has_a_score_in_place_of_an_accuracy(digits: Path, tmp_path: Path) -> None:
    train(train_spec(**DENOISER | {"epochs": 8, "lr": [0.01]}), digits, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_score"] > lines[0]["validation_score"] > -1.5
    assert lines[-1]["loss"] == pytest.approx(-lines[-1]["train_score"])
    card = read_card(tmp_path)
    assert card["test"].keys() == {"images", "score"}
    assert card["test"]["score"] == pytest.approx(lines[-1]["validation_score"], abs=0.2)
    with pytest.raises(CheckpointError, match=r"is a denoiser; a classifier takes it by --denoiser"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("stage", "stop"),
    [
        *(("denoise", 30), ("cadis", 5), ("adversarial", 30), ("consistency", 5), ("simclr", 30), ("samplewise", 5)),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(
    digits: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, stop: int
) -> None:
    spec = train_spec(**STAGES[stage])
    start = made / "clean" if stage in ("cadis", "samplewise") else None
    denoiser = str(made / "unet") if stage == "cadis" else None
    whole = made / "simclr"
    if stage != "simclr":
        train(spec, digits, whole := tmp_path / "whole", start, denoiser=denoiser)
    real, taken = loop.train_step, 0

    def stopped(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == stop + 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(spec, digits, tmp_path / "stopped", start, 0, denoiser)
    monkeypatch.setattr("transmooth.noises.samplewise.choose", None)  # not a second time
    train(spec, digits, tmp_path / "stopped", start, 0, denoiser)
    assert taken == 42 + 1  # of two epochs of 21 steps, and the one that was stopped
    assert same(whole, tmp_path / "stopped")
    histories = []
    for folder in (whole, tmp_path / "stopped"):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        histories.append([{key: line[key] for key in line if key != "images_per_second"} for line in lines])
    assert histories[0] == histories[1]
    if stage == "cadis":
        assert all(0 <= line["train_full"] <= line["train_score"] <= 1 for line in histories[0])
    if stage == "samplewise":
        chosen = read_card(tmp_path / "stopped")["sigmas"]
        # One step below the largest; which of them depends on the start, and so on the processor.
        assert chosen.keys() <= {"0.12", "0.25"}
        assert sum(chosen.values()) == 21 * 64 + len(open_split(digits, "train")) % 64
    if stage == "adversarial":
        assert all(0 < line["train_score"] < line["train_clean"] <= 1 for line in histories[0])


def test_the_validation_score_of_adversarial_training_is_accuracy_under_attack(digits: Path) -> None:
    """Of a classifier by the nearest mean."""
    split = open_split(digits, "validation")
    images, labels = split.batch(range(len(split)))
    means = torch.stack([images[labels == label].mean(0).flatten() for label in range(10)])
    layer = nn.Linear(192, 10).requires_grad_(False)
    layer.weight.copy_(2 * means)
    layer.bias.copy_(-means.square().sum(1))
    network = nn.Sequential(nn.Flatten(), layer)
    clean = float((network(images).argmax(1) == labels).float().mean())
    assert clean > 0.8

    def score(epsilon: float) -> float:
        spec = train_spec(objective="adversarial", options={"epsilon": epsilon})
        return loop.validate(Accelerator(cpu=True), Task(spec), network, split)

    assert score(1e-6) == pytest.approx(clean)
    assert 0.1 < score(1.0) < clean - 0.2
    assert score(10) == 0


def test_a_network_remembers_the_denoiser_that_it_was_finetuned_behind(
    digits: Path, made: Path, tmp_path: Path
) -> None:
    train(train_spec(**CADIS), digits, tmp_path / "cadis", made / "clean", denoiser=str(made / "unet"))
    named = read_card(tmp_path / "cadis")["denoiser"]
    assert named["sha256"] == load_denoiser(str(made / "unet")).sha256
    module, card, sha256 = load_classifier(tmp_path / "cadis")
    assert isinstance(module, Denoised)
    assert sha256 not in (card["weights_sha256"], named["sha256"])
    alone, _, plain = load_classifier(made / "clean")
    assert not isinstance(alone, Denoised)
    assert plain == read_card(made / "clean")["weights_sha256"]


def test_noise_beyond_the_denoiser_is_refused_before_any_work(digits: Path, made: Path, tmp_path: Path) -> None:
    spec = train_spec(**CADIS | {"sigmas": [99.0]})
    with pytest.raises(ValueError, match=r"unet: sigma 99 is beyond the denoiser's schedule, which ends at 78\.7"):
        train(spec, digits, tmp_path / "out", made / "clean", denoiser=str(made / "unet"))
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------- without classes
def test_a_pretraining_without_classes_is_scored_by_the_pairs_that_it_finds(digits: Path, made: Path) -> None:
    card = read_card(made / "simclr")
    network, _ = weights.load_network(made / "simclr")
    assert isinstance(network.head, Projection)
    assert card["network"]["head"] == card["spec"]["head"] == "projection"
    assert card["test"].keys() == {"images", "score"}
    assert card["parameters"]["trained"] == card["parameters"]["all"] == sum(p.numel() for p in network.parameters())
    line = json.loads((made / "simclr" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < line["loss"] < math.log(127) - 0.1  # what it is by chance, of 64 images
    assert 0 < line["train_score"] < 1
    assert card["validation_score"] == line["validation_score"]
    task, validation = Task(train_spec(**SIMCLR)), open_split(digits, "validation")
    assert loop.validate(Accelerator(cpu=True), task, network, validation) == card["validation_score"]


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_the_next_stage_has_a_new_head_even_for_the_same_classes(
    digits: Path, made: Path, tmp_path: Path, trainable: str
) -> None:
    start, split = made / "simclr", open_split(digits, "train")
    spec = train_spec(network=None, trainable=trainable, seed=5, epochs=1, warmup_epochs=0)
    assert tuple(read_card(start)["classes"]) == split.classes
    before, began = tensors_of(start), loop.begin(spec, split, start)
    assert isinstance(began, Network)
    assert isinstance(began.head, nn.Linear)
    own = began.state_dict()
    assert own.keys() - before.keys() == HEAD
    assert all(torch.equal(own[name], before[name]) for name in own.keys() - HEAD)
    again = loop.begin(spec, split, start).state_dict()
    assert all(torch.equal(again[name], own[name]) for name in own)
    train(spec, digits, tmp_path, start)
    card, after = read_card(tmp_path), tensors_of(tmp_path)
    assert "head" not in card["network"]
    assert card["test"].keys() == {"images", "correct"}
    weights.load(tmp_path)
    moved = {name for name in own if not torch.equal(own[name], after[name])}
    assert moved == HEAD if trainable == "head" else moved >= HEAD | {"backbone.conv1.weight"}


def test_more_pretraining_without_classes_goes_on_with_its_projection(digits: Path, made: Path) -> None:
    more = train_spec(**SIMCLR | {"network": None})
    split = open_split(digits, "train")
    before = tensors_of(made / "simclr")
    after = loop.begin(more, split, made / "simclr").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    projected = loop.begin(more, split, made / "clean")  # of a classifier
    assert isinstance(projected, Network)
    assert isinstance(projected.head, Projection)
    clean = tensors_of(made / "clean")
    assert all(torch.equal(clean[name], each) for name, each in projected.state_dict().items() if name in clean)


def test_what_was_pretrained_without_classes_is_refused_until_it_is_finetuned(made: Path, tmp_path: Path) -> None:
    folder = made / "simclr"
    for use in (load_classifier, weights.load, lambda path: load_model(str(path))):
        with pytest.raises(CheckpointError, match=rf"^{folder}: was pretrained without classes; finetune it first$"):
            use(folder)
    with pytest.raises(CheckpointError, match="was pretrained without classes; finetune it first"):
        publishing.write(folder, "me/net", tmp_path / "out")


def test_a_denoiser_has_no_head(digits: Path, made: Path, tmp_path: Path) -> None:
    for network, start in ((UNET, None), (None, made / "unet")):
        with pytest.raises(ValueError, match=r"^head: projection is not for a denoiser"):
            train(train_spec(**SIMCLR | {"network": network}), digits, tmp_path / "out", start)


class Rank:
    """One of two processes, which does not meet the other."""

    device, num_processes = torch.device("cpu"), 2

    def __init__(self, process_index: int) -> None:
        self.process_index = process_index

    def reduce(self, mine: Tensor, reduction: str) -> Tensor:
        return mine


def test_two_processes_score_what_one_does(digits: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they learn is not what one would, for each has negatives of its own."""
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 64)
    network, _ = weights.load_network(made / "simclr")
    task, split = Task(train_spec(**SIMCLR)), open_split(digits, "test")
    parts = [loop.validate(Rank(rank), task, network, split) for rank in range(2)]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(loop.validate(Accelerator(cpu=True), task, network, split))
