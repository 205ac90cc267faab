"""What predict prints."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.calls import call
from transmooth.evaluation import test_indices as positions


def test_predict_prints_a_line_for_each_image(model: Path, digits: Path) -> None:
    shown = call("predict", model, digits, "--sigma", 0.1, "--n", 50, "--images", 20).stdout.splitlines()
    assert shown[0] == "index\tlabel\tprediction"
    lines = np.array([line.split("\t") for line in shown[1:]], int)
    assert lines[:, 0].tolist() == positions(300, 20).tolist()
    assert set(lines[:, 2]) <= set(range(-1, 10))
    assert len(set(lines[:, 2])) > 1


def test_predict_draws_fresh_noise_unless_it_is_given_a_seed(model: Path, digits: Path) -> None:
    def answers(*seed: Any) -> str:
        return str(call("predict", model, digits, "--sigma", 0.5, "--n", 3, "--alpha", 0.5, *seed).stdout)

    assert answers() != answers()  # unanimous or not: 3 votes on each of 300 images
    assert answers("--seed", 7) == answers("--seed", 7)
