import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from transmooth.params import CertifyParams, ParamsError, Study, check_logs, check_sources, load


@pytest.fixture
def base(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


def edit(base: Path, file: str, keys: str, value: Any) -> None:
    """Set (or, with `...`, delete) a dotted key of a params file."""
    path = base / "params" / f"{file}.yaml"
    content = yaml.safe_load(path.read_text())
    *parents, last = [int(key) if key.isdigit() else key for key in keys.split(".")]
    target = content
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize("study", [p.stem for p in (ROOT / "params").glob("*.yaml") if "roles" in p.read_text()])
def test_every_study_loads(study: str) -> None:
    assert load(study, ROOT).study.report


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("smoke", "finetune.learning_rate", 0.1, "params/smoke.yaml: finetune.learning_rate: unknown key"),
        ("smoke", "finetune.epochs", ..., "params/smoke.yaml: finetune.epochs: missing"),
        ("smoke", "finetune.epochs", "ten", "params/smoke.yaml: finetune.epochs: .*integer.*found 'ten'"),
        ("smoke", "finetune.epochs", 0, "params/smoke.yaml: finetune.epochs: .*greater than or equal to 1.*found 0"),
        ("smoke", "finetune.epochs", True, "params/smoke.yaml: finetune.epochs: should be a number, not a boolean"),
        ("smoke", "finetune.lr", [], "params/smoke.yaml: finetune.lr: .*at least 1 item"),
        ("smoke", "finetune.lr", [0.1, -0.1], r"params/smoke.yaml: finetune.lr\[1\]: .*greater than 0.*found -0.1"),
        ("smoke", "finetune.batch", 63, "should be a multiple of processes x accumulate .2 x 1., found 63"),
        ("smoke", "finetune.precision", "fp8", "params/smoke.yaml: finetune.precision: .*'fp32', 'bf16' or 'fp16'"),
        ("smoke", "certify.sigmas", [0.25, -0.5], r"params/smoke.yaml: certify.sigmas\[1\]: .*found -0.5"),
        ("smoke", "certify.sigmas", [0.5, 0.25], "params/smoke.yaml: certify.sigmas: should increase"),
        ("smoke", "certify.sigmas", [0.25, float("nan")], r"params/smoke.yaml: certify.sigmas\[1\]"),
        ("smoke", "certify.n", 9, "9 samples can never certify at alpha = 0.001"),
        ("smoke", "certify.alpha", 0, "params/smoke.yaml: certify.alpha: .*greater than 0"),
        ("smoke", "certify.images", "some", "params/smoke.yaml: certify.images"),
        ("smoke", "network.groups", 7, r"params/smoke.yaml: network.groups: should divide .*\[16, .*found 7"),
        (
            "smoke",
            "roles.downstream",
            "dogs",
            "params/smoke.yaml: roles.downstream: dataset 'dogs' is not in params/data",
        ),
        ("smoke", "roles.second", ..., r"figures.figure2.panels\[1\].rows\[0\].dataset: role 'second' is not in"),
        (
            "recipes",
            "recipes.finetune.clean.objective",
            "cross_entropie",
            "should be a file of src/transmooth/obj",
        ),
        ("smoke", "network.groups", 16, "params/smoke.yaml: network.groups: should divide every channel count"),
        ("smoke", "network.options.channels", ["x"], "options.channels: should be a list of numbers"),
        ("smoke", "network.options.stem_width", "x", "options.stem_width: should be a number >= 1, found 'x'"),
        ("smoke", "finetune.lr", 0.01, "params/smoke.yaml: finetune.lr: should be a list, such as"),
        ("smoke", "finetune.warmup_epochs", 50, r"warmup_epochs: should be below epochs \(10\), found 50"),
        ("tables", "tables.table1.rows.1.label", "clean → clean", r"rows\[1\].label: 'clean → clean' is there twice"),
        ("tables", "tables.table1.rows.1.published", "x", r"rows\[1\].published: 'x' is no row of Table 1"),
        (
            "tables",
            "tables.table3.logs",
            [{"label": "x", "published": "y", "files": [{"sigma": 1, "file": "z"}]}],
            r"tables.table3.logs\[0\].published: 'y' is no row of Table 3",
        ),
        (
            "tables",
            "tables.table3.logs",
            [{"label": "x", "files": [{"sigma": 1, "file": "z"}] * 2}],
            r"tables.table3.logs\[0\].files: should name each value once, found \[1.0, 1.0\]",
        ),
        ("tables", "tables.table1.paper", "Table 99", "tables.table1.paper: should be one of Table 1, "),
        (
            "tables",
            "gaps.table2.rows.0.pretrain",
            "scratch",
            r"should be pretrained .*, 'scratch' starts random",
        ),
        ("smoke", "roles.upstream", ..., "params/smoke.yaml: roles.upstream: missing"),
        ("smoke", "report", ["table9000"], r"params/smoke.yaml: report\[0\]: report 'table9000' is not in"),
        (
            "smoke",
            "seeds_of",
            {"table9": [0]},
            "params/smoke.yaml: seeds_of: table9: not in `report`, which has table1",
        ),
        ("smoke", "seeds", [1, 1], "params/smoke.yaml: seeds: should name each value once"),
        (
            "recipes",
            "recipes.pretrain.mixed.sigmas",
            [0, -0.25],
            r"params/recipes.yaml: recipes.pretrain.mixed.sigmas\[1\]",
        ),
        (
            "recipes",
            "recipes.pretrain.mixed.norm",
            "weight",
            "recipes.pretrain.mixed.norm: .*'instance'.*found 'weight'",
        ),
        (
            "recipes",
            "recipes.pretrain.Bad Name",
            {},
            r"params/recipes.yaml: recipes.pretrain.Bad Name: .*match pattern",
        ),
        ("recipes", "recipes.finetune.clean.trainable", "some", "recipes.finetune.clean.trainable: .*'all' or 'head'"),
        (
            "tables",
            "tables.table1.rows.0.pretrain",
            "gone",
            r"tables.table1.rows\[0\].pretrain: recipe 'gone' is not in",
        ),
        (
            "tables",
            "tables.table1.rows.0.finetune",
            "gone",
            r"tables.table1.rows\[0\].finetune: recipe 'gone' is not in",
        ),
        ("tables", "tables.table3.radii", [0.5, 0.25], "params/tables.yaml: tables.table3.radii: should increase"),
        ("tables", "tables.table3.rows", [], "params/tables.yaml: tables.table3.rows: .*at least 1 item"),
        ("datasets", "datasets.digits.source.kind", "cifar", "params/datasets.yaml: datasets.digits.source: .*'cifar'"),
        (
            "datasets",
            "datasets.digits.source.root",
            "/x",
            "params/datasets.yaml: datasets.digits.source.root: unknown key",
        ),
        ("datasets", "datasets.digits.size", 0, "params/datasets.yaml: datasets.digits.size: .*found 0"),
        ("datasets", "datasets.digits.stored", 8, r"stored: should be at least size \(16\), found 8"),
        (
            "datasets",
            "datasets.digits.augment",
            ["spin"],
            r"params/datasets.yaml: datasets.digits.augment\[0\]: .*'flip'",
        ),
    ],
)
def test_a_fault_is_told_with_file_and_key(base: Path, file: str, key: str, value: Any, message: str) -> None:
    if key == "finetune.batch":
        edit(base, file, "finetune.processes", 2)
    edit(base, file, key, value)
    with pytest.raises(ParamsError, match=message):
        load("smoke", base)


def test_all_faults_are_told_at_once(base: Path) -> None:
    edit(base, "smoke", "finetune.epochs", 0)
    edit(base, "smoke", "certify.n0", 0)
    with pytest.raises(ParamsError) as error:
        load("smoke", base)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("study", ["recipes", "nowhere", "../smoke"])
def test_an_unknown_study_is_refused_with_the_known_ones(study: str) -> None:
    with pytest.raises(ParamsError, match=r"no such study; there is .*smoke"):
        load(study, ROOT)


def test_a_key_that_is_there_twice_is_found(base: Path) -> None:
    path = base / "params" / "smoke.yaml"
    path.write_text(path.read_text() + "seeds:\n- 3\n")
    with pytest.raises(ParamsError, match=r"params/smoke.yaml: line \d+: the key 'seeds' is there twice"):
        load("smoke", base)


@pytest.mark.parametrize("content", ["a: [", "- just\n- a list\n", "\x00"])
def test_what_is_no_yaml_mapping_is_refused(base: Path, content: str) -> None:
    (base / "params" / "smoke.yaml").write_text(content)
    with pytest.raises(ParamsError, match=re.escape("params/smoke.yaml: ")):
        load("smoke", base)


def test_a_dataset_that_is_not_there_is_told_before_any_work(base: Path) -> None:
    source = {"kind": "imagefolder", "root": "pictures/of/nothing"}
    edit(base, "datasets", "datasets.digits", {"source": source, "size": 16})
    params = load("smoke", base)
    check_sources(params, ["characters"], base)
    with pytest.raises(ParamsError, match=r"datasets.digits.source.root: no such folder: .*pictures/of/nothing"):
        check_sources(params, ["characters", "digits"], base)
    (base / "external" / "digits").mkdir(parents=True)
    (base / "external" / "digits" / "manifest.json").touch()
    check_sources(params, ["digits"], base)  # prepared once, the source may go


def test_a_log_that_is_not_there_is_told_before_any_work(base: Path) -> None:
    files = [{"sigma": 0.25, "file": "theirs.tsv"}]
    edit(base, "tables", "tables.table3.logs", [{"label": "x", "files": files}])
    with pytest.raises(ParamsError, match=r"tables.table3.logs\[0\].files\[0\].file: no such file: .*/theirs.tsv"):
        check_logs(load("smoke", base), base)
    (base / "theirs.tsv").touch()
    check_logs(load("smoke", base), base)


def test_pictures_to_fetch_by_hand_can_be_planned_with(base: Path) -> None:
    source = {"kind": "imagefolder", "root": "pictures/of/nothing"}
    edit(base, "datasets", "datasets.digits", {"source": source, "size": 16, "fetch": "Ask the owner."})
    (line,) = check_sources(load("smoke", base), ["characters", "digits"], base)
    assert re.fullmatch(
        r"params/datasets.yaml: datasets.digits.source.root: .*nothing\n  to fetch: Ask the owner.", line
    )


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw of floats is
@given(st.dictionaries(st.sampled_from([*Study.model_fields, "extra"]), json))
def test_no_content_gives_more_than_a_params_error(content: dict[str, Any]) -> None:
    from transmooth.params import validate

    with pytest.raises(ParamsError, match=r"params/any\.yaml: "):
        validate(Study, content, "params/any.yaml")


@given(st.floats(1e-6, 0.49), st.integers(1, 200))
def test_n_is_accepted_exactly_when_it_can_certify(alpha: float, n: int) -> None:
    content = {"sigmas": [0.5], "n0": 10, "n": n, "alpha": alpha, "images": 1}
    if alpha ** (1 / n) > 0.5:
        assert CertifyParams.model_validate(content).n == n
    else:
        with pytest.raises(ValueError, match="can never certify"):
            CertifyParams.model_validate(content)
