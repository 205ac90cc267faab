"""Trackers: each gets the lines of metrics.jsonl, and nothing depends on it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.tracking
import pytest
from accelerate.utils import LoggerType

from tests.helpers.calls import fault
from tests.helpers.checkpoints import same
from tests.helpers.specs import train_spec
from transmooth.params.messages import ParamsError
from transmooth.params.present import check_tracker
from transmooth.training.loop import train


class FakeWandb:
    """The part of wandb that Accelerate calls."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.lines: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0
        self.config: dict[str, Any] = {}

    def init(self, **settings: Any) -> Any:
        self.started.append(settings)

        def finish() -> None:
            self.finished += 1

        return SimpleNamespace(log=lambda values, step: self.lines.append((step, values)), finish=finish)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType.WANDB])
    return fake


def test_a_tracker_gets_the_lines_of_the_metrics_and_changes_no_weights(
    digits: Path, tmp_path: Path, wandb: FakeWandb
) -> None:
    made = train_spec(epochs=1, warmup_epochs=0, batch=512, lr=[0.003, 0.001])
    train(made, digits, tmp_path / "plain")
    assert not wandb.started
    train(made, digits, tmp_path / "tracked", tracker="wandb")
    lines = [json.loads(line) for line in (tmp_path / "tracked" / "metrics.jsonl").read_text().splitlines()]
    # W&B refuses steps that go back, as those of a second learning rate would: epochs are counted over all of them.
    assert wandb.lines == list(enumerate(lines, start=1))
    assert len(lines) == 2
    assert wandb.started == [{"project": "transmooth", "name": "tracked"}]
    assert json.loads(wandb.config["spec"]) == made.dump()
    assert wandb.finished == 1
    assert same(tmp_path / "plain", tmp_path / "tracked")


def test_a_run_of_a_study_is_named_by_its_path(digits: Path, tmp_path: Path, wandb: FakeWandb) -> None:
    path = "layer_norm/clean@downstream/0"
    run = {"network": "layer_norm", "stages": ["clean@downstream"], "seed": 0, "dataset": "digits", "path": path}
    train(train_spec(epochs=0, warmup_epochs=0, run=run), digits, tmp_path, tracker="wandb")
    assert wandb.started[0]["name"] == path


def test_a_tracker_that_is_not_installed_ends_a_job_before_it_begins(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transmooth.params.present.find_spec", lambda name: None)
    job = ["job", "train", "--spec", train_spec().text, "--data", digits, "--out", tmp_path / "out"]
    message = "--tracker: the package wandb is not installed: pip install wandb"
    assert fault(*job, "--tracker", "wandb") == f"transmooth: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_package_is_one_and_a_folder_of_its_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "mlflow").mkdir()  # as runs of W&B and MLflow leave one
    with pytest.raises(ParamsError, match=r"^smoke\.yaml: tracker: the package mlflow is not installed"):
        check_tracker("mlflow", "smoke.yaml: tracker")
    (tmp_path / "mlflow" / "__init__.py").touch()
    check_tracker("mlflow", "smoke.yaml: tracker")
    check_tracker(None, "smoke.yaml: tracker")
