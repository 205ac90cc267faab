"""Differences between the rows of a table, image by image."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.helpers.report import (
    attack_result,
    columns,
    evaluated,
    radii_as_rows,
    result,
    row_spec,
    run_spec,
    table_spec,
    write_clean,
    write_records,
)
from transmooth.report.accuracy import EACH, RowResult
from transmooth.report.differences import differences
from transmooth.report.tables import write_table

NONE = -np.inf
# Two seeds, four images.
BASE = result({0.5: [[0.3, 0.1, NONE, NONE], [0.3, NONE, NONE, NONE]]}, [0.5, 0.5], label="base", block="t")
OTHER = result({0.5: [[0.3, 0.3, NONE, 0.4], [0.2, 0.3, NONE, NONE]]}, [0.6, 0.6], label="other", block="t")


def found(rows: Sequence[RowResult], *texts: str, against: str = "base") -> pd.DataFrame:
    return differences(rows, columns(*texts), against)


def test_a_difference_is_the_mean_over_images_of_what_the_seeds_have_on_average() -> None:
    certified, acr = found([BASE, OTHER], "certified@0.25", "clean", "acr").to_dict("records")
    assert (certified["block"], certified["row"], certified["column"]) == ("t", "other", "certified@0.25")
    of_images = np.array([-0.5, 1.0, 0.0, 0.5])  # the second seed loses the first image: 0.2 < 0.25
    assert certified["difference"] == of_images.mean()
    half = stats.t.ppf(0.975, 3) * of_images.std(ddof=1) / 2
    assert certified["difference_low"] == pytest.approx(of_images.mean() - half)
    assert certified["difference_high"] == pytest.approx(of_images.mean() + half)
    assert certified["difference_sd"] == pytest.approx(np.std([0.5, 0.0], ddof=1))
    assert not certified["difference_clear"]
    assert acr["column"] == "acr"  # clean accuracy is of no single image
    assert acr["difference"] == pytest.approx((0.2 + 0.4 - 0.1 + 0.3) / 8)


def test_attacked_images_are_compared_too_and_what_was_not_attacked_is_not() -> None:
    a = replace(BASE, attacks={0.5: attack_result([[1, 1], [1, 1]], [[1, 0], [0, 0]])})
    b = replace(OTHER, attacks={0.5: attack_result([[1, 1], [1, 0]], [[1, 1], [1, 0]])})
    each = found([a, b], "standard", "robust@0.5").set_index("column")["difference"].to_dict()
    assert each == {"standard": -0.25, "robust@0.5": 0.5}
    assert found([a, OTHER], "standard", "robust@0.5").empty


def test_a_row_is_compared_in_its_own_block_where_that_has_the_row_else_in_the_table() -> None:
    hard = replace(BASE, block="hard", curves={0.5: np.full((2, 4), NONE)})
    rows = [BASE, OTHER, hard, replace(OTHER, block="hard")]
    each = found(rows, "certified@0.25").set_index("block")["difference"].to_dict()
    assert each == {"t": 0.25, "hard": 0.5}
    alone = replace(OTHER, block="elsewhere")
    assert found([BASE, alone], "certified@0.25")["difference"].tolist() == [0.25]
    assert found([BASE, hard, alone], "certified@0.25").empty  # with which of them?


def test_a_row_is_compared_at_the_sigma_that_the_table_shows() -> None:
    """The oracle's where there are several; none where it is transductive, or one classifier of several."""
    several = replace(BASE, curves={0.25: BASE.curves[0.5], 1.0: OTHER.curves[0.5]}, label="several")
    each = replace(BASE, curves={EACH: OTHER.curves[0.5]}, label="each")
    one = replace(BASE, curves={}, multi_sigma=OTHER.curves[0.5], label="one")
    assert found([BASE, several, each, one], "certified@0.25")["difference"].tolist() == [0.25] * 3


def test_rows_of_other_images_seeds_or_datasets_are_not_compared() -> None:
    fewer = replace(OTHER, curves={0.5: OTHER.curves[0.5][:, :3]})
    one_seed = replace(OTHER, curves={0.5: OTHER.curves[0.5][:1]}, clean=np.array([0.6]))
    for other in (fewer, one_seed, replace(OTHER, dataset="textures")):
        assert found([BASE, other], "certified@0.25").empty


def test_a_difference_is_clear_where_its_interval_and_every_seed_say_so() -> None:
    base = replace(BASE, curves={0.5: np.full((2, 40), NONE)})

    def clear(*certified: int) -> bool:
        radii = np.stack([np.where(np.arange(40) < count, 0.5, NONE) for count in certified])
        (line,) = found([base, replace(OTHER, curves={0.5: radii})], "certified@0.25").to_dict("records")
        return bool(line["difference_clear"])

    assert clear(30, 20)
    assert not clear(30, 0)  # the interval leaves out 0, but one seed shows nothing
    assert not clear(1, 1)


def test_one_seed_has_no_spread() -> None:
    a, b = (replace(row, curves={0.5: row.curves[0.5][:1]}, clean=np.array([0.6])) for row in (BASE, OTHER))
    (line,) = found([a, b], "certified@0.25").to_dict("records")
    assert (line["difference"], np.isnan(line["difference_sd"])) == (0.5, True)


def test_a_table_shows_them_below_its_rows_and_its_csv_beside_them(tmp_path: Path) -> None:
    rows = []
    for label, radii in (("plain", [NONE] * 30), ("robust", [0.4] * 20 + [NONE] * 10)):
        given = evaluated(run_spec(f"net/{label}@task"), "certify")
        write_records(tmp_path, given, radii_as_rows(radii, 0.5))
        write_clean(tmp_path, given.run, 9)
        rows.append(row_spec(label, [given]))
    spec = table_spec(["clean", "certified@0.25", "acr"], rows, against="plain")
    published = Path(__file__).parents[2] / "params" / "published.csv"
    write_table(spec, tmp_path, tmp_path, published, tmp_path / "t", tmp_path / "t.json")
    text = (tmp_path / "t.md").read_text()
    half = 100 * stats.t.ppf(0.975, 29) * np.std([1.0] * 20 + [0.0] * 10, ddof=1) / np.sqrt(30)
    interval = f"[+ {200 / 3 - half:.1f}, + {200 / 3 + half:.1f}]"
    assert "## Here: differences from plain, image by image\n\nOf the same test images and seeds (in points) [" in text
    assert "|  | ε = 0.25 | ACR |\n| --- | --- | --- |\n" in text
    assert f"| robust | **+ 66.7** {interval} | **+ 0.267** [" in text
    frame = pd.read_csv(tmp_path / "t.csv").set_index(["row", "column"])
    assert frame.loc[("robust", "certified@0.25"), "difference"] == pytest.approx(2 / 3, abs=1e-6)
    assert np.isnan(frame.loc[("plain", "certified@0.25"), "difference"])
