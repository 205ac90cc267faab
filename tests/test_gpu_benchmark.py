"""benchmarks/gpu.py: every part of it runs, on a CPU and at tiny sizes, so that a lent GPU is not lost to a slip."""

import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import Parts, measure
from benchmarks.waits import waits
from tests.conftest import ROOT
from tests.helpers.processes import ENVIRONMENT
from transmooth.smoothing.engine import Engine
from transmooth.smoothing.sampler import Sampler

MAY_BE_NONE = {"waits", "moved_predictions"}


def numbers(found: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield from numbers(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from numbers(value, key)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield key, found


def test_all_parts_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick"]
    command += ["--json", str(tmp_path / "gpu.json")]
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["failed"] == {}, run.stdout
    assert report["left_out"] == []
    parts = report["parts"]
    assert {name.split()[0] for name in parts} == {"peaks", "equal", "waits", "training", "eager", "end", "graphs"}
    for name, part in parts.items():
        found = list(numbers(part))
        assert len(found) > 3, name
        assert all(math.isfinite(value) and (value > 0 or key in MAY_BE_NONE) for key, value in found), found
    assert all(parts["equal counts"][precision]["equal"] for precision in ("fp32", "tf32", "bf16"))
    assert parts["equal counts"]["fp32"]["predicted_classes"] > 1
    rates = parts["eager resnet20"]["evaluations_per_second_by_batch"]
    assert rates.keys() == {"cohen_fp32", "cohen_tf32", "eager_fp32", "eager_tf32", "eager_bf16"}


def test_parts_that_fail_or_do_not_fit_are_told(tmp_path: Path) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no memory")

    parts: Parts = {"broken": (0, broken), "long": (60, dict), "short": (0, lambda: {"peak_tflop_per_second": 2.0})}
    report: dict[str, Any] = {"parts": {}, "failed": {}, "left_out": list(parts)}
    measure(parts, report, tmp_path / "gpu.json", time.monotonic() + 30)
    assert report == json.loads((tmp_path / "gpu.json").read_text())
    assert report["failed"] == {"broken": "RuntimeError: no memory"}
    assert report["left_out"] == ["long"]
    assert report["parts"].keys() == {"short"}


def test_a_wait_is_told_by_the_line_of_transmooth() -> None:
    def run(noisy: torch.Tensor) -> torch.Tensor:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return noisy.flatten(1)

    engine = Engine(run, "eager", 2, "fp32", torch.device("cpu"))
    sampler = Sampler(engine, lambda index: torch.zeros(3, 2, 2), 0.5)
    with waits(torch.device("cpu")) as found:
        sampler(0, np.array([0]), np.array([0]), np.array([6]))
        warnings.warn("another", stacklevel=1)
    ((line, count),) = found.items()
    assert line.startswith("smoothing/sampler.py:")
    assert count == 3
