import math
from typing import Any

import pandas as pd
import pytest

from tests.helpers.records import attacked_row, frame
from transmooth.report import compare


def test_accuracy_by_hand() -> None:
    table = frame([0.25, 0.5, 0.75, 1.0, 0.0], [True, True, False, True, True])
    table.loc[4, ["prediction", "correct"]] = [-1, False]
    got = compare.accuracy(table, [0, 0.25, 0.5, 0.6, 2.0])
    assert got["certified_accuracy"] == {0: 0.6, 0.25: 0.6, 0.5: 0.4, 0.6: 0.2, 2.0: 0.0}  # >=, not >
    assert got["n"] == 5
    assert got["abstentions"] == 0.2
    assert got["max_radius"] == 1.0
    assert got["acr"] == pytest.approx(1.75 / 5)
    assert got["interval"][2.0] == pytest.approx([0, 1 - 0.025 ** (1 / 5)])
    with pytest.raises(ValueError, match="radius ≥ 0, got nan"):
        compare.accuracy(table, [math.nan])


def test_compare_reproduces_newcombes_example() -> None:
    """Newcombe (1998), table III: 36 both, 12 and 2 alone, none neither: method 10 gives 0.0569 to 0.3404."""
    in_a, in_b = [True] * 48 + [False] * 2, [True] * 36 + [False] * 12 + [True] * 2
    got = compare.compare(frame([0.5] * 50, in_a), frame([0.5] * 50, in_b), 0.25)
    assert got["interval"] == pytest.approx([0.0569, 0.3404], abs=5e-5)
    assert got["difference"] == pytest.approx(0.2)
    assert (got["only_a"], got["only_b"]) == (12, 2)
    assert got["p_value"] == pytest.approx(2 * (1 + 14 + 91) / 2**14)  # exact McNemar
    other = compare.compare(frame([0.5] * 50, in_b), frame([0.5] * 50, in_a), 0.25)
    assert other["interval"] == pytest.approx([-end for end in got["interval"][::-1]])


def test_compare_acr_is_a_paired_t_test() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1/√3, t = 3.4641 with two degrees of freedom."""
    got = compare.compare(frame([0.6, 0.7, 0.8]), frame([0.5, 0.5, 0.5]), 0.75)
    assert got["acr_difference"] == pytest.approx(0.2)
    assert got["acr_interval"] == pytest.approx([0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5])
    assert got["acr_p_value"] == pytest.approx(0.0741799, abs=1e-6)
    assert got["difference"] == pytest.approx(1 / 3)


def test_records_of_other_pictures_are_no_pairs() -> None:
    a = frame([0.1, 0.2, 0.3]).assign(picture=["x", "y", None])
    assert compare.compare(a, a.assign(picture=[None, "y", "z"]), 0.15)["n"] == 3  # where one does not know, it may be
    with pytest.raises(ValueError, match=r"must be of the same pictures, found different ones for images \[1\]"):
        compare.compare(a, a.assign(picture=["x", "z", None]), 0.15)


def test_compare_pairs_by_index_and_knows_equals() -> None:
    a = frame([0.1, 0.2, 0.3])
    same = compare.compare(a, a.iloc[::-1], 0.15)
    assert same["difference"] == 0
    assert same["p_value"] == 1
    assert same["acr_p_value"] == 1
    assert same["acr_interval"] == [0, 0]
    assert same["interval"][0] < 0 < same["interval"][1]


def test_compare_refuses_other_images() -> None:
    a = frame([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"same images, found 1 in one alone, such as \[2\]"):
        compare.compare(a, a.iloc[:2], 0.1)
    with pytest.raises(ValueError, match=r"same labels, found different ones for images \[0, 1, 2\]"):
        compare.compare(a, a.assign(label=2), 0.1)


def test_compare_tells_where_a_grid_gives_lower_bounds() -> None:
    a, b = frame([0.5, 0.25]), frame([0.6, 0.3])
    a.attrs |= {"notes": ["decided on a grid"], "grid": [0.0, 0.25, 0.5]}
    b.attrs |= {"notes": ["no time column"], "grid": None}
    on = compare.compare(a, b, 0.25)
    assert on["acr_lower_bound"] == ["A"]
    assert on["notes"] == ["A: decided on a grid", "B: no time column"]
    off = compare.compare(b, a, 0.3)
    assert off["acr_lower_bound"] == ["B"]
    assert off["notes"][:2] == ["A: no time column", "B: decided on a grid"]
    assert off["notes"][2:] == [
        "B: the radius 0.3 is not on its grid: its certified accuracy there is a lower bound only"
    ]
    assert compare.compare(b, b, 0.3)["acr_lower_bound"] == []


def test_where_both_have_a_grid_their_radii_are_cut_down_to_it() -> None:
    """A cascade has all radii of its counts, a sequential test those of its grid alone."""
    a, b = frame([0.49, 0.26, 0.1]), frame([0.25, 0.25, 0.0])
    for log in (a, b):
        log.attrs |= {"grid": [0.0, 0.25, 0.5]}
    assert compare.compare(a, b, 0.25)["acr_difference"] == 0
    b.attrs["grid"] = None
    assert compare.compare(a, b, 0.25)["acr_difference"] == pytest.approx((0.24 + 0.01 + 0.1) / 3)


def test_robustness_by_hand() -> None:
    """Of two starts: cross-entropy finds image 0 at the first, the margin 1 at the first and 2 at the second."""

    def found(loss: str, restart: int) -> dict[str, Any]:
        return {"robust": False, "adversarial": 5, "distance": 0.5, "loss": loss, "restart": restart}

    kinds = [found("cross_entropy", 0), found("margin", 0), found("margin", 1), {}, {"robust": False, "prediction": 7}]
    table = pd.DataFrame([attacked_row(index, restarts=2, **kind) for index, kind in enumerate(kinds)])
    got = compare.robustness(table)
    assert (got["n"], got["evaluations"]) == (5, 225)
    assert (got["standard_accuracy"]["share"], got["robust_accuracy"]["share"]) == (0.8, 0.2)
    assert got["after"] == {"cross_entropy": 0.4, "margin": 0.2}
    whole = pd.DataFrame([attacked_row(index) for index in range(5)])
    assert compare.robustness(whole)["robust_accuracy"] == {
        "share": 1.0,
        "interval": pytest.approx([0.025 ** (1 / 5), 1]),
    }
    assert compare.robustness(whole)["after"] == {"cross_entropy": 1.0, "margin": 1.0}
