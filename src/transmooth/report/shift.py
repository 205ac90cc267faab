"""The table and the figure of a distribution gap: see evaluation/shift.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from transmooth import files
from transmooth.checkpoint import weights
from transmooth.data import open_split
from transmooth.evaluation.shift import measure
from transmooth.report.figures import line_chart
from transmooth.report.tables import markdown_table


def write_gap(spec: Mapping[str, Any], results: Path, data: Mapping[str, Path], out: Path, figure: Path) -> None:
    """Write `out`.csv and `out`.md and `figure`.svg, .png for a gap's spec from the checkpoints below `results`.

    data: dataset -> prepared folder.
    """
    frames = []
    for row in spec["rows"]:
        for run in row["runs"]:
            before, _ = weights.load(results / "pretrain" / run["pretrain"] / str(run["seed"]))
            after, _ = weights.load(results / "finetune" / run["path"])
            folder = data[run["dataset"]]
            train, test = open_split(folder, "train"), open_split(folder, "test")
            frame = measure(before, after, train, test, spec["sigmas"], spec["images"], run["seed"])
            frames.append(frame.assign(row=row["label"], seed=run["seed"]))
    lines = pd.concat(frames, ignore_index=True)
    mean = lines.groupby(["row", "cause", "sigma", "layer", "depth"], sort=False, as_index=False)["gap"].mean()
    files.write_text(out.with_suffix(".csv"), mean.to_csv(index=False, float_format="%.6g"))
    files.write_text(out.with_suffix(".md"), _markdown(spec, mean))
    panels = []
    for cause in ("statistics", "finetuning"):
        shown = mean[(mean["cause"] == cause) & (mean["sigma"] == 0)]
        curves = {label: group.set_index("depth")["gap"] for label, group in shown.groupby("row", sort=False)}
        panels.append((f"by {cause}, clean images", pd.DataFrame(curves)))
    line_chart(spec["title"], panels, "normalisation layer, from the input", "gap", figure)


def _markdown(spec: Mapping[str, Any], mean: pd.DataFrame) -> str:
    table = mean.groupby(["row", "cause", "sigma"], sort=False)["gap"].mean()
    head = ["", "moved by", *(f"σ = {sigma:g}" for sigma in spec["sigmas"])]
    rows = [
        [row["label"], cause, *(f"{table[row['label'], cause, sigma]:.3f}" for sigma in spec["sigmas"])]
        for cause in ("statistics", "finetuning")
        for row in spec["rows"]
    ]
    note = f"Mean over the layers, {spec['images']} test images; 0: nothing moves, 1: as much as there is."
    return "\n\n".join([f"# {spec['title']}", spec["caption"], note, markdown_table(head, rows)]) + "\n"
