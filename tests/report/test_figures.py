"""Curves of figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.helpers.report import (
    TWO,
    attack_result,
    evaluated,
    left,
    radii_as_rows,
    result,
    row_spec,
    run_spec,
    write_attack,
    write_clean,
    write_records,
)
from transmooth.report.figures import curves, largest_radius, wide, write_figure
from transmooth.specs import FigureSpec, PanelSpec


def test_one_row_draws_its_sigmas_and_an_oracle_above_them() -> None:
    grid = np.linspace(0, 1.1, 12)
    frame = curves([TWO], grid)
    assert list(dict.fromkeys(frame["curve"])) == ["σ = 0.25", "σ = 1", "oracle over σ"]
    table = wide([("Panel", frame, 4)])
    assert table.index.name == "radius"
    oracle = table[["Panel: σ = 0.25", "Panel: σ = 1"]].max(axis=1)
    assert (table["Panel: oracle over σ"] == oracle).all()
    assert (table["Panel: σ = 1 low"] <= table["Panel: σ = 1"]).all()
    assert list(dict.fromkeys(curves([TWO, TWO], grid)["curve"])) == ["ours"]


def test_one_sigma_has_no_oracle_alone_or_beside_rows_of_several() -> None:
    grid = np.linspace(0, 1.1, 12)
    one = result({0.5: [[1.0, 0.5]]}, label="one")
    alone = curves([one], grid)
    assert set(zip(alone["curve"], alone["oracle"], strict=True)) == {("σ = 0.5", False)}
    both = curves([one, TWO], grid)
    assert set(zip(both["curve"], both["oracle"], strict=True)) == {("one", False), ("ours", True)}
    assert both.query("curve == 'one'")["certified_accuracy"].tolist() == alone["certified_accuracy"].tolist()


def test_attacks_are_an_upper_bound_that_falls_at_each_epsilon() -> None:
    right = [[1, 1, 1, 0]]
    attacks = {0.5: attack_result(right, [[1, 0, 0, 0]]), 0.2: attack_result(right, [[1, 1, 0, 0]])}
    attacks |= {0.03: attack_result(right, [[0, 0, 0, 0]], "linf")}  # on no axis of l2
    row, grid = result({0.5: [[0.3, 0.1]]}, attacks=attacks), np.linspace(0, 0.6, 13)
    frame = curves([row], grid)
    assert list(dict.fromkeys(frame["curve"])) == ["σ = 0.5", "attacked without noise"]
    bound = frame[frame["curve"] == "attacked without noise"]
    assert bound["certified_accuracy"].tolist() == [0.75] * 4 + [0.5] * 6 + [0.25] * 3
    assert bound["radius"][bound["point"]].tolist() == [grid[4], grid[10]]
    assert (set(bound["images"]), set(frame["images"])) == ({4}, {2, 4})
    assert not frame[frame["curve"] == "σ = 0.5"]["point"].any()
    assert list(dict.fromkeys(curves([row, TWO], grid)["curve"])) == ["ours", "ours, attacked without noise"]
    assert [largest_radius([row]), largest_radius([TWO, row]), largest_radius([result({})])] == [0.5, 1.0, 0.25]


def test_a_figure_of_a_network_has_its_certificates_and_its_attacks(tmp_path: Path) -> None:
    certified = evaluated(run_spec("net/clean@downstream"), "certify")
    attack = evaluated(certified.run, "autopgd", kind="attack")
    write_records(tmp_path, certified, radii_as_rows([0.1, 0.2, -np.inf], 0.5))
    write_attack(tmp_path, attack, left("rrff", 0.5))
    write_clean(tmp_path, certified.run, 9)
    both = certified.model_copy(update={"records": (*certified.records, *attack.records)})
    panel = PanelSpec(title="A", rows=(row_spec("ours", [both]),))
    write_figure(FigureSpec(name="f", title="T", caption="C", panels=(panel,)), tmp_path, tmp_path, tmp_path / "f")
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert "A: attacked without noise" in lines[0].split(",")
    assert lines[-1].split(",")[0] == "0.51"  # beyond the attacked radius
    drawn = (tmp_path / "f.svg").read_text()
    assert drawn.count("attacked without noise") == 1
    assert "stroke-dasharray" in drawn


def test_a_classifier_of_several_sigmas_is_one_curve() -> None:
    grid, several = np.linspace(0, 1.1, 12), np.array([[1.0, 0.5, -np.inf, -np.inf]] * 2)
    both, only = replace(TWO, multi_sigma=several), replace(TWO, curves={}, multi_sigma=several, label="cascade")
    drawn = curves([both], grid)
    assert list(dict.fromkeys(drawn["curve"])) == ["σ = 0.25", "σ = 1", "multi-σ", "oracle over σ"]
    assert set(drawn[drawn["oracle"]]["curve"]) == {"oracle over σ"}
    assert drawn.query("curve == 'multi-σ'")["certified_accuracy"].tolist() == [0.5] * 5 + [0.5] + [0.25] * 4 + [
        0.25,
        0,
    ]
    assert list(dict.fromkeys(curves([only], grid)["curve"])) == ["multi-σ"]
    beside = curves([both, only], grid)
    assert list(dict.fromkeys(beside["curve"])) == ["ours, multi-σ", "ours", "cascade"]
    assert [largest_radius([both]), largest_radius([only])] == [1.0, 1.0]
