"""Rows, columns and tasks of tables, and what they need of a study."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.params import copied, edit
from transmooth.params.checks.reports import RULES
from transmooth.params.load import load
from transmooth.params.messages import ParamsError
from transmooth.params.tables import Row, Table, parse_column

FILE = "params/tables/mixed_noise.yaml"
ROW = {"label": "x", "train": ["mixed@upstream", "clean@downstream"]}
TABLE = {"title": "T", "caption": "C", "columns": ["clean", "certified@0.25"], "rows": [ROW]}
FILES = [{"sigma": 1, "file": "z"}]
MORE = {
    "certify_025": {"kind": "certify", "sigmas": [0.25]},
    "certify_050": {"kind": "certify", "sigmas": [0.5]},
    "shift": {"kind": "shift", "sigmas": [0.5], "images": 2},
    "linf": {"kind": "attack", "norm": "linf", "epsilon": 0.25},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a report of each kind: `tables.t`, `figures.f`, `shifts.s`, `courses.c` and `gains.g`."""
    base = copied(tmp_path_factory.mktemp("small"))
    figure = {"title": "F", "caption": "C", "panels": [{"title": "P", "rows": [ROW]}]}
    shift = {"title": "S", "caption": "C", "rows": [ROW | {"evaluate": ["shift"]}]}
    course = {"title": "C", "caption": "C", "metric": "score", "rows": [ROW]}
    gain = {"title": "G", "caption": "C", "table": "t", "x": "certified@0.25", "y": "certified@0.25", "against": "x"}
    reports: dict[str, Any] = {
        "tables": {"t": TABLE},
        "figures": {"f": figure},
        "shifts": {"s": shift},
        "courses": {"c": course},
    }
    reports["gains"] = {"g": gain}
    for key, value in reports.items():
        edit(base, "tables/mixed_noise", key, value)
    edit(base, "studies/smoke", "report", ["t", "f", "s", "c", "g"])
    for name, entry in MORE.items():
        edit(base, "recipes", f"evaluations.{name}", entry)
    edit(base, "recipes", "recipes.nothing", {"epochs": 0})
    return base


@pytest.fixture
def base(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "base")


def row(**changes: Any) -> list[dict[str, Any]]:
    return [ROW | changes]


def pooled(*runs: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"label": "x", "runs": list(runs)}]


# key, its value, the message as a pattern; all of them in docs/errors.md, too.
FAULTS: list[tuple[str, Any, str]] = [
    # ------------------------------------------------------------------------------------------------------- origins
    ("tables.t.rows", [], f"{FILE}: tables.t.rows: .*at least 1 item"),
    ("tables.t.rows", [{"label": "x"}], r"tables.t.rows\[0\]: should have one of train, runs and files, found none"),
    (
        "tables.t.rows",
        row(files=FILES),
        r"tables.t.rows\[0\]: should have one of train, runs and files, found train and files",
    ),
    (
        "tables.t.rows",
        row(runs=[{"train": ["clean@downstream"]}]),
        r"tables.t.rows\[0\]: should have one of train, runs and files, found train and runs",
    ),
    (
        "tables.t.rows",
        [ROW, {"label": "y", "files": FILES, "evaluate": ["certify"]}],
        r"tables.t.rows\[1\]: network, evaluate: belong to `train`; files are evaluated already",
    ),
    (
        "tables.t.rows",
        [pooled({"train": ["clean@downstream"]})[0] | {"network": "batch_norm"}],
        r"tables.t.rows\[0\]: network, evaluate: belong to `train`; with `runs` they stand in its entries",
    ),
    ("tables.t.rows", pooled(), r"tables.t.rows\[0\].runs: .*at least 1 item"),
    ("tables.t.rows", row(train=[]), r"tables.t.rows\[0\].train: .*at least 1 item"),
    ("tables.t.rows", row(train=["clean"]), r"tables.t.rows\[0\].train\[0\]: String should match pattern .*'clean'"),
    ("tables.t.rows", row(train="clean@downstream"), r"tables.t.rows\[0\].train: should be a list"),
    ("tables.t.rows", row(pretrain="mixed"), rf"{FILE}: tables.t.rows\[0\].pretrain: unknown key"),
    ("tables.t.rows", [{"train": ["clean@downstream"]}], rf"{FILE}: tables.t.rows\[0\].label: missing"),
    (
        "tables.t.rows",
        [{"label": "x", "files": FILES * 2}],
        r"tables.t.rows\[0\].files: should name each value once, found \[1.0, 1.0\]",
    ),
    ("tables.t.rows", [{"label": "x", "files": [{"sigma": 0, "file": "z"}]}], r"files\[0\].sigma: .*greater than 0"),
    ("tables.t.rows", [{"label": "x", "files": []}], r"tables.t.rows\[0\].files: .*at least 1 item"),
    # --------------------------------------------------------------------------------------------------------- names
    (
        "tables.t.rows",
        row(train=["gone@upstream", "clean@downstream"]),
        rf"{FILE}: tables.t.rows\[0\].train\[0\]: recipe 'gone' is not in params/recipes.yaml: recipes, which has",
    ),
    (
        "tables.t.rows",
        row(train=["mixed@upstream", "clean@gone"]),
        r"tables.t.rows\[0\].train\[1\]: role 'gone' is not in params/studies/smoke.yaml: roles, which has downstream",
    ),
    ("tables.t.rows", row(network="gone"), r"tables.t.rows\[0\].network: network 'gone' is not in params/recipes.yaml"),
    (
        "tables.t.rows",
        row(evaluate=["gone"]),
        r"rows\[0\].evaluate: evaluation 'gone' is not in params/recipes.yaml: evaluations, which has .*certify",
    ),
    ("tables.t.rows", row(evaluate=["certify"] * 2), r"tables.t.rows\[0\].evaluate: should name each value once"),
    (
        "tables.t.rows",
        pooled({"train": ["clean@downstream"], "evaluate": ["certify_025"]}, {"network": "gone", "train": ["x@y"]}),
        r"tables.t.rows\[0\].runs\[1\].network: network 'gone' is not in",
    ),
    (
        "tables.t.rows",
        pooled({"train": ["clean@downstream"]}, {"train": ["gone@downstream"]}),
        r"tables.t.rows\[0\].runs\[1\].train\[0\]: recipe 'gone' is not in",
    ),
    (
        "figures.f.panels.0.rows.0.train",
        ["gone@upstream"],
        rf"{FILE}: figures.f.panels\[0\].rows\[0\].train\[0\]: recipe 'gone' is not in",
    ),
    ("shifts.s.rows.0.train", ["gone@upstream"], rf"{FILE}: shifts.s.rows\[0\].train\[0\]: recipe 'gone' is not in"),
    ("tables.t.rows", [ROW, ROW], r"tables.t.rows\[1\].label: 'x' is there twice"),
    ("figures.f.panels.0.rows", [ROW, ROW], r"figures.f.panels\[0\].rows\[1\].label: 'x' is there twice"),
    ("tables.Table 1", TABLE, f"{FILE}: tables.Table 1: .*match pattern"),
    (
        "figures",
        {"t": {"title": "F", "caption": "C", "panels": [{"title": "P", "rows": [ROW]}]}},
        "t: names two reports",
    ),
    ("tables.training", TABLE, f"{FILE}: training: is a rule of the workflow; choose another name"),
    # ----------------------------------------------------------------------------------------------- beside the paper
    ("paper", "another", f"{FILE}: paper: should be one of ft-cadis, mixed-noise, .*found 'another'"),
    ("tables.t.published", "Table 99", "tables.t.published: should be one of Table 1, .*found 'Table 99'"),
    (
        "tables.t",
        TABLE | {"published": "Table 1", "rows": row(published="x")},
        r"rows\[0\].published: 'x' is no row of T",
    ),
    ("tables.t.rows", row(published="x"), r"tables.t.rows\[0\].published: 'x' is no row of None"),
    # ------------------------------------------------------------------------------------------------------- columns
    ("tables.t.columns", [], f"{FILE}: tables.t.columns: .*at least 1 item"),
    (
        "tables.t.columns",
        ["speed"],
        r"tables.t.columns: should be measure or measure@radius, with a measure of clean, ",
    ),
    ("tables.t.columns", ["certified"], "tables.t.columns: certified: should have a radius >= 0, as in certified@0.25"),
    (
        "tables.t.columns",
        ["certified@x"],
        "tables.t.columns: certified: should have a radius >= 0.*found 'certified@x'",
    ),
    ("tables.t.columns", ["certified@-1"], "tables.t.columns: certified: should have a radius >= 0"),
    ("tables.t.columns", ["certified@nan"], "tables.t.columns: certified: should have a radius >= 0"),
    ("tables.t.columns", ["certified@inf"], "tables.t.columns: certified: should have a radius >= 0"),
    ("tables.t.columns", ["clean@0.5"], "tables.t.columns: clean: should have no radius, found 'clean@0.5'"),
    ("tables.t.columns", ["acr", "acr"], "tables.t.columns: should name each value once"),
    ("tables.t.columns", ["certified@0.5", "certified@0.50"], "tables.t.columns: should name each value once"),
    ("tables.t.brackets", "clean", f"{FILE}: tables.t.brackets: should be 'natural', found 'clean'"),
    ("tables.t.radii", [0.5], f"{FILE}: tables.t.radii: unknown key"),  # they are its columns'
    (
        "tables.t.rows",
        row(evaluate=["shift"]),
        r"tables.t.rows\[0\]: column certified@0.25: should be evaluated by one of kind .*certify.*, which its runs",
    ),
    (
        "tables.t.rows",
        pooled({"train": ["clean@downstream"], "evaluate": ["certify_025"]}, {"train": ["x@y"], "evaluate": ["shift"]}),
        r"tables.t.rows\[0\]: column certified@0.25: should be evaluated by one of kind .*certify",
    ),
    (
        "tables.t.rows",
        pooled(
            {"train": ["clean@downstream"], "evaluate": ["certify_025"]},
            {"train": ["mixed@downstream"], "evaluate": ["certify_050"]},
        ),
        r"tables.t.rows\[0\]: column clean: clean is of one run, and this row pools 2",
    ),
    (
        "tables.t",
        TABLE | {"columns": ["robust@0.25"]},
        r"tables.t.rows\[0\]: column robust@0.25: should be evaluated by one of kind attack, which its runs are not",
    ),
    (
        "tables.t",
        TABLE | {"columns": ["standard"]},
        r"tables.t.rows\[0\]: column standard: should be evaluated by one of kind attack, which its runs are not",
    ),
    (
        "tables.t",
        TABLE | {"columns": ["robust@0.25"], "rows": row(evaluate=["autopgd", "autopgd_012"])},
        r"tables.t.rows\[0\]: column robust@0.25: should be attacked within 0.25, is within 0.5, 0.12",
    ),
    (
        "tables.t",
        TABLE
        | {
            "columns": ["robust@0.5"],
            "rows": pooled(
                {"train": ["clean@downstream"], "evaluate": ["autopgd"]},
                {"train": ["mixed@downstream"], "evaluate": ["autopgd"]},
            ),
        },
        r"tables.t.rows\[0\]: column robust@0.5: robust is of one run, and this row pools 2",
    ),
    (
        "tables.t",
        TABLE | {"columns": ["robust@0.25"], "rows": row(evaluate=["autopgd_025", "linf"])},
        r"tables.t.rows\[0\]: should be attacked once within each epsilon, is more often within \[0.25\]",
    ),
    ("tables.t.columns", ["robust"], "tables.t.columns: robust: should have a radius >= 0, as in robust@0.25"),
    ("tables.t.columns", ["standard@1"], "tables.t.columns: standard: should have no radius, found 'standard@1'"),
    (
        "tables.t",
        TABLE | {"columns": ["robust@0.5"], "rows": row(evaluate=["autopgd"])},
        r"params/studies/smoke.yaml: attack: missing; the evaluation 'autopgd' \(attack\) needs it",
    ),
    ("tables.t.against", "gone", rf"{FILE}: tables.t.against: should be a row \(x\), found 'gone'"),
    (
        "tables.t.rows",
        row(evaluate=["cascade", "margin"]),
        r"tables.t.rows\[0\]: a classifier of several sigmas should be the only one, of the row's only run",
    ),
    (
        "tables.t.rows",
        pooled(
            {"train": ["clean@downstream"], "evaluate": ["certify_025", "cascade"]},
            {"train": ["mixed@downstream"], "evaluate": ["certify_050"]},
        ),
        r"tables.t.rows\[0\]: a classifier of several sigmas should be the only one, of the row's only run",
    ),
    (
        "figures.f.panels.0.rows.0.evaluate",
        ["shift"],
        r"figures.f.panels\[0\].rows\[0\]: should be evaluated by one of kind .*certify.*, which its runs are not",
    ),
    ("shifts.s.rows.0.evaluate", ["certify"], r"shifts.s.rows\[0\].evaluate: should name an evaluation of kind shift"),
    ("shifts.s.rows.0.evaluate", ..., r"shifts.s.rows\[0\].evaluate: should name an evaluation of kind shift"),
    (
        "shifts.s.rows.0.train",
        ["mixed@upstream"],
        r"shifts.s.rows\[0\].train: should have two stages or more: the shift",
    ),
    ("shifts.s.rows", [{"label": "x", "files": FILES}], r"shifts.s.rows\[0\].train: should have two stages or more"),
    # --------------------------------------------------------------------------------------------------------- gains
    ("gains.g.table", "gone", rf"{FILE}: gains.g.table: table 'gone' is not in tables, which has t"),
    ("gains.g.x", "acr", rf"{FILE}: gains.g.x: should be a column of t \(clean, certified@0.25\), found 'acr'"),
    ("gains.g.y", "certified@0.5", rf"{FILE}: gains.g.y: should be a column of t .*, found 'certified@0.5'"),
    ("gains.g.against", "scratch", rf"{FILE}: gains.g.against: should be a row \(x\), found 'scratch'"),
    (
        "tables.t.rows",
        [ROW, ROW | {"label": "z", "block": "b"}],
        r"gains.g.against: should be a row of the block 'b' \(z\)",
    ),
    # ------------------------------------------------------------------------------------------------------- courses
    ("courses.c.metric", "train full", rf"{FILE}: courses.c.metric: String should match pattern .*'train full'"),
    ("courses.c.metric", ..., rf"{FILE}: courses.c.metric: missing"),
    ("courses.c.rows", [], f"{FILE}: courses.c.rows: .*at least 1 item"),
    ("courses.c.rows.0.train", ["gone@upstream"], rf"{FILE}: courses.c.rows\[0\].train\[0\]: recipe 'gone' is not in"),
    ("courses.c.rows", [ROW, ROW], r"courses.c.rows\[1\].label: 'x' is there twice"),
    (
        "courses.c.rows",
        pooled({"train": ["clean@downstream"]}, {"train": ["mixed@downstream"]}),
        rf"{FILE}: courses.c.rows\[0\]: should have the course of one run, has 2",
    ),
    (
        "courses.c.rows",
        [{"label": "x", "files": FILES}],
        r"courses.c.rows\[0\]: should have the course of one run, has files",
    ),
    (
        "courses.c.rows",
        row(evaluate=["certify"]),
        r"courses.c.rows\[0\]: evaluate: a course is of the training, and needs no evaluation",
    ),
    (
        "courses.c.rows",
        row(train=["clean@downstream", "nothing@downstream"]),
        r"courses.c.rows\[0\]: nothing@downstream trains nothing, so it has no course",
    ),
    # -------------------------------------------------------------------------------------------------- transductive
    (
        "tables.t.rows",
        row(evaluate=["samplewise"]),
        rf"{FILE}: tables.t.rows\[0\].label: should say that the row is transductive, found 'x'",
    ),
    (
        "tables.t.rows",
        row(label="transductive", evaluate=["samplewise"]),
        r"tables.t.rows\[0\]: is transductive: beside it should stand a row evaluated by lookup and one by certify, "
        "found none by lookup or certify",
    ),
    (
        "tables.t.rows",
        [ROW, ROW | {"label": "transductive", "evaluate": ["samplewise"]}],
        r"tables.t.rows\[1\]: is transductive: .*, found none by lookup$",
    ),
    (
        "tables.t.rows",
        row(label="transductive", evaluate=["lookup"]),
        r"tables.t.rows\[0\]: is transductive: .*, found none by certify$",
    ),
    (
        "figures.f.panels.0.rows",
        row(label="transductive", evaluate=["samplewise"]),
        r"figures.f.panels\[0\].rows\[0\]: is transductive: .*, found none by lookup or certify",
    ),
    (
        "tables.t.rows",
        row(evaluate=["samplewise", "certify_025"]),
        r"tables.t.rows\[0\]: should be certified by samplewise alone, once; found samplewise, certify",
    ),
    (
        "tables.t.rows",
        row(train=["mixed@upstream", "samplewise@downstream"]),
        r"tables.t.rows\[0\].train\[1\]: samplewise chooses sigmas by what the stage before it answers, "
        "which should be on the dataset of 'downstream', found one on characters",
    ),
    (
        "tables.t.rows",
        row(train=["samplewise@downstream"]),
        r"tables.t.rows\[0\].train\[0\]: samplewise chooses sigmas by .*, found none",
    ),
    # ----------------------------------------------------------------------------------------------------- one sigma
    (
        "tables.t.rows",
        row(evaluate=["certify_025", "certify_050"], sigma=1.0),
        rf"{FILE}: tables.t.rows\[0\].sigma: should be one that its evaluations certify at \(0.25, 0.5\), found 1",
    ),
    # -------------------------------------------------------------------------------------------------------- curves
    (
        "tables.t.columns",
        ["trained@0.5"],
        "tables.t.columns: trained: should have no radius, found 'trained@0.5'",
    ),
    (
        "tables.t",
        TABLE
        | {
            "columns": ["hours"],
            "rows": pooled(
                {"train": ["clean@downstream"], "evaluate": ["certify_025"]},
                {"train": ["mixed@downstream"], "evaluate": ["certify_050"]},
            ),
        },
        r"tables.t.rows\[0\]: column hours: hours is of one run, and this row pools 2",
    ),
    (
        "tables.t.rows",
        row(evaluate=["certify", "certify_050"]),
        rf"{FILE}: tables.t.rows\[0\]: should be certified once at each sigma, is more often at \[0.5\]",
    ),
    (
        "figures.f.panels.0.rows",
        pooled({"train": ["clean@downstream"]}, {"train": ["mixed@downstream"]}),
        r"figures.f.panels\[0\].rows\[0\]: should be certified once at each sigma, is more often at \[0.25, 0.5, 1.0\]",
    ),
    (
        "figures.f.panels.0.rows",
        pooled(
            {"train": ["clean@downstream"], "evaluate": ["certify_025"]},
            {"train": ["clean@second"], "evaluate": ["certify_050"]},
        ),
        r"figures.f.panels\[0\].rows\[0\].runs: should end on one dataset, found digits, textures",
    ),
    # --------------------------------------------------------------------------------------------------------- tasks
    (
        "tables.t.rows",
        row(train=["mixed@upstream", "clean@task"]),
        r"tables.t.rows\[0\].train\[1\]: the role 'task' stands for each of a table's `tasks`, or the study's, and",
    ),
    (
        "figures.f.panels.0.rows.0.train",
        ["clean@task"],
        r"figures.f.panels\[0\].rows\[0\].train\[0\]: the role 'task' stands for each of a table's `tasks`, or",
    ),
    (
        "tables.t",
        TABLE | {"tasks": ["downstream", "cars"], "rows": row(train=["clean@task"])},
        f"{FILE}: tables.t.tasks: role 'cars' is not in params/studies/smoke.yaml: roles, which has downstream",
    ),
    ("tables.t.tasks", ["downstream"], f"{FILE}: tables.t.tasks: stand for the role 'task', which no row has"),
    ("tables.t.tasks", ["second", "second"], f"{FILE}: tables.t.tasks: should name each value once"),
    # ------------------------------------------------------------------------------------------------------ 0 epochs
    (
        "tables.t.rows",
        row(train=["mixed@upstream", "nothing@downstream"]),
        r"tables.t.rows\[0\].train\[1\]: nothing trains nothing, so the stage before it should be on the dataset of "
        "'downstream' too",
    ),
    (
        "tables.t.rows",
        pooled({"train": ["nothing@downstream"]}),
        r"tables.t.rows\[0\].runs\[0\].train\[0\]: nothing trains nothing, and layer_norm has random weights",
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), FAULTS)
def test_a_fault_is_told_with_file_and_key(base: Path, key: str, value: Any, message: str) -> None:
    edit(base, "tables/mixed_noise", key, value)
    with pytest.raises(ParamsError, match=message):
        load("smoke", base)


@pytest.mark.parametrize(
    "rows",
    [
        row(),
        row(network="batch_norm", evaluate=["certify_025", "certify_050", "shift"], block="b"),
        row(train=["clean@downstream", "nothing@downstream"]),
        row(network="official_224", train=["nothing@downstream"]),
        [ROW, ROW | {"block": "another"}],
        [ROW, {"label": "theirs", "files": [{"sigma": 0.25, "file": "~/theirs.tsv"}]}],
    ],
)
def test_rows_may_be(base: Path, rows: list[dict[str, Any]]) -> None:
    edit(base, "tables/mixed_noise", "tables.t.rows", rows)
    assert [row.label for row in load("smoke", base).tables.tables["t"].rows] == [row["label"] for row in rows]


def test_a_stage_that_trains_nothing_may_be_of_another_role_of_the_same_dataset(base: Path) -> None:
    edit(base, "tables/mixed_noise", "tables.t.rows", row(train=["mixed@upstream", "nothing@downstream"]))
    edit(base, "studies/smoke", "roles.upstream.dataset", "digits")
    assert load("smoke", base).study.roles["upstream"].dataset == "digits"


def test_a_pooled_row_has_a_curve_of_each_run(base: Path) -> None:
    rows = pooled(
        {"train": ["clean@downstream"], "evaluate": ["certify_025"]},
        {"train": ["mixed@downstream"], "evaluate": ["certify_050"]},
    )
    edit(base, "tables/mixed_noise", "tables.t", TABLE | {"columns": ["certified@0.25"], "rows": rows})
    assert len(load("smoke", base).tables.tables["t"].rows[0].evaluated) == 2


@pytest.mark.parametrize(
    ("radii", "brackets", "missing"),
    [
        ([0.0, 0.5], None, "[0.25]"),
        ([0.25, 0.5], None, ""),
        ([0.25, 0.5], "natural", "[0.0]"),
        ([0.0, 0.25], "natural", ""),
    ],
)
def test_sequential_decides_all_radii_that_are_shown(
    base: Path, radii: list[float], brackets: str | None, missing: str
) -> None:
    edit(base, "studies/smoke", "certify.method", "sequential")
    edit(base, "studies/smoke", "certify.radii", radii)
    edit(base, "tables/mixed_noise", "tables.t.brackets", brackets)
    if not missing:
        assert load("smoke", base).study.certify
    else:
        told = f"params/studies/smoke.yaml: certify.radii: should have all radii that t shows, {missing} are missing"
        with pytest.raises(ParamsError, match=f"^{re.escape(told)}$"):
            load("smoke", base)


def test_what_is_not_certified_needs_no_section_about_it(base: Path) -> None:
    edit(base, "studies/smoke", "certify", ...)
    edit(base, "studies/smoke", "report", ["s"])
    assert load("smoke", base).study.certify is None
    edit(base, "studies/smoke", "report", ["s", "t"])
    with pytest.raises(ParamsError, match="certify: missing; the evaluation 'certify'"):
        load("smoke", base)


def test_a_row_may_be_certified_and_attacked(base: Path) -> None:
    columns, evaluate = ["certified@0.25", "robust@0.25", "robust@0.5"], ["certify", "autopgd", "autopgd_025"]
    edit(base, "tables/mixed_noise", "tables.t", TABLE | {"columns": columns, "rows": row(evaluate=evaluate)})
    edit(base, "studies/smoke", "attack", {"steps": 5, "losses": ["margin"]})
    study = load("smoke", base).study
    assert study.attack
    assert (study.attack.losses, study.attack.batch) == (("margin",), 250)
    # A row of somebody else's logs has no attacks, and stands beside it all the same.
    logs = [ROW | {"evaluate": evaluate}, {"label": "theirs", "files": FILES}]
    edit(base, "tables/mixed_noise", "tables.t.rows", logs)
    assert len(load("smoke", base).tables.tables["t"].rows) == 2


def test_a_course_needs_no_evaluation(base: Path) -> None:
    """Neither how much there is of it, nor that the study's own have no sigma twice and are what it was trained for."""
    edit(base, "studies/smoke", "certify", ...)
    edit(base, "studies/smoke", "evaluate", ["certify", "certify_050"])
    edit(base, "studies/smoke", "report", ["c"])
    edit(base, "recipes", "recipes.clean.denoiser", "unet_16/denoise@upstream")
    assert load("smoke", base).study.certify is None
    edit(base, "tables/mixed_noise", "courses.c.rows", pooled({"train": ["clean@downstream"]}))
    assert len(load("smoke", base).tables.courses["c"].rows[0].evaluated) == 1


@given(st.sampled_from(["certified", "robust"]), st.floats(0, 1e6))
def test_a_column_comes_back_from_its_text(measure: str, radius: float) -> None:
    column = parse_column(f"{measure}@{radius!r}")
    assert (column.measure, column.radius) == (measure, radius)
    assert parse_column(column.text).text == column.text


def test_a_row_knows_its_runs() -> None:
    one = Row.model_validate(ROW | {"network": "n", "evaluate": ["e"]})
    assert [(each.network, each.train, each.evaluate) for each in one.evaluated] == [("n", tuple(ROW["train"]), ("e",))]
    runs = [{"train": ["a@b"]}, {"train": ["c@d"], "network": "n"}]
    assert [each.network for each in Row.model_validate({"label": "x", "runs": runs}).evaluated] == [None, "n"]
    assert Row.model_validate({"label": "x", "files": FILES}).evaluated == ()


def test_a_table_knows_the_radii_of_its_certified_columns() -> None:
    columns = ["clean", "certified@1", "certified@0.25", "acr"]
    assert Table.model_validate(TABLE | {"columns": columns}).certified_radii == (1.0, 0.25)


def test_no_report_may_be_called_like_a_rule_of_the_workflow() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    named = {name for file in files for name in re.findall(r"^rule (\w+):$", file.read_text(), re.MULTILINE)}
    assert named == set(RULES)


def test_distances_of_images_that_are_resized_are_not_known(base: Path) -> None:
    beside = [ROW | {"label": "transductive lookup", "evaluate": ["lookup"]}]
    edit(base, "tables/mixed_noise", "tables.t.rows", [ROW, *beside])
    assert load("smoke", base)
    edit(base, "datasets", "datasets.digits.stored", 16)
    edit(base, "datasets", "datasets.digits.resize", 20)
    with pytest.raises(ParamsError, match=r"rows\[1\]: distances are of images as stored, and digits resizes them"):
        load("smoke", base)
