import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.conftest import NETWORK, ROOT
from transmooth import provenance
from transmooth.checkpoint import resume, weights
from transmooth.checkpoint.card import read_card
from transmooth.data.loader import open_split
from transmooth.runtime import shutdown
from transmooth.training import loop, save_points
from transmooth.training.loop import train
from transmooth.training.save_points import SavePoints
from transmooth.training.schedule import learning_rate

# A sum in another order differs in its last bits, and training multiplies that: compare after few steps.
FEW_STEPS: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "batch": 512, "optimizer": "sgd", "lr": [0.01]}


def spec(**changes: Any) -> dict[str, Any]:
    schedule = {
        "epochs": 3,
        "warmup_epochs": 1,
        "batch": 64,
        "lr": [0.003],
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "precision": "fp32",
        "accumulate": 1,
        "processes": 1,
    }
    made = {
        "objective": "cross_entropy",
        "options": {},
        "sigmas": [0.0],
        "trainable": "all",
        "augment": [],
        "network": NETWORK,
        "seed": 0,
    }
    return (
        made
        | {"training": schedule | {k: v for k, v in changes.items() if k in schedule}}
        | {k: v for k, v in changes.items() if k not in schedule}
    )


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return weights.load(folder)[0].state_dict()


def same(first: Path, second: Path) -> bool:
    a, b = tensors_of(first), tensors_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Callable[..., torch.Tensor]:
    """Interrupt every training after so many steps; returns the real step."""
    real, calls = loop.train_step, 0

    def killed(*arguments: Any) -> torch.Tensor:
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
    train(spec(epochs=8, lr=[0.02]), digits, tmp_path)
    card = read_card(tmp_path)
    assert card["test"]["images"] == 300
    assert card["test"]["correct"] > 240
    lines = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert list(lines["epoch"]) == list(range(1, 9))
    assert lines["loss"].iloc[-1] < lines["loss"].iloc[0] / 3
    assert card["validation_accuracy"] == pytest.approx(lines["validation_accuracy"].iloc[-1])


def test_a_checkpoint_that_snakemake_removed_is_there_again_unless_the_sources_changed(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    real = loop.train_step

    def counted(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    train(spec(epochs=2), digits, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "whole")
    first = steps
    for outputs in ("model.safetensors", "model.json", "metrics.jsonl"):
        (tmp_path / "out" / outputs).unlink()
    train(spec(epochs=2), digits, tmp_path / "out")
    assert same(tmp_path / "whole", tmp_path / "out")
    assert steps == first
    (tmp_path / "out" / "model.json").unlink()
    monkeypatch.setattr(provenance, "sources", lambda: "others")
    train(spec(epochs=2), digits, tmp_path / "out")
    assert same(tmp_path / "whole", tmp_path / "out")
    assert steps == 2 * first


class Clocked:
    """Processes that meet: one with a clock of its own, the others as given to `reduce`."""

    device = torch.device("cpu")

    def __init__(self, processes: int, others: Sequence[float] = (0, 0, 0)) -> None:
        self.num_processes, self.others, self.met = processes, torch.tensor(others, dtype=torch.float64), 0

    def reduce(self, mine: torch.Tensor) -> torch.Tensor:
        self.met += 1
        return mine + self.others


@pytest.mark.parametrize("step_seconds", [0.01, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_than_the_limit_is_ever_unsaved(
    monkeypatch: pytest.MonkeyPatch, step_seconds: float, processes: int
) -> None:
    limit, now, saved, unsaved, saves = 60.0, 0.0, 0.0, 0.0, 0
    monkeypatch.setattr(save_points.time, "monotonic", lambda: now)
    accelerator = Clocked(processes, (0, 0, step_seconds * (processes - 1)))
    points = SavePoints(accelerator, limit)  # type: ignore[arg-type]
    for _ in range(2000):
        now += step_seconds
        unsaved = max(unsaved, now - saved)
        due, told = points.save(saved, told=False)
        assert not told
        if due:
            saved, saves = now, saves + 1
    assert unsaved <= max(limit, step_seconds)
    assert saves <= 2000 * step_seconds / (0.8 * limit) or step_seconds > limit / 10  # nor much more often
    assert accelerator.met <= 2200 * max(1 / 20, step_seconds / (limit / 10)) + 2


def test_one_process_that_is_told_ends_all() -> None:
    assert SavePoints(Clocked(2, (0, 1, 1)), 60.0).save(save_points.time.monotonic(), told=False) == (True, True)  # type: ignore[arg-type]
    assert SavePoints(Clocked(1), 60.0).save(save_points.time.monotonic(), told=True) == (True, True)  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [3, 20, 40])
@pytest.mark.parametrize("changes", [{"sigmas": [0.0, 0.5]}, {"optimizer": "sgd", "accumulate": 2, "lr": [0.01, 0.1]}])
def test_a_resumed_run_equals_an_uninterrupted_one(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, changes: dict[str, Any]
) -> None:
    made = spec(epochs=2, **changes)
    train(made, digits, tmp_path / "whole")
    real = stop_after(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        train(made, digits, tmp_path / "stopped", checkpoint_seconds=0)
    assert (tmp_path / "stopped" / "resume.pt").exists()
    assert not (tmp_path / "stopped" / "model.json").exists()
    steps = 0

    def counted(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    train(made, digits, tmp_path / "stopped")
    assert same(tmp_path / "whole", tmp_path / "stopped")
    history = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert steps == whole[-1]["step"] * len(made["training"]["lr"]) - stop  # it did go on, not begin anew
    for line in history + whole:
        del line["images_per_second"]
    assert history == whole


def test_who_is_told_to_end_saves_first(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec(epochs=2)
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
    command = [sys.executable, "-m", "transmooth", "job", "train", "--spec", json.dumps(spec(epochs=100_000))]
    command += ["--data", str(digits), "--out", str(tmp_path / "out"), "--checkpoint-seconds", "1000000"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()  # it has begun
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["resume.pt"]


def test_a_finished_training_is_not_redone_for_its_last_evaluation(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        real = loop.evaluate
        patched.setattr(
            loop, "evaluate", lambda a, n, split, *more: killed() if len(split) == 300 else real(a, n, split, *more)
        )
        with pytest.raises(KeyboardInterrupt):
            train(spec(), digits, tmp_path)
    stop_after(monkeypatch, 0)
    train(spec(), digits, tmp_path)
    assert read_card(tmp_path)["test"]["images"] == 300


def test_the_time_between_saves_is_not_that_of_a_clock_which_jumps(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Path] = []
    monkeypatch.setattr(resume, "save_state", lambda path, state: saves.append(path))
    jumps = itertools.cycle([0.0, 4e9, 2e9])
    monkeypatch.setattr("time.time", lambda: next(jumps))
    train(spec(), digits, tmp_path, checkpoint_seconds=1000)
    assert len(saves) == 2  # of the learning rate, and at the end


def test_the_best_learning_rate_on_the_validation_split_is_kept(digits: Path, tmp_path: Path) -> None:
    train(spec(lr=[1e-6, 0.003, 1e-5]), digits, tmp_path / "list")
    train(spec(lr=[0.003]), digits, tmp_path / "alone")
    assert read_card(tmp_path / "list")["lr"] == 0.003
    assert same(tmp_path / "list", tmp_path / "alone")


def test_accumulation_gives_the_gradient_of_the_whole_batch(digits: Path, tmp_path: Path) -> None:
    for accumulate in (1, 2, 4):
        made = spec(**FEW_STEPS, accumulate=accumulate)
        train(made, digits, tmp_path / str(accumulate))
    whole = tensors_of(tmp_path / "1")
    for accumulate in (2, 4):
        for name, tensor in tensors_of(tmp_path / str(accumulate)).items():
            torch.testing.assert_close(tensor, whole[name], atol=1e-6, rtol=1e-5)


def test_transfer_keeps_the_features_and_replaces_the_head(digits: Path, tmp_path: Path) -> None:
    train(spec(), digits, tmp_path / "upstream")
    downstream = spec(trainable="head") | {"seed": 5}
    del downstream["network"]
    train(downstream, digits, tmp_path / "downstream", init=tmp_path / "upstream")
    before, after = tensors_of(tmp_path / "upstream"), tensors_of(tmp_path / "downstream")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}
    card, upstream = read_card(tmp_path / "downstream"), read_card(tmp_path / "upstream")
    assert card["init"] == upstream["weights_sha256"]
    assert card["mean"] == upstream["mean"]


def test_the_wrong_number_of_processes_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"1 process\(es\) started, but the params say processes: 2"):
        train(spec(processes=2), digits, tmp_path)


def launch(made: dict[str, Any], data: Path, out: Path) -> None:
    command = ["accelerate", "launch", "--config_file", str(ROOT / "workflow/accelerate/local.yaml")]
    command += ["--num_processes", "2", "-m", "transmooth", "job", "train", "--spec", json.dumps(made)]
    command += ["--data", str(data), "--out", str(out)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def test_two_processes_train_what_one_does(digits: Path, tmp_path: Path) -> None:
    launch(spec(**FEW_STEPS, processes=2), digits, tmp_path / "two")
    train(spec(**FEW_STEPS), digits, tmp_path / "one")
    one = tensors_of(tmp_path / "one")
    for name, tensor in tensors_of(tmp_path / "two").items():  # clean images: the same batches, summed in another order
        torch.testing.assert_close(tensor, one[name], atol=1e-6, rtol=1e-5)
    card, other = read_card(tmp_path / "two"), read_card(tmp_path / "one")
    assert card["test"]["images"] == 300
    assert math.isclose(card["test"]["correct"], other["test"]["correct"], abs_tol=1)


def test_the_card_of_two_processes_is_of_the_network_that_is_saved(digits: Path, tmp_path: Path) -> None:
    """Each process's BatchNorm has statistics of its own."""
    made = spec(**FEW_STEPS, processes=2)
    made["network"] = made["network"] | {"norm": "batch"}
    launch(made, digits, tmp_path)
    network, card = weights.load(tmp_path)
    images, labels = open_split(digits, "test").batch(range(300))
    with torch.inference_mode():
        assert int((network(images).argmax(1) == labels).sum()) == card["test"]["correct"]


def test_a_state_of_other_weights_is_not_gone_on_with(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        train(spec(**FEW_STEPS) | {"seed": seed}, digits, tmp_path / f"upstream{seed}")
    made = spec(trainable="head")
    del made["network"]
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(made, digits, tmp_path / "out", tmp_path / "upstream1", checkpoint_seconds=0)
    train(made, digits, tmp_path / "out", tmp_path / "upstream2")
    train(made, digits, tmp_path / "whole", tmp_path / "upstream2")
    assert same(tmp_path / "out", tmp_path / "whole")
