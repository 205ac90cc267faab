"""The figure of courses: a metric of the training images over the epochs of each row's last stage."""

from pathlib import Path

import pandas as pd

from transmooth import files
from transmooth.report.figures import line_chart
from transmooth.report.training import read_course
from transmooth.specs import CourseReportSpec


def write_course(spec: CourseReportSpec, results: Path, out: Path) -> None:
    """Write `out`.csv, .svg and .png of a metric, from the cards and metrics of the runs below `results`.

    Raises ValueError, naming the file, for metrics that are damaged or have no such metric.
    """
    courses = {
        (row.name, each.run.seed): course(results / "train" / each.run.path, spec.metric)
        for row in spec.rows
        for (each,) in row.runs
    }
    lines = pd.concat(courses, names=["row", "seed"]).rename("value").reset_index()
    files.write_text(out.with_suffix(".csv"), lines.to_csv(index=False, float_format="%.6g"))
    curves = pd.concat(courses, axis="columns").droplevel(1, axis="columns")
    line_chart(spec.title, [("", curves)], "epoch", label(spec.metric), out)


def course(folder: Path, metric: str) -> "pd.Series[float]":
    """Return a metric by epoch, of the learning rate that was kept.

    metric: `loss`, or what metrics.jsonl has as `train_<metric>`.
    """
    lines = read_course(folder)
    known = {name.removeprefix("train_"): name for name in lines if name == "loss" or name.startswith("train_")}
    if metric not in known:
        raise ValueError(f"{folder / 'metrics.jsonl'}: has no metric {metric!r}, there is {', '.join(known) or 'none'}")
    return lines.set_index("epoch")[known[metric]]


def label(metric: str) -> str:
    """Return what the values are called."""
    return f"{metric}, training images"
