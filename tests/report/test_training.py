"""Training curves of a study in one file."""

import json
from pathlib import Path

import pandas as pd

from transmooth.checkpoint.card import write_card
from transmooth.report.training import write_training

RATES = (0.1, 0.2, 0.0003)


def run(folder: Path, kept: float | None) -> Path:
    """A checkpoint folder with curves of three learning rates, one of them kept; none where nothing was trained."""
    lines = [{"lr": lr, "epoch": e, "validation_score": lr + e} for lr in RATES for e in (1, 2)]
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines if kept else [])))
    write_card(folder, {"lr": kept})
    return folder


def test_training_curves_are_those_of_the_kept_learning_rate(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(lr), lr) for lr in (*RATES, None)]
    write_training(runs, tmp_path / "out.csv")
    read = pd.read_csv(tmp_path / "out.csv", index_col="epoch")
    assert read.to_dict("list") == {
        str(runs[0]): [1.1, 2.1],
        str(runs[1]): [1.2, 2.2],
        str(runs[2]): [1.0003, 2.0003],
    }


def test_where_nothing_was_trained_there_are_no_curves(tmp_path: Path) -> None:
    write_training([run(tmp_path / "untrained", None)], tmp_path / "out.csv")
    read = pd.read_csv(tmp_path / "out.csv")
    assert read.to_dict("list") == {"epoch": []}
