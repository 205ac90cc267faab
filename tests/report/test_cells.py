"""The tidy frame from which tables and pages are made."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.report import TWO, attack_result, columns, result
from transmooth.params.values import Measure
from transmooth.report.accuracy import Settings
from transmooth.report.cells import cells, shown
from transmooth.report.measures import MEASURES


def test_the_oracle_takes_the_best_sigma_of_each_column_and_brackets_its_own_curve() -> None:
    lines = cells([TWO], columns("certified@0.25", "certified@0.75"))
    oracle = lines[lines["oracle"]].set_index("column")
    assert oracle.loc[["certified@0.25", "certified@0.75"], "sigma"].tolist() == [0.25, 1.0]
    assert oracle.loc[["certified@0.25", "certified@0.75"], "value"].tolist() == [0.625, 0.5]
    assert oracle.loc[["certified@0.25", "certified@0.75"], "natural"].tolist() == [0.625, 0.5]
    assert oracle.loc["certified@0.25", "seed_sd"] == pytest.approx(np.std([0.75, 0.5], ddof=1))
    assert oracle.loc["certified@0.25", "radius"] == 0.25
    by_sigma = lines[~lines["oracle"] & (lines["measure"] == "certified")]
    assert by_sigma.set_index(["column", "sigma"])["value"].to_dict() == {
        ("certified@0.25", 0.25): 0.625,
        ("certified@0.25", 1.0): 0.5,
        ("certified@0.75", 0.25): 0.0,
        ("certified@0.75", 1.0): 0.5,
    }
    assert set(lines["images"]) == {4}
    assert set(lines["seeds"]) == {2}


SEVERAL = Settings("cascade of σ = 1, 0.25", 50, 200, 0.001)
BOTH = replace(
    TWO, multi_sigma=np.array([[1.0, 0.5, 0.5, -np.inf], [1.0, 0.5, -np.inf, -np.inf]]), multi_settings=SEVERAL
)
ONLY = replace(BOTH, curves={}, settings=SEVERAL)


def test_a_classifier_of_several_sigmas_stands_beside_the_oracle_and_is_none() -> None:
    asked = columns("certified@0.75", "multi_sigma@0.75", "multi_sigma_acr")
    lines = shown(cells([BOTH], asked), asked).set_index("column")
    assert lines["value"].to_dict() == {"certified@0.75": 0.5, "multi_sigma@0.75": 0.25, "multi_sigma_acr": 0.4375}
    assert lines["oracle"].tolist() == [True, False, False]
    assert lines["method"].tolist() == ["cohen", SEVERAL.method, SEVERAL.method]
    assert lines["images"].tolist() == [4, 4, 4]
    assert lines.loc["multi_sigma@0.75", "natural"] == 0.625
    assert lines["low"].notna().tolist() == [True, True, False]
    # A row that has none has no cell there.
    beside = cells([BOTH, replace(TWO, label="other")], asked)
    assert set(beside[beside["measure"] == "multi_sigma"]["row"]) == {"ours"}


def test_a_row_of_one_classifier_of_several_sigmas_has_its_curve() -> None:
    lines = cells([ONLY], columns("clean", "certified@0.75"))
    assert lines.set_index("column")["value"].to_dict() == pytest.approx(
        {"clean": 0.85, "certified@0.75": 0.25, "acr": 0.4375}
    )
    assert not lines["oracle"].any()
    assert lines["sigma"].isna().all()
    assert lines.set_index("column").loc["certified@0.75", "method"] == SEVERAL.method


def test_the_acr_stands_beside_what_is_certified_whether_it_is_a_column_or_not() -> None:
    for asked in (columns("certified@0.25"), columns("acr", "certified@0.25")):
        acr = cells([TWO], asked).query("measure == 'acr'").set_index(["oracle", "sigma"])["value"]
        assert acr.to_dict() == pytest.approx({(False, 0.25): 0.3125, (False, 1.0): 0.5, (True, 1.0): 0.5})
    assert set(shown(cells([TWO], columns("certified@0.25")), columns("certified@0.25"))["column"]) == {
        "certified@0.25"
    }


def test_a_row_at_one_sigma_has_no_oracle_and_is_shown_beside_the_oracles_of_others() -> None:
    asked = columns("clean", "certified@0.25", "acr")
    one = result({0.5: [[0.5, 0.3, -np.inf, -np.inf]]}, label="one")
    lines = cells([one, TWO], asked)
    assert lines.query("row == 'one'")[["column", "sigma", "oracle"]].fillna(0).to_numpy().tolist() == [
        ["clean", 0.0, False],
        ["certified@0.25", 0.5, False],
        ["acr", 0.5, False],
    ]
    own = shown(lines, asked)
    assert own[["row", "column", "oracle"]].to_numpy().tolist() == [
        *(["one", column, False] for column in ("clean", "certified@0.25", "acr")),
        *(["ours", column, column != "clean"] for column in ("clean", "certified@0.25", "acr")),
    ]
    assert own["value"].tolist() == pytest.approx([0.9, 0.5, 0.2, 0.85, 0.625, 0.5])
    assert not shown(lines.query("row == 'one'"), asked)["oracle"].any()


def test_what_has_no_sigma_has_one_line_over_its_own_images() -> None:
    (line,) = cells([TWO], columns("clean")).to_dict("records")
    assert line["value"] == pytest.approx(0.85)
    assert line["seed_sd"] == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert line["images"] == 400
    assert not line["oracle"]
    assert np.isnan([line["sigma"], line["low"], line["high"], line["natural"]]).all()


def test_the_interval_is_clopper_pearson_over_the_images() -> None:
    row = result({0.5: [[1.0] * 50 + [-np.inf] * 50]})
    line = cells([row], columns("certified@0.5")).iloc[0]
    assert (line["low"], line["high"]) == pytest.approx((0.39832, 0.60168), abs=1e-5)  # the textbook value


def test_one_seed_has_no_spread() -> None:
    assert cells([result({0.5: [[1.0]]})], columns("clean", "certified@0.5"))["seed_sd"].isna().all()


def test_the_oracle_takes_the_smaller_of_equal_sigmas_and_the_least_where_less_is_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    equal = result({0.25: [[0.5, 0.5]], 0.5: [[0.5, 0.5]]})
    assert cells([equal], columns("certified@0.25")).query("oracle")["sigma"].tolist() == [0.25, 0.25]
    measure: Measure = "certified"
    monkeypatch.setitem(MEASURES, measure, replace(MEASURES[measure], better="smaller"))
    oracle = cells([TWO], columns("certified@0.75")).query("oracle and measure == 'certified'")
    assert oracle[["sigma", "value"]].to_numpy().tolist() == [[0.25, 0.0]]


@settings(max_examples=20)
@given(st.permutations(["clean", "certified@0", "certified@0.25", "certified@0.75", "acr"]))
def test_the_order_of_columns_changes_no_number(texts: list[str]) -> None:
    keys = ["column", "oracle", "sigma"]
    made = cells([TWO], columns(*texts))
    assert list(dict.fromkeys(made["column"])) == texts
    there = cells([TWO], columns(*sorted(texts)))
    pd.testing.assert_frame_equal(made.sort_values(keys, ignore_index=True), there.sort_values(keys, ignore_index=True))


def test_what_is_attacked_has_one_line_its_interval_over_the_attacked_images_and_how() -> None:
    attacks = {0.25: attack_result([[1] * 80 + [0] * 20], [[1] * 50 + [0] * 50])}
    row = result({0.5: [[1.0, 0.3]]}, attacks=attacks)
    lines = cells([row, TWO], columns("standard", "robust@0.25", "certified@0.25")).set_index(["row", "column"])
    robust, standard = lines.loc[("ours", "robust@0.25")], lines.loc[("ours", "standard")]
    assert robust["value"].tolist()[0] == 0.5
    assert (robust["low"].iloc[0], robust["high"].iloc[0]) == pytest.approx((0.39832, 0.60168), abs=1e-5)
    assert (robust["images"].iloc[0], robust["radius"].iloc[0], robust["method"].iloc[0]) == (
        100,
        0.25,
        "AutoPGD in l2",
    )
    assert np.isnan(robust["sigma"].iloc[0])
    assert (standard["value"].iloc[0], standard["images"].iloc[0], standard["method"].iloc[0]) == (0.8, 100, "")
    assert lines.loc[("ours", "certified@0.25")]["images"].iloc[0] == 2
    # TWO has the same name; nobody attacked it.
    assert robust["value"].isna().tolist() == [False, True]
    assert robust["low"].isna().tolist() == [False, True]
