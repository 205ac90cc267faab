"""What columns can show."""

from typing import get_args

import numpy as np
import pytest

from tests.helpers.report import TWO
from transmooth.params.tables import AT_RADIUS, KINDS
from transmooth.params.values import Measure
from transmooth.report.measures import MEASURES


def test_every_measure_of_the_params_is_there_with_its_kind_of_evaluation() -> None:
    assert set(MEASURES) == set(KINDS) == set(get_args(Measure))
    for name, info in MEASURES.items():
        assert ("{radius" in info.title) == (name in AT_RADIUS)
        assert info.per_sigma == (KINDS[name] == "certify")


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


def test_numbers_are_printed_in_their_unit() -> None:
    assert MEASURES["certified"].text(0.6249) == "62.5"
    assert MEASURES["acr"].text(0.6249) == "0.625"
    assert MEASURES["clean"].text(np.nan) == ""
