"""Training curves: of one run, and of all in one CSV with a column for each, as `dvc plots` wants them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from transmooth import files
from transmooth.checkpoint.card import read_card


def write_training(runs: Sequence[Path], out: Path) -> None:
    """Write the validation score by `epoch`, a column for each checkpoint folder, at the learning rate that it kept.

    Raises ValueError, naming the file, for one that is damaged.
    """
    columns = {}
    for run in runs:
        if len(lines := read_course(run)):
            columns[str(run)] = lines.set_index("epoch")["validation_score"]
    files.write_text(out, pd.DataFrame(columns).rename_axis("epoch").to_csv(float_format="%.4f"))


def read_course(run: Path) -> pd.DataFrame:
    """Return the lines of a checkpoint folder's metrics.jsonl that are of the learning rate that it kept.

    There is none, and no column, where nothing was trained.  Raises ValueError, naming the file, for a damaged one.
    """
    path, made = run / "metrics.jsonl", read_card(run)
    if made.get("metrics_sha256", found := files.sha256(path)) != found:
        raise ValueError(
            f"{path}: damaged: its SHA-256 is not the one in the card; remove it, and the same command trains again"
        )
    if made["lr"] is None:
        return pd.DataFrame()
    lines = pd.read_json(path, lines=True, precise_float=True)  # or 0.0003 is another number than in the card
    return lines[lines["lr"] == made["lr"]]
