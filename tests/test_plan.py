import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from transmooth.params import Params, load
from transmooth.plan import Plan, Run

BASE = load("smoke", ROOT)


def changed(**study: Any) -> Plan:
    """The smoke plan with some settings of the study replaced: `section__key=value`."""
    content = BASE.model_dump(mode="python")
    for keys, value in study.items():
        target = content
        *parents, last = keys.split("__")
        for key in parents:
            target = target[key]
        target[last] = value
    return Plan(Params.model_validate(content))


def specs(plan: Plan) -> dict[str, str]:
    run = Run("mixed", "digits", "clean", 0)
    return {
        "prepare": plan.prepare("digits"),
        "pretrain": plan.pretrain("mixed", 0),
        "finetune": plan.finetune(run),
        "certify": plan.certify("digits"),
        "table6": plan.table("table6"),
        "table5": plan.table("table5"),
        "figure2": plan.figure("figure2"),
    }


def differing(plan: Plan) -> set[str]:
    before, after = specs(Plan(BASE)), specs(plan)
    return {name for name in before if before[name] != after[name]}


def test_a_param_reaches_the_jobs_that_it_changes_and_no_others() -> None:
    assert differing(changed(study__finetune__lr=(0.5,))) == {"finetune"}
    assert differing(changed(study__pretrain__epochs=99)) == {"pretrain"}
    assert differing(changed(study__certify__n=7777)) == {"certify"}
    assert differing(changed(study__network__options={})) == {"pretrain"}
    assert differing(changed(recipes__pretrain__mixed__sigmas=(0.0, 2.0))) == {"pretrain"}
    assert differing(changed(datasets__digits__augment=("flip",))) == {"finetune"}
    assert differing(changed(datasets__digits__validation=0.3)) == {"prepare"}
    assert differing(changed(reports__tables__table6__caption="Other words.")) == {"table6"}
    assert differing(changed(reports__figures__figure2__title="Other words.")) == {"figure2"}


def test_how_a_job_is_carried_out_is_in_no_spec() -> None:
    for change in (
        {"study__certify__shards": 7},
        {"study__certify__batch": 3},
        {"study__certify__processes": 2},
        {"study__finetune__checkpoint_seconds": 1.0},
        {"study__network__groups": 4},  # only group norm reads it
    ):
        assert differing(changed(**change)) == set()
    group = Plan(BASE).pretrain("mixed_group_norm", 0)
    assert changed(study__network__groups=4).pretrain("mixed_group_norm", 0) != group


def test_a_dataset_that_no_table_names_adds_no_job() -> None:
    content = BASE.model_dump(mode="python")
    content["datasets"]["more"] = content["datasets"]["digits"]
    content["recipes"]["pretrain"]["more"] = content["recipes"]["pretrain"]["mixed"]
    assert Plan(Params.model_validate(content)).jobs() == Plan(BASE).jobs()


def test_one_epoch_has_its_own_epochs_and_no_warm_up_beyond_them() -> None:
    full = json.loads(Plan(BASE).finetune(Run("mixed", "digits", "clean", 0)))["training"]
    one = json.loads(Plan(BASE).finetune(Run("mixed", "digits", "clean_one_epoch", 0)))["training"]
    assert (full["epochs"], one["epochs"], one["warmup_epochs"]) == (BASE.study.finetune.epochs, 1, 0)


def test_scratch_brings_its_network_and_needs_no_pretraining() -> None:
    plan = Plan(BASE)
    scratch, transferred = Run("scratch", "digits", "clean", 0), Run("mixed", "digits", "clean", 0)
    assert not plan.pretrained(scratch)
    assert json.loads(plan.finetune(scratch))["network"]["norm"] == "layer"
    assert "network" not in json.loads(plan.finetune(transferred))


def test_a_recipe_may_bring_its_own_network_and_upstream() -> None:
    official = {"start": "official", "norm": "batch", "network": "resnet50.tv_in1k"}
    content = BASE.model_dump(mode="python")
    content["recipes"]["pretrain"] |= {"official": official, "large": {"upstream": "second", "stem": "imagenet"}}
    rows = tuple({"label": "x", "pretrain": name, "finetune": "clean"} for name in ("official", "large"))
    content["reports"] = {"tables": {"t": {"title": "", "caption": "", "radii": (0.0,), "rows": rows}}, "figures": {}}
    content["study"] |= {"report": ("t",), "certify": content["study"]["certify"] | {"images": None}}
    content["datasets"]["digits"]["images"] = 77
    plan = Plan(Params.model_validate(content))
    assert plan.datasets == ["textures", "digits"]
    assert plan.jobs()["pretrain"] == 1
    network = json.loads(plan.finetune(Run("official", "digits", "clean", 0)))["network"]
    assert (network["name"], network["official"], network["stem"]) == ("resnet50.tv_in1k", True, "imagenet")
    assert json.loads(plan.pretrain("large", 0))["network"]["stem"] == "imagenet"
    assert json.loads(plan.certify("digits"))["images"] == 77
    assert plan.prepared("digits") == "data/digits/manifest.json"


row = st.builds(
    lambda pretrain, finetune, dataset: {"label": "x", "pretrain": pretrain, "finetune": finetune, "dataset": dataset},
    st.sampled_from(["clean", "mixed", "scratch"]),
    st.sampled_from(["clean", "mixed", "clean_fixed"]),
    st.sampled_from(["downstream", "second"]),
)


@given(st.lists(row, min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
def test_a_run_that_tables_share_is_computed_once(rows: list[dict[str, str]], seeds: list[int]) -> None:
    def plan(*tables: list[dict[str, str]]) -> Plan:
        made = {f"t{i}": {"title": "", "caption": "", "radii": (0.0,), "rows": rows} for i, rows in enumerate(tables)}
        content = BASE.model_dump(mode="python")
        content["reports"] = {"tables": made, "figures": {}}
        content["study"] |= {"report": tuple(made), "seeds": tuple(seeds)}
        return Plan(Params.model_validate(content))

    one, two = plan(rows), plan(rows, rows[::-1])
    different = {(r["pretrain"], r["finetune"], r["dataset"]) for r in rows}
    assert len(one.runs) == len(different) * len(seeds)
    assert set(one.runs) == set(two.runs)
    assert two.jobs() == one.jobs() | {"table": 2}
    assert one.jobs()["pretrain"] == len({p for p, _, _ in different if p != "scratch"}) * len(seeds)


def test_a_report_may_have_seeds_of_its_own() -> None:
    content = BASE.model_dump(mode="python")
    content["study"] |= {"report": ("table4", "table5"), "seeds": (0,), "seeds_of": {"table5": (0, 7)}}
    plan = Plan(Params.model_validate(content))
    assert {run.seed for run in plan.runs_of("table4")} == {0}
    assert {run.seed for run in plan.runs_of("table5")} == {0, 7}
    assert {run["seed"] for row in json.loads(plan.table("table5"))["rows"] for run in row["runs"]} == {0, 7}
    assert set(plan.runs) == {*plan.runs_of("table4"), *plan.runs_of("table5")}
