"""What columns can show."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.report import TWO, attack_result, result
from transmooth.params.tables import AT_RADIUS
from transmooth.params.values import Measure
from transmooth.report.measures import MEASURES


def test_titles_have_the_radius_of_the_measures_that_are_at_one() -> None:
    assert {name for name, info in MEASURES.items() if "{radius" in info.title} == set(AT_RADIUS)


@pytest.mark.parametrize(
    ("measure", "sigma", "radius", "of_each_seed"),
    [
        ("clean", np.nan, 0.0, [0.9, 0.8]),
        ("certified", 0.25, 0.5, [0.75, 0.5]),
        ("certified", 0.25, 0.6, [0.0, 0.0]),
        ("certified", 1.0, 0.6, [0.5, 0.5]),
        ("acr", 0.25, 0.0, [0.375, 0.25]),
        ("acr", 1.0, 0.0, [0.5, 0.5]),
    ],
)
def test_values_by_hand(measure: Measure, sigma: float, radius: float, of_each_seed: list[float]) -> None:
    assert MEASURES[measure].value(TWO, sigma, radius).tolist() == pytest.approx(of_each_seed)


@pytest.mark.parametrize("measure", ["parameters", "trained", "denoiser_parameters", "hours"])
def test_measures_of_the_last_stage_are_what_its_card_says(measure: Measure) -> None:
    known = replace(TWO, stage={measure: np.array([1.5, 2.5])})
    assert MEASURES[measure].value(known, np.nan, 0.0).tolist() == [1.5, 2.5]
    assert np.isnan(MEASURES[measure].value(TWO, np.nan, 0.0)).tolist() == [True, True]
    assert MEASURES[measure].better == "smaller"


def test_numbers_are_printed_in_their_unit() -> None:
    assert MEASURES["trained"].text(0.916456) == "0.916"
    assert MEASURES["parameters"].text(86.860264) == "86.860"
    assert MEASURES["denoiser_parameters"].text(np.nan) == ""
    assert MEASURES["hours"].text(0.125) == "0.12"
    assert MEASURES["evaluations"].text(1234.5) == "1234"
    assert MEASURES["certified"].text(0.6249) == "62.5"
    assert MEASURES["acr"].text(0.6249) == "0.625"
    assert MEASURES["clean"].text(np.nan) == ""


def test_robust_and_standard_accuracy_are_of_one_record_of_each_seed() -> None:
    right = [[1, 1, 1, 0], [1, 1, 0, 0]]
    row = result(
        {},
        [0.9, 0.8],
        attacks={0.25: attack_result(right, [[1, 1, 0, 0], [1, 0, 0, 0]]), 0.5: attack_result(right, [[0] * 4] * 2)},
    )
    assert MEASURES["standard"].value(row, np.nan, 0.0).tolist() == [0.75, 0.5]
    assert MEASURES["robust"].value(row, np.nan, 0.25).tolist() == [0.5, 0.25]
    assert MEASURES["robust"].value(row, np.nan, 0.5).tolist() == [0.0, 0.0]
    # The logs of others tell nothing of attacks.
    assert np.isnan(MEASURES["robust"].value(TWO, np.nan, 0.25)).tolist() == [True, True]
    assert np.isnan(MEASURES["standard"].value(TWO, np.nan, 0.0)).tolist() == [True, True]
    assert (MEASURES["standard"].published, MEASURES["robust"].published) == ("standard_acc", "robust_acc")
