"""What predict prints."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.calls import call, fault
from transmooth.evaluation import test_indices as positions
from transmooth.records import table as records


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


def test_nothing_is_printed_where_no_image_can_be_answered(model: Path, digits: Path) -> None:
    assert "n = 5 votes always abstain" in fault("predict", model, digits, "--sigma", 0.1, "--n", 5)
    assert "sigma must be a positive finite number" in fault("predict", model, digits, "--sigma", 0)


def test_of_several_sigmas_predict_prints_what_certify_certifies(model: Path, digits: Path, tmp_path: Path) -> None:
    several = ("--sigma", "0.5,0.1", "--threshold", "0.05,0", "--n", 60, "--alpha", 0.01, "--images", 20, "--seed", 3)
    shown = call("predict", model, digits, *several).stdout.splitlines()
    call("certify", model, digits, *several, "--method", "cascade", "--out", tmp_path / "r.parquet")
    answers = records.read(tmp_path / "r.parquet").to_pandas().drop_duplicates("index")
    whole = (answers["selected"] == answers["label"]).to_numpy()  # others certify gives up: it knows the labels
    predicted = np.array([int(line.split("\t")[2]) for line in shown[1:]])
    assert predicted[whole].tolist() == answers["prediction"][whole].tolist()
    assert len(set(predicted[whole])) > 2
    for sigma, thresholds in (("0.5", "0.1"), ("0.5,0.25", "0.1")):
        refused = fault("predict", model, digits, "--sigma", sigma, "--threshold", thresholds)
        assert "--threshold: one for each of several --sigma, found 1 for" in refused
    refused = fault("predict", model, digits, "--sigma", "0.5", "--method", "margin")
    assert "--method margin: is of several --sigma, found one" in refused
