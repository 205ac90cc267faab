"""Records of a classifier of several σ: one row an image, and no radius but the one that the counts give."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.records import multi_sigma_rows, row, table
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.records.multi_sigma import one_row_each
from transmooth.smoothing.multi_sigma import Stages

PATH = Path("r.parquet")


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return table(*rows).to_pandas()


def test_an_image_has_one_row_whose_radius_is_that_of_its_counts() -> None:
    rows = multi_sigma_rows(8)
    made = one_row_each(frame(*reversed(rows)), PATH)
    stages = Stages("cascade", (1.0, 0.5), (0.1, 0.0))
    for index, found in made.iterrows():
        assert isinstance(index, int)
        mine = rows[2 * index : 2 * index + 2]
        top, second, n = (np.array([[each[name] for each in mine]]) for name in ("top_count", "runner_up", "n"))
        assert found["radius"] == stages.radius(top, second, n, 0.001)[0]
        assert found["index"] == index
        assert found["evaluations"] == sum(each["evaluations"] for each in mine)
        assert found["seconds"] == 1.0
    assert (made.attrs["stages"], made.attrs["thresholds"]) == ("σ = 1, 0.5", "τ = 0.1, 0")
    assert 0 < (made["prediction"] == -1).sum() < 8
    plain = one_row_each(frame(*multi_sigma_rows(2, thresholds=(0.0, 0.0))), PATH)
    assert (plain.attrs["stages"], plain.attrs.get("thresholds")) == ("σ = 1, 0.5", None)


def test_records_of_one_sigma_stay_as_they_are() -> None:
    rows = frame(row(0, 0.25), row(0, 0.5))
    assert one_row_each(rows, PATH).equals(rows)
    assert "stages" not in one_row_each(rows, PATH).attrs


def test_a_radius_is_of_as_many_looks_as_its_rows_say() -> None:
    with pytest.raises(records.RecordError, match="which is not what its counts give"):
        one_row_each(frame(*multi_sigma_rows(4, looks=4)), PATH)  # whose radii are of one


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (5, {"radius": 9.0}, "image 2 has class 3 and radius 9 at sigma = 0.5, which is not what its counts give"),
        (4, {"top_count": 700}, "image 2 .* not what its counts give"),
        (6, {"top_count": 560, "runner_up": 440}, "image 3 .* not what its counts give"),
        (4, {"prediction": 2}, "image 2 has class 2"),
        (5, {"selected": 2}, "image 2 .* not what its counts give"),
        (0, {"prediction": 3}, "image 0 has class 3 and radius 0"),
        (4, {"top_count": 990, "runner_up": 11}, "counts of two classes should be >= 0, and n at most together"),
        (4, {"runner_up": -1}, "counts of two classes should be >= 0"),
        (4, {"runner_up": None}, "should have the counts of the same stages for each image"),
        (4, {"threshold": 0.2}, "should have the counts of the same stages"),
        (4, {"stage": 3}, "should have the counts of the same stages"),
        (4, {"sigma": 2.0}, "should have the counts of the same stages"),
        (4, {"alpha": 0.01}, "by one method, alpha and looks"),
        (4, {"method": "margin"}, "by one method, alpha and looks"),
        (4, {"method": "cohen", "stage": None}, "should have the counts of the same stages"),
    ],
)
def test_what_the_counts_do_not_give_is_refused(at: int, change: dict[str, Any], message: str) -> None:
    rows = multi_sigma_rows(4)
    one_row_each(frame(*rows), PATH)
    rows[at] |= change
    with pytest.raises(records.RecordError, match=f"^r.parquet: .*{message}"):
        one_row_each(frame(*rows), PATH)


def test_a_missing_stage_is_refused() -> None:
    for kept in (multi_sigma_rows(3)[:-1], multi_sigma_rows(3)[1::2]):  # of one image, or the first one of all
        with pytest.raises(records.RecordError, match="same stages for each image"):
            one_row_each(frame(*kept), PATH)


def test_they_read_as_a_log_of_one_classifier(tmp_path: Path) -> None:
    rows = multi_sigma_rows(6)
    records.write(table(*rows), tmp_path / "r.parquet")
    for sigma in (None, 0.5):  # there is nothing to choose
        read = logs.read_any(tmp_path / "r.parquet", sigma)
        assert read["radius"].tolist() == [each["radius"] for each in rows[::2]]
    assert "certified by cascade, not by Cohen's procedure" in read.attrs["notes"]
    rows[3]["radius"] = 7.0
    records.write(table(*rows), tmp_path / "r.parquet")
    with pytest.raises(records.RecordError, match=r"image 1 has class .* and radius 7"):
        logs.read_any(tmp_path / "r.parquet")
