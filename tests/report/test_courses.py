"""The figure of a metric over the epochs of trainings."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.helpers.page import charts_of, read_page
from tests.helpers.report import evaluated, row_spec, run_spec, write_clean
from transmooth.report import figures
from transmooth.report.courses import write_course
from transmooth.report.page.page import Page, render
from transmooth.report.page.sections import course_section
from transmooth.specs import CourseReportSpec, EvaluatedSpec


def trained(results: Path, text: str, seed: int, full: list[float], kept: float = 0.2) -> EvaluatedSpec:
    """A run of two learning rates: of 0.2 with these shares by epoch, of 0.1 with others."""
    each = evaluated(run_spec(text, seed))
    lines = [
        {
            "lr": lr,
            "epoch": epoch,
            "loss": 9.0 - epoch,
            "train_score": -share,
            "train_full": share if lr == 0.2 else share / 2,
        }
        | {"validation_score": 0.5}
        for lr in (0.1, 0.2)
        for epoch, share in enumerate(full, 1)
    ]
    text = "\n".join(map(json.dumps, lines))
    card: dict[str, Any] = {"lr": kept, "metrics_sha256": hashlib.sha256(text.encode()).hexdigest()}
    (write_clean(results, each.run, 7, **card) / "metrics.jsonl").write_text(text)
    return each


@pytest.fixture
def spec(tmp_path: Path) -> CourseReportSpec:
    """One row of two seeds, and one of one seed that kept the other learning rate."""
    seeds = [trained(tmp_path, "net/a@down", seed, [0.5 + seed / 4, 1.0]) for seed in (0, 1)]
    other = trained(tmp_path, "net/b@down", 0, [0.5, 0.75, 1.0], kept=0.1)
    rows = (row_spec("a", *([each] for each in seeds)), row_spec("b", [other], block="one"))
    return CourseReportSpec(name="course", title="Course", caption="How it went.", metric="full", rows=rows)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is drawn: the axes of each figure."""
    made: list[Any] = []
    save = figures._save

    def saved(figure: Any, title: str, out: Path) -> None:
        made.extend(figure.axes)
        save(figure, title, out)

    monkeypatch.setattr(figures, "_save", saved)
    return made


def test_each_seed_has_a_line_of_the_learning_rate_that_was_kept(tmp_path: Path, spec: CourseReportSpec) -> None:
    write_course(spec, tmp_path, tmp_path / "figures" / "course")
    lines = pd.read_csv(tmp_path / "figures" / "course.csv")
    assert lines.columns.tolist() == ["row", "seed", "epoch", "value"]
    assert lines.to_numpy().tolist() == [
        ["a", 0, 1, 0.5],
        ["a", 0, 2, 1.0],
        ["a", 1, 1, 0.75],
        ["a", 1, 2, 1.0],
        ["one: b", 0, 1, 0.25],
        ["one: b", 0, 2, 0.375],
        ["one: b", 0, 3, 0.5],
    ]
    assert (tmp_path / "figures" / "course.svg").read_text().startswith("<?xml")
    assert (tmp_path / "figures" / "course.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_are_thin_lines_below_their_mean(tmp_path: Path, spec: CourseReportSpec, drawn: list[Any]) -> None:
    write_course(spec, tmp_path, tmp_path / "course")
    (axis,) = drawn
    lines = [(line.get_label(), line.get_ydata().tolist()[:2], line.get_linewidth() < 1) for line in axis.lines]
    thin, named = [each for each in lines if each[2]], [each for each in lines if not each[2]]
    assert [values for _, values, _ in thin] == [[0.5, 1.0], [0.75, 1.0]]
    assert [(name, values) for name, values, _ in named] == [("a", [0.625, 1.0]), ("one: b", [0.25, 0.375])]
    assert axis.get_ylabel() == "full, training images"
    assert axis.get_ylim()[0] == 0


@pytest.mark.parametrize(("metric", "values"), [("loss", [8.0, 7.0]), ("score", [-0.5, -1.0])])
def test_a_metric_is_the_loss_or_one_of_the_objective(
    tmp_path: Path, spec: CourseReportSpec, drawn: list[Any], metric: str, values: list[float]
) -> None:
    write_course(spec.model_copy(update={"metric": metric}), tmp_path, tmp_path / "course")
    lines = pd.read_csv(tmp_path / "course.csv").query("row == 'a' and seed == 0")
    assert lines["value"].tolist() == values
    assert drawn[0].get_ylim()[0] < min(values)  # what is below 0 can be seen


@pytest.mark.parametrize("metric", ["ful", "train_full", "validation_score", "lr"])
def test_a_metric_that_there_is_none_of_is_told_with_those_that_there_are(
    tmp_path: Path, spec: CourseReportSpec, metric: str
) -> None:
    told = rf"net/a@down/0/metrics.jsonl: has no metric '{metric}', there is loss, score, full$"
    with pytest.raises(ValueError, match=told):
        write_course(spec.model_copy(update={"metric": metric}), tmp_path, tmp_path / "course")
    assert not list(tmp_path.glob("course.*"))


def test_damaged_metrics_are_refused_by_name(tmp_path: Path, spec: CourseReportSpec) -> None:
    path = tmp_path / "train" / "net/a@down/1" / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.75", "0.76"))
    with pytest.raises(
        ValueError, match=r"net/a@down/1/metrics\.jsonl: damaged: its SHA-256 is not the one in the card"
    ):
        write_course(spec, tmp_path, tmp_path / "course")


def test_the_page_has_the_mean_over_the_seeds(tmp_path: Path, spec: CourseReportSpec) -> None:
    write_course(spec, tmp_path, tmp_path / "figures" / "course")
    section = course_section(spec, tmp_path)
    assert section.notes == "Mean of 2 seeds."
    assert all((tmp_path / link).is_file() for link in section.links)
    (tmp_path / "page.html").write_text(render(Page("T", "S", {}, figures=[section])))
    parsed = read_page(tmp_path / "page.html")
    assert "How it went. Mean of 2 seeds." in parsed.text_of("p")
    curves = charts_of(parsed)["chart-course"]["data"]["values"]
    assert [(curve["curve"], curve["epoch"], curve["full, training images"]) for curve in curves] == [
        ("a", [1, 2], [0.625, 1.0]),
        ("one: b", [1, 2, 3], [0.25, 0.375, 0.5]),
    ]
