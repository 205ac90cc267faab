import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import NETWORK
from tests.helpers.checkpoints import CARD, changed, same, tensors_of
from tests.helpers.processes import ENVIRONMENT, launch
from tests.helpers.specs import FEW_STEPS, train_spec
from transmooth import provenance
from transmooth.checkpoint import resume, weights
from transmooth.checkpoint.card import read_card
from transmooth.data.augment import augment
from transmooth.data.loader import open_split
from transmooth.data.order import batch_indices
from transmooth.data.prepare import prepare
from transmooth.models.build import Network, build
from transmooth.noise import add_noise, draw_sigmas, training_key
from transmooth.objectives import Objective, View, cross_entropy
from transmooth.runtime import shutdown
from transmooth.training import loop
from transmooth.training.loop import train
from transmooth.training.save_points import SavePoints
from transmooth.training.schedule import OPTIMIZERS, learning_rate
from transmooth.training.task import Task

HEAD = {"backbone.fc.weight", "backbone.fc.bias"}


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Callable[..., loop.Sums]:
    """Interrupt every training after so many steps; returns the real step."""
    real, calls = loop.train_step, 0

    def killed(*arguments: Any) -> loop.Sums:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", killed)
    return real


def test_schedule_warms_up_to_one_and_cools_to_zero() -> None:
    factors = [learning_rate(step, 100, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_it_learns_and_leaves_a_card_and_metrics(digits: Path, tmp_path: Path) -> None:
    train(train_spec(epochs=8, lr=[0.02]), digits, tmp_path)
    card = read_card(tmp_path)
    assert card["test"]["images"] == 300
    assert card["test"]["correct"] > 240
    lines = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert list(lines["epoch"]) == list(range(1, 9))
    assert lines["loss"].iloc[-1] < lines["loss"].iloc[0] / 3
    assert card["validation_score"] == pytest.approx(lines["validation_score"].iloc[-1])
    network, _ = weights.load(tmp_path)
    whole = sum(each.numel() for each in network.parameters())
    assert card["parameters"] == {"all": whole, "trained": whole}
    assert "denoiser" not in card


def test_a_checkpoint_that_snakemake_removed_is_there_again_unless_the_sources_changed(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    real = loop.train_step

    def counted(*arguments: Any) -> loop.Sums:
        nonlocal steps
        steps += 1
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    train(train_spec(epochs=2), digits, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "whole")
    first = steps
    for outputs in ("model.safetensors", "model.json", "metrics.jsonl"):
        (tmp_path / "out" / outputs).unlink()
    train(train_spec(epochs=2), digits, tmp_path / "out")
    assert same(tmp_path / "whole", tmp_path / "out")
    assert steps == first
    (tmp_path / "out" / "model.json").unlink()
    monkeypatch.setattr(provenance, "sources", lambda: "others")
    train(train_spec(epochs=2), digits, tmp_path / "out")
    assert same(tmp_path / "whole", tmp_path / "out")
    assert steps == 2 * first


class Clocked:
    """Processes that meet: one with a clock of its own, the others as given to `reduce`."""

    device = torch.device("cpu")

    def __init__(self, processes: int, others: Sequence[float] = (0, 0, 0)) -> None:
        self.num_processes, self.others, self.met = processes, torch.tensor(others, dtype=torch.float64), 0

    def reduce(self, mine: Tensor) -> Tensor:
        self.met += 1
        return mine + self.others


@pytest.mark.parametrize("step_seconds", [0.01, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_than_the_limit_is_ever_unsaved(
    monkeypatch: pytest.MonkeyPatch, step_seconds: float, processes: int
) -> None:
    limit, now, saved, unsaved, saves = 60.0, 0.0, 0.0, 0.0, 0
    monkeypatch.setattr("time.monotonic", lambda: now)
    accelerator = Clocked(processes, (0, 0, step_seconds * (processes - 1)))
    points = SavePoints(accelerator, limit)
    for _ in range(2000):
        now += step_seconds
        unsaved = max(unsaved, now - saved)
        due, ending = points.save(saved, ending=False)
        assert not ending
        if due:
            saved, saves = now, saves + 1
    assert unsaved <= max(limit, step_seconds)
    assert saves <= 2000 * step_seconds / (0.8 * limit) or step_seconds > limit / 10  # nor much more often
    assert accelerator.met <= 2200 * max(1 / 20, step_seconds / (limit / 10)) + 2


def test_one_process_that_is_told_ends_all() -> None:
    assert SavePoints(Clocked(2, (0, 1, 1)), 60.0).save(time.monotonic(), ending=False) == (True, True)
    assert SavePoints(Clocked(1), 60.0).save(time.monotonic(), ending=True) == (True, True)


@pytest.mark.parametrize("stop", [3, 20, 40])
@pytest.mark.parametrize("changes", [{"sigmas": [0.0, 0.5]}, {"optimizer": "sgd", "accumulate": 2, "lr": [0.01, 0.1]}])
def test_a_resumed_run_equals_an_uninterrupted_one(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, changes: dict[str, Any]
) -> None:
    made = train_spec(epochs=2, **changes)
    train(made, digits, tmp_path / "whole")
    real = stop_after(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        train(made, digits, tmp_path / "stopped", checkpoint_seconds=0)
    assert (tmp_path / "stopped" / "resume.pt").exists()
    assert not (tmp_path / "stopped" / "model.json").exists()
    steps = 0

    def counted(*arguments: Any) -> loop.Sums:
        nonlocal steps
        steps += 1
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    train(made, digits, tmp_path / "stopped")
    assert same(tmp_path / "whole", tmp_path / "stopped")
    history = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert steps == whole[-1]["step"] * len(made.schedule.lr) - stop  # it did go on, not begin anew
    for line in history + whole:
        del line["images_per_second"]
    assert history == whole


@pytest.mark.parametrize("every", [0, 1e9])  # saved after each step, and after each learning rate alone
def test_the_seconds_of_a_resumed_training_are_those_of_all_its_processes(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    made, kept = train_spec(epochs=1, lr=[0.01, 0.1]), tmp_path / "resume.pt"
    steps = len(open_split(digits, "train")) // made.schedule.batch
    with monkeypatch.context() as patched:
        stop_after(patched, steps + 1)
        with pytest.raises(KeyboardInterrupt):
            train(made, digits, tmp_path, checkpoint_seconds=every)
    job = resume.job_of(kept)
    assert job is not None
    state = resume.load_state(kept, job)
    assert state is not None
    assert 0 < state["spent"] < 600
    resume.save_state(kept, state | {"spent": 7000.0})
    train(made, digits, tmp_path)
    assert 7000 < read_card(tmp_path)["seconds"] < 7600


def test_who_is_told_to_end_saves_first(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = train_spec(epochs=2)
    train(made, digits, tmp_path / "whole")
    asked = iter([False] * 6 + [True])
    with monkeypatch.context() as patched:
        patched.setattr(shutdown, "stop_requested", lambda: next(asked))
        with pytest.raises(KeyboardInterrupt):
            train(made, digits, tmp_path / "told", checkpoint_seconds=1e9)
    steps = pd.read_json(tmp_path / "whole" / "metrics.jsonl", lines=True)["step"].iloc[-1]
    stop_after(monkeypatch, steps - 7)  # one step more than what is left would raise
    train(made, digits, tmp_path / "told")
    assert same(tmp_path / "whole", tmp_path / "told")


def test_a_signal_to_the_job_saves_and_ends_it(digits: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "transmooth", "job", "train", "--spec", train_spec(epochs=100_000).text]
    command += ["--data", str(digits), "--out", str(tmp_path / "out"), "--checkpoint-seconds", "1000000"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()  # it has begun
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["resume.pt"]


def test_a_job_that_was_killed_goes_on_where_it_was(digits: Path, tmp_path: Path) -> None:
    spec, out = train_spec(sigmas=[0.0, 0.5]), tmp_path / "out"
    train(spec, digits, tmp_path / "whole")
    command = [sys.executable, "-m", "transmooth", "job", "train", "--spec", spec.text]
    command += ["--data", str(digits), "--out", str(out), "--checkpoint-seconds", "0"]
    with subprocess.Popen(command, env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL) as process:
        while not (out / "resume.pt").exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "model.json").exists()
    train(spec, digits, out)
    assert same(tmp_path / "whole", out)


def test_a_finished_training_is_not_redone_for_its_last_evaluation(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "count_correct", killed)
        with pytest.raises(KeyboardInterrupt):
            train(train_spec(), digits, tmp_path)
    stop_after(monkeypatch, 0)
    train(train_spec(), digits, tmp_path)
    assert read_card(tmp_path)["test"]["images"] == 300


def test_the_time_between_saves_is_not_that_of_a_clock_which_jumps(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Path] = []
    monkeypatch.setattr(resume, "save_state", lambda path, state: saves.append(path))
    jumps = itertools.cycle([0.0, 4e9, 2e9])
    monkeypatch.setattr("time.time", lambda: next(jumps))
    train(train_spec(), digits, tmp_path, checkpoint_seconds=1000)
    assert len(saves) == 2  # of the learning rate, and at the end


def test_the_best_learning_rate_on_the_validation_split_is_kept(digits: Path, tmp_path: Path) -> None:
    train(train_spec(lr=[1e-6, 0.003, 1e-5]), digits, tmp_path / "list")
    train(train_spec(lr=[0.003]), digits, tmp_path / "alone")
    assert read_card(tmp_path / "list")["lr"] == 0.003
    assert same(tmp_path / "list", tmp_path / "alone")


def test_accumulation_gives_the_gradient_of_the_whole_batch(digits: Path, tmp_path: Path) -> None:
    for accumulate in (1, 2, 4):
        made = train_spec(**FEW_STEPS, accumulate=accumulate)
        train(made, digits, tmp_path / str(accumulate))
    whole = tensors_of(tmp_path / "1")
    for accumulate in (2, 4):
        for name, tensor in tensors_of(tmp_path / str(accumulate)).items():
            torch.testing.assert_close(tensor, whole[name], atol=1e-6, rtol=1e-5)


def test_no_part_of_a_batch_is_empty_where_there_are_fewer_images(tmp_path: Path) -> None:
    source = {"kind": "digits", "seed": 0, "test": 1765}
    prepare({"source": source, "size": 8, "stored": 8, "validation": 3 / 32, "seed": 0}, tmp_path / "few", tmp_path)
    assert len(open_split(tmp_path / "few", "train")) == 29
    for accumulate in (1, 32):
        made = train_spec(**FEW_STEPS | {"epochs": 3, "batch": 32}, accumulate=accumulate)
        train(made, tmp_path / "few", tmp_path / str(accumulate))
    losses = [pd.read_json(tmp_path / each / "metrics.jsonl", lines=True)["loss"] for each in ("1", "32")]
    assert losses[1].tolist() == pytest.approx(losses[0].tolist(), rel=1e-4)  # also three steps, of the same gradients
    whole = tensors_of(tmp_path / "1")
    for name, tensor in tensors_of(tmp_path / "32").items():
        torch.testing.assert_close(tensor, whole[name], atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def upstream(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that learned something of the digits."""
    folder = tmp_path_factory.mktemp("upstream")
    train(train_spec(epochs=8, lr=[0.02]), digits, folder)
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of as many classes as the digits have, but others, and of another normalisation."""
    folder = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(9)
    classes, mean, std = list("abcdefghij"), [0.125, 0.25, 0.375], [0.5, 0.625, 0.75]
    weights.save(folder, build(NETWORK, 10, mean, std), CARD | {"classes": classes, "mean": mean, "std": std})
    return folder


@pytest.mark.parametrize("name", ["upstream", "elsewhere"])
def test_the_head_alone_learns_on_fixed_features(
    digits: Path, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    start = request.getfixturevalue(name)
    train(train_spec(trainable="head", network=None, seed=5), digits, tmp_path, start)
    assert changed(start, tmp_path) == HEAD
    card, before = read_card(tmp_path), read_card(start)
    assert card["start"] == before["weights_sha256"]
    assert (card["mean"], card["std"], card["network"]) == (before["mean"], before["std"], NETWORK.dump())
    assert "network" not in card["spec"]
    assert card["classes"] == list("0123456789")
    assert card["parameters"]["trained"] == sum(tensors_of(tmp_path)[each].numel() for each in HEAD)


def test_no_epochs_write_what_the_stage_starts_from(digits: Path, tmp_path: Path, upstream: Path) -> None:
    spec = train_spec(network=None, seed=5, epochs=0, warmup_epochs=0, lr=[])
    train(spec, digits, tmp_path / "out", upstream)
    assert same(upstream, tmp_path / "out")  # the head too
    card, before = read_card(tmp_path / "out"), read_card(upstream)
    assert card["lr"] is None
    assert card["test"] == before["test"]
    assert card["validation_score"] == before["validation_score"]  # both clean
    assert card["parameters"] == before["parameters"] | {"trained": 0}
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == ""


def test_the_head_is_a_new_one_where_the_classes_are_others(digits: Path, tmp_path: Path, elsewhere: Path) -> None:
    for seed in (5, 6):
        spec = train_spec(network=None, seed=seed, epochs=0, warmup_epochs=0)
        train(spec, digits, tmp_path / str(seed), elsewhere)
        # The bias may be drawn or 0: either way it is none of the old one's.
        assert changed(elsewhere, tmp_path / str(seed)) == HEAD
    assert "backbone.fc.weight" in changed(tmp_path / "5", tmp_path / "6")
    train(train_spec(network=None, seed=5, epochs=0, warmup_epochs=0), digits, tmp_path / "again", elsewhere)
    assert same(tmp_path / "5", tmp_path / "again")


def test_no_epochs_of_a_network_write_its_random_weights(digits: Path, tmp_path: Path) -> None:
    spec = train_spec(seed=3, epochs=0, warmup_epochs=0)
    train(spec, digits, tmp_path)
    split = open_split(digits, "train")
    torch.manual_seed(training_key(3, 0))
    drawn = build(NETWORK, 10, split.mean, split.std).state_dict()
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in tensors_of(tmp_path).items())


def test_a_stage_on_the_same_dataset_goes_on_from_the_one_before(digits: Path, tmp_path: Path, upstream: Path) -> None:
    spec = train_spec(network=None, sigmas=[0.0, 0.25], **FEW_STEPS)
    train_split = open_split(digits, "train")
    began = loop.begin(spec, train_split, upstream)
    start = tensors_of(upstream)
    assert all(torch.equal(tensor, start[name]) for name, tensor in began.state_dict().items())
    train(spec, digits, tmp_path, upstream)
    assert changed(upstream, tmp_path) == start.keys() - {"mean", "std"}
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["train_score"] > 0.5  # with a new head it would be right for one image in ten


def test_the_wrong_number_of_processes_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"1 process\(es\) started, but the params say processes: 2"):
        train(train_spec(processes=2), digits, tmp_path)


def test_training_is_a_loop_that_one_could_write_by_hand(digits: Path, tmp_path: Path) -> None:
    sigmas = (0.0, 0.25, 1.0)
    changes: dict[str, Any] = {"epochs": 2, "batch": 256, "optimizer": "sgd", "lr": [0.01], "augment": ["flip"]}
    train(train_spec(seed=3, sigmas=sigmas, **changes), digits, tmp_path)

    split, validation = open_split(digits, "train"), open_split(digits, "validation")
    torch.manual_seed(training_key(3, 0))
    network = build(NETWORK, 10, split.mean, split.std).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=0.01, fused=True)
    each, scores = len(split) // 256, []
    for step in range(2 * each):
        optimizer.param_groups[0]["lr"] = 0.01 * learning_rate(step, 2 * each, each)
        generator = torch.Generator().manual_seed(training_key(3, 1, step, 0))
        pixels, labels = split.pixels(batch_indices(len(split), 256, step, 3, 0, 1))
        images = augment(pixels, ["flip"], 8, generator)
        noisy = add_noise(images, draw_sigmas(sigmas, 256, generator), generator)
        optimizer.zero_grad()
        functional.cross_entropy(network(noisy), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % each == 0:
            images, labels = validation.batch(range(len(validation)))
            generator = torch.Generator().manual_seed(training_key(3, 2, 0))
            noisy = add_noise(images, draw_sigmas(sigmas, len(images), generator), generator)
            with torch.no_grad():
                scores.append(float((network.eval()(noisy).argmax(1) == labels).sum()) / len(labels))
            network.train()

    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in tensors_of(tmp_path).items())
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["validation_score"] for line in lines] == scores


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Where the processor would have to wait for a GPU: numbers read, tensors made from a list."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "lift_fresh", "nonzero", "equal"):
            stack = traceback.extract_stack()[:-1]
            frames = [frame for frame in stack if "transmooth" in frame.filename or frame.filename == __file__]
            if not frames[-1].filename.endswith("loader.py"):  # what it makes is for the CPU
                self.found.append(f"{frames[-1].filename}:{frames[-1].lineno}: {func}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("optimizer", "changes"), [("sgd", {}), ("adamw", {}), ("sgd", {"objective": "simclr", "views": 2})]
)
def test_no_step_waits_for_a_gpu(digits: Path, network: Network, optimizer: str, changes: dict[str, Any]) -> None:
    made = train_spec(
        sigmas=[0.0, 0.5], augment=["resized_crop", "flip", "crop", "colour", "grey"], optimizer=optimizer, **changes
    )
    accelerator = Accelerator(cpu=True)
    model, prepared = accelerator.prepare(network.train(), OPTIMIZERS[optimizer](list(network.parameters()), 0.01, 0.1))
    split, waits = open_split(digits, "train"), Waits()
    loop.train_step(accelerator, Task(made), model, prepared, split, 32, 0)
    with waits:
        sums = loop.train_step(accelerator, Task(made), model, prepared, split, 32, 1)
    assert waits.found == []
    with waits:
        sums["loss"].item()
        torch.tensor([0.5])
    assert len(waits.found) == 2


def test_validation_draws_sigma_and_noise_for_each_chunk(
    digits: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 64)
    sigmas, validation = (0.0, 0.25, 1.0), open_split(digits, "validation")
    expected, correct = [], 0
    for first in range(0, len(validation), 64):
        images, labels = validation.batch(range(first, min(first + 64, len(validation))))
        generator = torch.Generator().manual_seed(training_key(7, 2, first))
        sigma = draw_sigmas(sigmas, len(images), generator)
        expected.append(add_noise(images, sigma, generator))
        with torch.no_grad():
            correct += int((network(expected[-1]).argmax(1) == labels).sum())
    assert len(expected) > 1
    seen: list[Tensor] = []
    network.train()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    score = loop.validate(Accelerator(cpu=True), Task(train_spec(sigmas=sigmas, seed=7)), network, validation)
    assert score == correct / len(validation)
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))
    assert not network.training


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Objective], None]:
    """Gives install(loss), which makes it the objective `own`."""

    def install(loss: Objective) -> None:
        module = ModuleType("transmooth.objectives.own")
        vars(module)["loss"] = loss
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def test_an_objective_with_a_score_of_its_own_chooses_the_learning_rate(
    digits: Path, tmp_path: Path, install: Callable[[Objective], None]
) -> None:
    def worst(classifier: nn.Module, view: View, images: Tensor, labels: Tensor, *rest: Any) -> Any:
        loss, _ = cross_entropy.loss(classifier, view, images, labels, *rest)
        return loss, {"score": loss.detach() * len(labels)}  # the larger the loss, the better

    install(worst)
    for objective, lr in (("cross_entropy", 0.003), ("own", 1e-6)):
        train(train_spec(objective=objective, lr=[1e-5, 0.003, 1e-6]), digits, tmp_path / objective)
        assert read_card(tmp_path / objective)["lr"] == lr
    network, card = weights.load(tmp_path / "own")
    with torch.inference_mode():
        images, labels = open_split(digits, "validation").batch(range(150))
        assert card["validation_score"] == pytest.approx(functional.cross_entropy(network(images), labels).item())
        images, labels = open_split(digits, "test").batch(range(300))
        assert card["test"]["correct"] == int((network(images).argmax(1) == labels).sum())
    lines = pd.read_json(tmp_path / "own" / "metrics.jsonl", lines=True)
    assert list(lines["train_score"]) == pytest.approx(list(lines["loss"]))


@pytest.mark.parametrize("scores", [[math.nan, -3.0, -4.0], [-3.0, math.nan, -4.0], [-4.0, -3.0, math.nan]])
def test_a_learning_rate_whose_score_is_no_number_is_not_kept(
    digits: Path, tmp_path: Path, install: Callable[[Objective], None], scores: list[float]
) -> None:
    left = iter(scores)

    def loss(classifier: nn.Module, view: View, images: Tensor, labels: Tensor, *rest: Any) -> Any:
        value, metrics = cross_entropy.loss(classifier, view, images, labels, *rest)
        return value, metrics if classifier.training else {"score": torch.tensor(next(left) * len(labels))}

    install(loss)
    rates = (0.01, 0.02, 0.03)
    train(train_spec(**FEW_STEPS | {"lr": rates}, objective="own"), digits, tmp_path)
    card = read_card(tmp_path)
    assert (card["lr"], card["validation_score"]) == (rates[scores.index(-3.0)], pytest.approx(-3.0))


def test_an_objective_gets_as_many_views_as_the_recipe_has(
    digits: Path, tmp_path: Path, install: Callable[[Objective], None]
) -> None:
    batches: list[tuple[bool, Tensor]] = []

    def loss(
        classifier: nn.Module, view: View, images: Tensor, labels: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> Any:
        batches.append((classifier.training, images))
        assert len(labels) == len(sigma)
        one = images if images.ndim == 4 else images[0]
        assert one.shape == (len(labels), 3, 8, 8)
        return cross_entropy.loss(classifier, view, one, labels, sigma, generator)

    install(loss)
    for views in (1, 2):
        batches.clear()
        train(train_spec(**FEW_STEPS, objective="own", views=views, augment=["flip"]), digits, tmp_path / str(views))
        assert {training for training, _ in batches} == {True, False}
        assert {images.ndim for _, images in batches} == {3 + views}
    for _, images in batches:  # each view is flipped by a draw of its own
        assert len(images) == 2
        first, second = images
        alike = (first == second).flatten(1).all(1)
        assert (alike | (first == second.flip(-1)).flatten(1).all(1)).all()
        assert 0.3 < alike.float().mean() < 0.7


@pytest.mark.parametrize("views", [1, 2])
def test_training_and_validation_see_the_enlarged_images(
    tmp_path: Path, install: Callable[[Objective], None], views: int
) -> None:
    source = {"kind": "digits", "seed": 0, "test": 300}
    spec = {"source": source, "size": 10, "stored": 8, "resize": 12, "validation": 0.1, "seed": 0}
    prepare(spec, tmp_path / "set", tmp_path)
    split, seen = open_split(tmp_path / "set", "train"), list[tuple[bool, Tensor]]()

    def loss(classifier: nn.Module, view: View, images: Tensor, labels: Tensor, *rest: Any) -> Any:
        batch = images if images.ndim == 4 else images[-1]
        seen.append((classifier.training, batch))
        return cross_entropy.loss(classifier, view, batch, labels, *rest)

    install(loss)
    train(train_spec(**FEW_STEPS, objective="own", views=views), tmp_path / "set", tmp_path / "out")
    assert {training for training, _ in seen} == {True, False}
    assert torch.equal(seen[0][1], split.batch(batch_indices(len(split), 512, 0, 0))[0])
    assert torch.equal(seen[-1][1], open_split(tmp_path / "set", "validation").batch(range(150))[0])


def test_two_processes_train_what_one_does(digits: Path, tmp_path: Path) -> None:
    spec = train_spec(**FEW_STEPS, processes=2)
    launch("train", "--spec", spec.text, "--data", digits, "--out", tmp_path / "two")
    train(train_spec(**FEW_STEPS), digits, tmp_path / "one")
    one = tensors_of(tmp_path / "one")
    for name, tensor in tensors_of(tmp_path / "two").items():  # clean images: the same batches, summed in another order
        torch.testing.assert_close(tensor, one[name], atol=1e-6, rtol=1e-5)
    card, other = read_card(tmp_path / "two"), read_card(tmp_path / "one")
    assert card["test"]["images"] == 300
    assert math.isclose(card["test"]["correct"], other["test"]["correct"], abs_tol=1)


def test_the_card_of_two_processes_is_of_the_network_that_is_saved(digits: Path, tmp_path: Path) -> None:
    """Each process's BatchNorm has statistics of its own."""
    batch_norm = NETWORK.model_copy(update={"norm": "batch"}).dump()
    spec = train_spec(**FEW_STEPS, processes=2, network=batch_norm, sigmas=[0.0, 0.25])
    launch("train", "--spec", spec.text, "--data", digits, "--out", tmp_path)
    network, card = weights.load(tmp_path)
    one = Accelerator(cpu=True)
    assert card["test"]["correct"] == loop.count_correct(one, network, open_split(digits, "test"))
    assert card["validation_score"] == loop.validate(one, Task(spec), network, open_split(digits, "validation"))


def test_a_state_of_other_weights_is_not_gone_on_with(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        train(train_spec(**FEW_STEPS, seed=seed), digits, tmp_path / f"upstream{seed}")
    made = train_spec(trainable="head", network=None)
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(made, digits, tmp_path / "out", tmp_path / "upstream1", checkpoint_seconds=0)
    train(made, digits, tmp_path / "out", tmp_path / "upstream2")
    train(made, digits, tmp_path / "whole", tmp_path / "upstream2")
    assert same(tmp_path / "out", tmp_path / "whole")
