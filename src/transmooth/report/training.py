"""Training curves of all runs in one CSV, a column for each run, as `dvc plots` wants them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from transmooth import files


def write_training(runs: Sequence[Path], out: Path) -> None:
    """Validation accuracy by `epoch`, a column for each checkpoint folder, at the learning rate that it kept."""
    columns = {}
    for run in runs:
        lines = pd.read_json(run / "metrics.jsonl", lines=True)
        kept = json.loads((run / "model.json").read_text(encoding="utf-8"))["lr"]
        columns[str(run)] = lines[lines["lr"] == kept].set_index("epoch")["validation_accuracy"]
    files.write_text(out, pd.DataFrame(columns).to_csv(float_format="%.4f"))
