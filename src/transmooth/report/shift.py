"""The table and the figure of feature shifts: see evaluation/shift.py."""

from pathlib import Path

import pandas as pd

from transmooth import files
from transmooth.records import table as records
from transmooth.report.figures import line_chart
from transmooth.report.tables import markdown_table
from transmooth.specs import ShiftReportSpec

CAUSES = ("statistics", "finetuning")


def write_shift(spec: ShiftReportSpec, results: Path, out: Path, figure: Path) -> None:
    """Write `out`.csv and `out`.md and `figure`.svg, .png of shifts from the records below `results`."""
    frames, images = [], set[int]()
    for row in spec.rows:
        for path in (each.path for runs in row.runs for run in runs for each in run.records if each.kind == "shift"):
            frames.append(records.unseal(results / path).to_pandas().assign(row=row.name))
            images.add(records.metadata(results / path)["spec"]["images"])
    lines = pd.concat(frames, ignore_index=True)
    mean = lines.groupby(["row", "cause", "sigma", "layer", "depth"], sort=False, as_index=False)["shift"].mean()
    mean = mean.assign(images=max(images))
    files.write_text(out.with_suffix(".csv"), mean.to_csv(index=False, float_format="%.6g"))
    files.write_text(out.with_suffix(".md"), markdown(spec, mean))
    panels = []
    for cause in CAUSES:
        shown = mean[(mean["cause"] == cause) & (mean["sigma"] == 0)]
        curves = {label: group.set_index("depth")["shift"] for label, group in shown.groupby("row", sort=False)}
        panels.append((f"by {cause}, clean images", pd.DataFrame(curves)))
    line_chart(spec.title, panels, "normalisation layer, from the input", "shift", figure)


def markdown(spec: ShiftReportSpec, mean: pd.DataFrame) -> str:
    """Return the table of the mean over the layers, by cause and row."""
    table = mean.groupby(["row", "cause", "sigma"], sort=False)["shift"].mean()
    sigmas = sorted(set(mean["sigma"]))
    head = ["", "moved by", *(f"σ = {sigma:g}" for sigma in sigmas)]
    rows = [
        [name, cause, *(f"{table[at]:.3f}" if (at := (name, cause, sigma)) in table.index else "–" for sigma in sigmas)]
        for cause in CAUSES
        for name in (row.name for row in spec.rows)
    ]
    parts = [f"# {spec.title}", spec.caption, note(mean), markdown_table(head, rows)]
    return "\n\n".join(parts) + "\n"


def note(mean: pd.DataFrame) -> str:
    """Return what the numbers of a table of shifts are."""
    return f"Mean over the layers, {mean['images'].max()} test images; 0: nothing moves, 1: as much as there is."
