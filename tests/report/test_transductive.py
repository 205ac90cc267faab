"""Rows whose images have a σ each, or none: one curve, beside rows of one σ."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.records import multi_sigma_rows, row
from tests.helpers.report import evaluated, row_spec, run_spec, table_spec, write_clean, write_records
from transmooth.records import table as records
from transmooth.report.accuracy import EACH, curves_of, read_files, read_row
from transmooth.report.cells import cells
from transmooth.report.figures import curves
from transmooth.report.page.provenance import read_certification
from transmooth.report.page.sections import table_section
from transmooth.report.tables import markdown, read_published
from transmooth.smoothing.bounds import SLACK
from transmooth.specs import EvaluatedSpec, RowSpec

RUN = run_spec("net/mixed@task")
OWN, LOOKUP, ONE = (
    evaluated(RUN, name, kind=kind) for name, kind in (("samplewise",) * 2, ("lookup",) * 2, ("at_half", "certify"))
)
# 1.0, 0.2, wrong, 0: images of three σ, of which one region cuts.
ROWS = [
    row(0, 0.25, radius=1.0, smoothed_radius=1.0, region=3.0, allocation="a"),
    row(1, 1.0, radius=0.2 - SLACK, smoothed_radius=0.9, region=0.2, allocation="a"),
    row(2, 0.5, radius=0.7, smoothed_radius=0.7, region=3.0, allocation="a", prediction=4),
    row(3, 0.25, radius=0.0, smoothed_radius=0.0, region=3.0, allocation="a", prediction=-1),
]
NONE: dict[str, Any] = {"method": "lookup", "sigma": None, "alpha": None, "n0": 0, "n": 0}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_records(tmp_path, OWN, ROWS)
    write_records(tmp_path, LOOKUP, [row(i, radius=2.0 - SLACK, region=2.0, **NONE) for i in range(4)])
    write_records(tmp_path, ONE, [row(i, 0.5, radius=0.5) for i in range(4)])
    write_clean(tmp_path, RUN, 9)
    return tmp_path


def spec(label: str, given: EvaluatedSpec) -> RowSpec:
    return row_spec(label, [given])


def test_a_transductive_row_has_one_curve_of_all_images(results: Path) -> None:
    found = read_row(spec("own", OWN), results, results)
    (sigma,) = found.curves
    assert sigma is EACH
    assert found.curves[sigma].tolist() == [[1.0, 0.2 - SLACK, -math.inf, -math.inf]]
    assert found.images == 4
    assert found.accuracy(sigma, [0.0, 0.5]).tolist() == [[0.5, 0.25]]  # image 3 abstains
    frame = curves([found], found.curves[sigma][0].clip(0))
    assert set(frame["curve"]) == {"transductive"}
    assert not frame["oracle"].any()


def test_its_cells_have_no_sigma_and_no_oracle(results: Path) -> None:
    rows = [read_row(spec(name, given), results, results) for name, given in (("own", OWN), ("near", LOOKUP))]
    lines = cells(rows, table_spec(["certified@0.5", "acr"]).columns)
    assert len(lines) == 4
    assert lines["sigma"].isna().all()
    assert not lines["oracle"].any()
    assert lines["value"].tolist() == pytest.approx([0.25, (1.2 - SLACK) / 4, 1.0, 2.0 - SLACK])
    assert lines["method"].tolist() == ["cohen"] * 2 + ["lookup"] * 2


def test_a_table_says_what_each_row_is(results: Path, tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text("paper,table,dataset,block,row,method,metric,radius,value\n")
    named = [spec("own, transductive", OWN), spec("near, transductive", LOOKUP), spec("one", ONE)]
    table = table_spec(["certified@0.5", "acr"], named)
    lines = cells([read_row(each, results, results) for each in named], table.columns)
    text = markdown(table, lines, read_published(tmp_path / "published.csv", None, None))
    assert "Without noise: near, transductive. Method: cohen, n0 = 100, n = 1000, α = 0.001." in text
    assert "Certified at σ = 0.5 (one) and a σ of each image (own, transductive)." in text
    assert "largest over σ" not in text


def test_a_classifier_of_several_sigmas_is_no_transductive_one(results: Path, tmp_path: Path) -> None:
    """Neither has one σ, and they stand in one table."""
    (tmp_path / "published.csv").write_text("paper,table,dataset,block,row,method,metric,radius,value\n")
    several = evaluated(RUN, "cascade", kind="multi_sigma")
    write_records(tmp_path, several, multi_sigma_rows(4))
    named = [spec("own", OWN), spec("cascade", several), spec("one", ONE)]
    table = table_spec(["certified@0.25"], named)
    own, cascade, one = (read_row(each, results, results) for each in named)
    assert (list(own.curves), own.multi_sigma, cascade.curves) == ([EACH], None, {})
    lines = cells([own, cascade, one], table.columns)
    assert lines["sigma"].isna().tolist() == [True] * 4 + [False] * 2
    assert lines["method"].tolist() == ["cohen"] * 2 + ["cascade of σ = 1, 0.5; τ = 0.1, 0"] * 2 + ["cohen"] * 2
    text = markdown(table, lines, read_published(tmp_path / "published.csv", None, None))
    assert "Certified at σ = 0.5 (one) and a σ of each image (own)." in text
    for alone, where in ((named[0], "transductive"), (named[1], "multi-σ"), (named[2], "σ = 0.5")):
        section = table_section(table_spec(["certified@0.25"], [alone]), results, results, tmp_path / "published.csv")
        assert f"({where})" in section.finding
    assert list(dict.fromkeys(curves([own, cascade], np.array([0.0]))["curve"])) == ["own", "cascade"]


def test_two_seeds_of_a_lookup_were_certified_alike(results: Path) -> None:
    other = evaluated(run_spec("net/mixed@task", seed=1), "lookup", kind="lookup")
    write_records(results, other, [row(i, radius=1.0 - SLACK, region=1.0, **NONE) for i in range(4)])
    write_clean(results, other.run, 9)
    found = read_row(row_spec("near", [LOOKUP], [other]), results, results)
    assert found.settings.method == "lookup"
    assert found.curves[EACH].shape == (2, 4)


def test_records_of_ones_own_read_as_one_curve(results: Path) -> None:
    path = results / OWN.records[0].path
    assert [*read_files([path], "own").curves] == [EACH]
    certified = read_certification(OWN.records[0].path, results)
    assert certified.transductive
    assert certified.sigmas == "a σ of each"
    assert [*certified.acr.values()] == pytest.approx([(1.2 - SLACK) / 4])


def test_others_have_a_curve_for_each_sigma() -> None:
    frame = pd.DataFrame([row(0, 0.5), row(0, 0.25), row(1, 0.5)]).astype({"region": float})
    assert [(sigma, len(group)) for sigma, group in curves_of(frame)] == [(0.25, 1), (0.5, 2)]
    assert records.LOOKUP == "lookup"
