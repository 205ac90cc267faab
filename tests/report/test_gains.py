"""Relative gains, their lines, and the figure of both."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.page import read_page
from tests.helpers.report import columns, evaluated, radii_as_rows, row_spec, run_spec, write_clean, write_records
from transmooth.report.figures import scatter_chart
from transmooth.report.gains import axis_label, fit_lines, mean_points, relative_gains, write_gains
from transmooth.report.page.page import Page, render
from transmooth.report.page.sections import gains_section
from transmooth.specs import GainsReportSpec, RowSpec

PUBLISHED = Path(__file__).parents[2] / "params" / "published.csv"
# Mean gains in x and y, slope and intercept of the line, and R² as the paper prints it.
PAPER = [
    ("Table 2", "AT", "AT", "robust_acc", (11.3816, 12.6197, 1.1224, -0.1555, 0.98)),
    ("Table 2", "AT", "SimCLR", "robust_acc", (14.0741, 9.9737, 0.9653, -3.6122, 0.94)),
    ("Table 3", "CR", "CR", "robust_acc", (7.0871, 7.5036, 1.2165, -1.1178, 0.92)),
    ("Table 3", "CR", "CR", "acr", (7.0871, 7.3161, 1.2754, -1.7227, 0.94)),
    ("Table 3", "CR", "SimCLR", "robust_acc", (9.8483, 9.0929, 0.9546, -0.3080, 0.89)),
    ("Table 3", "CR", "SimCLR", "acr", (9.8483, 6.8624, 1.0006, -2.9915, 0.86)),
]


def published(table: str, finetuned: str, y: str) -> pd.DataFrame:
    """The paper's own numbers as values of one seed."""
    frame = pd.read_csv(PUBLISHED, dtype={"value": float}, low_memory=False)
    frame = frame[(frame["paper"] == "transfer-study") & (frame["table"] == table)]
    frame = frame[frame["row"].str.contains(f"finetune={finetuned}")]
    wide = frame.pivot_table("value", ["dataset", "row"], "metric").reset_index()
    start = wide["row"].str.extract("pretrain=([^;]+)")[0]
    return pd.DataFrame({"task": wide["dataset"], "start": start, "seed": 0, "x": wide["standard_acc"], "y": wide[y]})


@pytest.mark.parametrize(("table", "finetuned", "start", "y", "expected"), PAPER)
def test_the_papers_tables_give_its_gains_and_lines(
    table: str, finetuned: str, start: str, y: str, expected: tuple[float, ...]
) -> None:
    values = published(table, finetuned, y)
    assert values["task"].nunique() == 12
    lines = fit_lines(mean_points(relative_gains(values, "none"))).set_index("start")
    line = lines.loc[start]
    assert line["tasks"] == 12
    np.testing.assert_allclose(line[["mean_x", "mean_y", "slope", "intercept"]].astype(float), expected[:4], atol=6e-5)
    assert round(line["r_squared"], 2) == expected[4]


def values(*rows: tuple[str, str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["task", "start", "seed", "x", "y"])


def test_gains_are_of_the_same_task_and_seed() -> None:
    made = relative_gains(
        values(("a", "none", 0, 50, 20), ("a", "s", 0, 60, 10), ("a", "none", 1, 40, 0), ("a", "s", 1, 40, 5)), "none"
    )
    assert made[["task", "start", "seed"]].to_numpy().tolist() == [["a", "s", 0], ["a", "s", 1]]
    np.testing.assert_allclose(made["x"], [20, 0])
    np.testing.assert_allclose(made["y"], [-50, np.nan])  # nothing is a share of 0
    mean = mean_points(made)
    np.testing.assert_allclose(mean[["x", "y", "x_sd", "y_sd"]].to_numpy(), [[10, -50, 200**0.5, np.nan]])


def test_two_tasks_have_no_line_and_three_have() -> None:
    points = pd.DataFrame({"start": "s", "x": [0.0, 1, 2], "y": [1.0, 3, 5]})
    assert fit_lines(points[:2])["r_squared"].isna().all()
    assert fit_lines(points.assign(x=1.0))["slope"].isna().all()
    line = fit_lines(points).loc[0]
    np.testing.assert_allclose(line[["slope", "intercept", "r_squared"]].astype(float), [2, 1, 1])
    assert fit_lines(points.assign(y=[1, 3, np.nan]))["tasks"].tolist() == [2]


@pytest.fixture
def spec(tmp_path: Path) -> GainsReportSpec:
    """Three tasks, on which the start `s` is right on 4, 6 and 8 of 10 images, `none` on 2; half are certified."""

    def row(task: str, label: str, right: int) -> RowSpec:
        run = evaluated(run_spec(f"net/{label}@{task}"), "certify")
        write_clean(tmp_path, run.run, right)
        radii = [0.5] * (right // 2) + [-1.0] * (10 - right // 2)
        write_records(tmp_path, run, radii_as_rows(radii, 0.5))
        return row_spec(label, [run], block=task)

    x, y = columns("clean", "certified@0.25")
    right = {(task, "none"): 2 for task in "abc"} | {("a", "s"): 4, ("b", "s"): 6, ("c", "s"): 8}
    rows = [row(*key, count) for key, count in right.items()]
    return GainsReportSpec(name="g", title="Gains", caption="By task.", x=x, y=y, against="none", rows=tuple(rows))


def test_a_figure_has_its_points_and_its_line(tmp_path: Path, spec: GainsReportSpec) -> None:
    write_gains(spec, tmp_path, tmp_path, tmp_path / "figures" / "g")
    points = pd.read_csv(tmp_path / "figures" / "g.csv")
    assert points[["task", "start", "x", "y"]].to_numpy().tolist() == [
        ["a", "s", 100, 100],
        ["b", "s", 200, 200],
        ["c", "s", 300, 300],
    ]
    assert "R² = 1.00" in (tmp_path / "figures" / "g.svg").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "g.png").read_bytes().startswith(b"\x89PNG")
    section = gains_section(spec, tmp_path)
    assert section.notes == "Over none. s: mean +200.0 and +200.0 over 3 tasks, line y = 1.00 x +0.00 with R² = 1.00."
    assert all((tmp_path / link).is_file() for link in section.links)
    (tmp_path / "page.html").write_text(render(Page("T", "S", {}, figures=[section])), encoding="utf-8")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('<img class="figure" src="data:image/svg+xml;base64,') == 1
    assert "gain in certified accuracy at ε = 0.25 (%)" in read_page(tmp_path / "page.html").text_of("th")


def test_an_axis_says_what_is_gained_and_where(tmp_path: Path, spec: GainsReportSpec) -> None:
    robust, acr, certified = columns("robust@0.25", "acr", "certified@0")
    said = axis_label(spec, robust)
    assert said == "gain in robust accuracy under attack within ε = 0.25 (RA, an upper bound) (%)"
    assert axis_label(spec, acr) == "gain in average certified radius (%)"
    plain = spec.model_copy(update={"against": None})
    assert axis_label(plain, certified) == "certified accuracy at ε = 0 (%)"
    assert axis_label(plain, acr) == "average certified radius"
    x = np.array([1.0, 2.0])
    scatter_chart("Title", [("AT", x, x, None)], "x", said, tmp_path / "f")
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert "<!-- gain in robust accuracy under attack within -->" in text  # on two lines: one would be cut off


@pytest.mark.parametrize("count", [6, 7])
def test_the_legend_of_many_groups_lies_on_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("transmooth.report.figures._save", lambda figure, *_: drawn.append(figure))
    x = np.array([0.0, 1.0])
    scatter_chart("Title", [(f"group {k}", x, x, None) for k in range(count)], "x", "y", tmp_path / "f")
    (figure,) = drawn
    figure.canvas.draw()
    (axis,) = figure.axes
    beside = axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1
    assert beside == (count > 6)


def test_without_a_row_to_compare_with_the_points_are_the_values_joined_in_the_order_of_the_rows(
    tmp_path: Path, spec: GainsReportSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    (acr,) = columns("acr")
    spec = spec.model_copy(update={"against": None, "y": acr})
    write_gains(spec, tmp_path, tmp_path, tmp_path / "figures" / "g")
    points = pd.read_csv(tmp_path / "figures" / "g.csv").set_index("start")
    assert points.loc["s", ["task", "x", "y"]].to_numpy().tolist() == [["a", 40, 0.1], ["b", 60, 0.15], ["c", 80, 0.2]]
    assert "R²" not in (tmp_path / "figures" / "g.svg").read_text(encoding="utf-8")
    drawn = []
    monkeypatch.setattr("transmooth.report.gains.scatter_chart", lambda title, groups, *_: drawn.extend(groups))
    write_gains(spec, tmp_path, tmp_path, tmp_path / "figures" / "g")
    (_, x_of_s, y_of_s, line) = drawn[-1]
    np.testing.assert_array_equal(line, (x_of_s, y_of_s))
    section = gains_section(spec, tmp_path)
    assert section.notes == ""
    assert section.plain is not None
    head, rows = section.plain
    assert head == ["point", "row", "clean accuracy (%)", "average certified radius"]
    assert rows[-1] == ["c", "s", "80.0", "0.200"]
