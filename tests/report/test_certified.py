"""What is certified, by curve."""

import numpy as np
import pandas as pd
import pytest

from tests.helpers.report import COHEN, TWO, result
from transmooth.report.accuracy import EACH, Effort
from transmooth.report.certified import certified_rows

# Two seeds: 4 images of which one abstains, and 2 of 4.
SPENT = Effort(np.array([0.25, 0.5]), np.array([100.0, 300.0]), np.array([0.01, 0.03]))


def test_each_curve_has_a_line_and_none_is_an_oracle() -> None:
    several = result({0.5: [[0.4, 0.2]]}, multi_sigma=np.array([[0.6, -np.inf]]), multi_settings=COHEN, label="several")
    lines = certified_rows([TWO, several], [0.25, 0.75])
    assert [(line.label, line.classifier) for line in lines] == [
        ("ours", "0.25"),
        ("ours", "1"),
        ("several", "0.5"),
        ("several", "multi-σ"),
    ]
    # At 0.25 the first has 3 and 2 of 4 images, at 0.75 none; the second has 2 of 4 at both.
    assert [[str(cell) for cell in line.cells] for line in lines[:2]] == [
        ["**62.5** ± 17.7 [12, 97]", "0.0 ± 0.0 [0, 60]"],
        ["50.0 ± 0.0 [7, 93]", "**50.0** ± 0.0 [7, 93]"],
    ]
    assert [line.acr.value for line in lines] == ["0.312", "0.500", "0.300", "0.300"]
    assert [line.acr.best for line in lines] == [False, True, False, False]
    assert lines[0].acr.spread == "0.088"


def test_nothing_is_the_best_where_all_are_alike() -> None:
    (only,) = certified_rows([result({0.5: [[0.4, 0.2]]})], [0.25])
    assert not only.acr.best
    assert not only.cells[0].best


def test_what_answers_took_is_the_mean_over_seeds_and_images() -> None:
    row = result({0.5: [[1.0] * 4] * 2}, [0.5, 0.5], efforts={0.5: SPENT})
    (line,) = certified_rows([row], [0.25])
    assert (line.abstained, line.evaluations, line.rate) == ("37.5", "200", "50")
    (unknown,) = certified_rows([result({EACH: [[1.0] * 4]}, block="b")], [0.25])
    assert (unknown.abstained, unknown.evaluations, unknown.rate) == ("", "", "")
    assert (unknown.name, unknown.classifier) == ("b: ours", "of each image")


def test_effort_is_that_of_records_and_unknown_of_a_log() -> None:
    frame = pd.DataFrame(
        {"prediction": [-1, 3, 4, 4], "evaluations": [10, 20, 30, 40], "seconds": [1.0, 1.0, 2.0, 4.0]}
    )
    effort = Effort.of([frame, frame[:2]])
    assert effort.abstained.tolist() == [0.25, 0.5]
    assert effort.evaluations.tolist() == [25, 15]
    assert effort.seconds.tolist() == [2, 1]
    log = Effort.of([frame[["prediction"]]])
    assert log.abstained == pytest.approx([0.25])
    assert np.isnan(log.evaluations).all()
    assert np.isnan(log.seconds).all()
