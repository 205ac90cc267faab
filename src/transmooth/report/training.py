"""Training curves of all runs in one CSV, a column for each run, as `dvc plots` wants them."""

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
        path, made = run / "metrics.jsonl", read_card(run)
        if made.get("metrics_sha256", found := files.sha256(path)) != found:
            raise ValueError(
                f"{path}: damaged: its SHA-256 is not the one in the card; remove it, and the same command trains again"
            )
        if made["lr"] is None:  # it trained nothing
            continue
        lines = pd.read_json(path, lines=True)
        columns[str(run)] = lines[lines["lr"] == made["lr"]].set_index("epoch")["validation_score"]
    files.write_text(out, pd.DataFrame(columns).rename_axis("epoch").to_csv(float_format="%.4f"))
