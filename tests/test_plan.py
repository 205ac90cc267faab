import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.params import SMOKE, STUDIES, changed, with_table
from transmooth import specs
from transmooth.models import published
from transmooth.params.load import load
from transmooth.params.study import Params
from transmooth.plan import HUB, Plan, Run, Stage

CLEAN, MIXED = Stage("clean", "downstream"), Stage("mixed", "upstream")
SCRATCH, PRETRAINED = Run("layer_norm", (CLEAN,), 0), Run("layer_norm", (MIXED,), 0)
FINETUNED = Run("layer_norm", (MIXED, CLEAN), 0)
ROW = {"label": "x", "train": ("mixed@upstream", "clean@downstream")}


def jobs(plan: Plan) -> dict[str, str]:
    """The specs of some jobs of the smoke study, as jobs get them."""
    return {
        "prepare": plan.prepare_spec("digits"),
        "pretrain": plan.train_spec(PRETRAINED).text,
        "finetune": plan.train_spec(FINETUNED).text,
        "scratch": plan.train_spec(SCRATCH).text,
        "certify": plan.evaluate_spec(FINETUNED, "certify").text,
        "shift": plan.evaluate_spec(FINETUNED, "shift").text,
        "table5": plan.table_spec("table5").text,
        "table6": plan.table_spec("table6").text,
        "figure2": plan.figure_spec("figure2").text,
        "table2": plan.shift_spec("table2").text,
    }


def differing(**values: Any) -> set[str]:
    before, after = jobs(Plan(SMOKE)), jobs(changed(**values))
    return {name for name in before if before[name] != after[name]}


REPORTS = {"table5", "table6", "figure2", "table2"}


@pytest.mark.parametrize(
    ("values", "concerned"),
    [
        ({"study__schedules__finetune__lr": (0.5,)}, {"finetune", "scratch"}),
        ({"study__schedules__finetune__processes": 2}, {"finetune", "scratch"}),  # another share of a batch to each
        ({"study__schedules__pretrain__epochs": 99}, {"pretrain"}),
        ({"study__roles__downstream__schedule": "pretrain"}, {"finetune", "scratch"}),
        ({"study__roles__downstream__dataset": "textures"}, {"finetune", "scratch", "certify", "shift"} | REPORTS),
        ({"study__roles__second__dataset": "characters"}, {"figure2"}),
        ({"study__certify__n": 7777}, {"certify"}),
        ({"study__certify__images": 7}, {"certify"}),
        ({"study__network__options": {}}, {"pretrain", "scratch"}),  # a finetuning takes what it starts from
        ({"study__seeds": (1,)}, REPORTS),
        ({"recipes__recipes__mixed__sigmas": (0.0, 2.0)}, {"pretrain"}),
        ({"recipes__recipes__clean__trainable": "head"}, {"finetune", "scratch"}),
        ({"recipes__recipes__clean__options": {"weight": 2}}, {"finetune", "scratch"}),
        ({"recipes__recipes__clean__augment": ("flip",)}, {"finetune", "scratch"}),
        ({"recipes__recipes__clean__head": "projection"}, {"finetune", "scratch"}),
        ({"recipes__recipes__clean__schedule": "pretrain"}, {"finetune", "scratch"}),
        ({"recipes__recipes__clean__denoiser": "batch_norm/mixed@upstream"}, {"finetune", "scratch"}),
        ({"recipes__networks__layer_norm__norm": "instance"}, {"pretrain", "scratch"}),
        ({"recipes__evaluations__certify__sigmas": (0.25,)}, {"certify"}),
        ({"recipes__evaluations__shift__images": 3}, {"shift"}),
        ({"datasets__digits__augment": ("flip",)}, {"finetune", "scratch"}),
        ({"datasets__digits__validation": 0.3}, {"prepare"}),
        ({"datasets__digits__stored": 8, "datasets__digits__resize": 16}, {"prepare"}),
        ({"datasets__digits__sha256": None}, {"prepare"}),
        ({"datasets__digits__published": "MNIST"}, REPORTS),
        ({"tables__paper": "ft-cadis"}, {"table5", "table6"}),
        ({"tables__tables__table6__caption": "Other words."}, {"table6"}),
        ({"tables__tables__table6__columns": ("clean",)}, {"table6"}),
        ({"tables__tables__table6__brackets": None}, {"table6"}),
        ({"tables__figures__figure2__title": "Other words."}, {"figure2"}),
        ({"tables__shifts__table2__title": "Other words."}, {"table2"}),
    ],
)
def test_a_param_reaches_the_jobs_that_it_changes_and_no_others(values: dict[str, Any], concerned: set[str]) -> None:
    assert differing(**values) == concerned


@pytest.mark.parametrize(
    "values",
    [
        {"study__certify__shards": 7},
        {"study__certify__batch": 3},
        {"study__certify__processes": 2},
        {"study__schedules__finetune__checkpoint_seconds": 1.0},
        {"study__tracker": "wandb"},
        {"study__network__groups": 4},  # only group norm reads it
        {"datasets__digits__images": 7},  # the study says how many
        {"datasets__digits__fetch": "Ask the owner."},
    ],
)
def test_how_a_job_is_carried_out_is_in_no_spec(values: dict[str, Any]) -> None:
    assert differing(**values) == set()


def test_where_the_study_does_not_say_how_many_images_the_dataset_does() -> None:
    spec = changed(study__certify__images=None, datasets__digits__images=77).evaluate_spec(FINETUNED, "certify")
    assert isinstance(spec, specs.CertifySpec)
    assert spec.images == 77


def test_a_recipes_augmentations_take_the_place_of_the_datasets() -> None:
    for own, used in ((None, ("flip",)), (("colour", "grey"), ("colour", "grey")), ((), ())):
        plan = changed(datasets__digits__augment=("flip",), recipes__recipes__clean__augment=own)
        assert plan.train_spec(SCRATCH).augment == used


def test_keys_that_say_nothing_are_in_no_spec_of_before() -> None:
    plan = Plan(SMOKE)
    assert "head" not in json.loads(plan.train_spec(SCRATCH).text)
    assert "head" not in json.loads(plan.network_spec("layer_norm").text)
    folders = {"kind": "imagefolder", "root": "x", "splits": {"train": ["train"], "test": ["test"]}}
    one = {"kind": "onefolder", "root": "x", "test": 0.2, "seed": 0}
    for source in (folders, one):
        made = Plan(Params.model_validate(with_source({key: source[key] for key in ("kind", "root")})))
        prepared = json.loads(made.prepare_spec("digits"))
        assert prepared["source"] == source
        assert prepared.keys() == {"source", "size", "stored", "validation", "seed", "sha256"}
    first = {"kind": "onefolder", "root": "x", "train_per_class": 3}
    made = Plan(Params.model_validate(with_source(first)))
    assert json.loads(made.prepare_spec("digits"))["source"] == first
    assert Params.model_validate(made.params.model_dump(mode="python")) == made.params


def with_source(source: dict[str, Any]) -> dict[str, Any]:
    """The smoke study, with another source of its digits."""
    content = SMOKE.model_dump(mode="python")
    content["datasets"]["digits"]["source"] = source
    return content


@pytest.mark.parametrize("study", STUDIES)
def test_every_spec_comes_back_from_its_text(study: str) -> None:
    """Jobs get specs as JSON: what they read is what was planned."""
    plan = Plan(load(study, ROOT))
    evaluations = [plan.evaluate_spec(run, name) for run, name in plan.evaluations]
    assert all(specs.evaluate_spec(json.loads(spec.text)) == spec for spec in evaluations)
    others: list[specs.Spec] = [plan.train_spec(run) for run in plan.runs.values()]
    others += [*plan.networks.values(), *map(plan.table_spec, plan.tables), *map(plan.figure_spec, plan.figures)]
    others += [*map(plan.shift_spec, plan.shifts), *map(plan.course_spec, plan.courses)]
    others += [*map(plan.gains_spec, plan.gains), plan.page_spec()]
    assert all(type(spec).of(json.loads(spec.text)) == spec for spec in others)


@pytest.mark.parametrize("study", STUDIES)
def test_a_run_is_the_folder_that_rules_look_for(study: str) -> None:
    rules = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    wildcard = re.search(r'^    run=r"(.*)",$', rules, re.MULTILINE)
    assert wildcard
    plan = Plan(load(study, ROOT))
    assert all(re.fullmatch(wildcard[1], path) for path in plan.runs)
    assert all(run.path == path for path, run in plan.runs.items())


def test_the_text_of_a_run_in_the_params_is_its_folder() -> None:
    plan = with_table({"label": "x", "network": "batch_norm", "train": ("mixed@upstream", "clean@downstream")})
    assert list(plan.runs) == ["batch_norm/mixed@upstream/0", "batch_norm/mixed@upstream/clean@downstream/0"]
    (run,) = plan.runs_of("t")
    assert plan.records(run, "certify") == f"evaluate/{run.path}/certify/records.parquet"
    spec = plan.run_spec(run)
    assert (spec.network, spec.stages) == ("batch_norm", ("mixed@upstream", "clean@downstream"))
    assert (spec.seed, spec.dataset, spec.path) == (0, "digits", run.path)


def test_what_no_report_names_adds_no_job() -> None:
    more = {
        "datasets__more": SMOKE.datasets["digits"],
        "recipes__recipes__more": {"denoiser": "batch_norm/more_too@nowhere"},
        "recipes__networks__more": {"norm": "batch"},
        "recipes__evaluations__more": {"kind": "certify", "sigmas": (0.5,)},
        "study__roles__more": {"dataset": "more", "schedule": "pretrain"},
    }
    assert changed(**more).jobs() == Plan(SMOKE).jobs()
    assert changed(**more).page_spec() == Plan(SMOKE).page_spec()


def test_a_recipe_may_have_its_own_epochs_and_no_warm_up_beyond_them() -> None:
    def schedule(epochs: int | None) -> specs.ScheduleSpec:
        return changed(recipes__recipes__clean__epochs=epochs).train_spec(FINETUNED).schedule

    finetune = SMOKE.study.schedules["finetune"]
    assert (finetune.epochs, finetune.warmup_epochs) == (10, 1)
    found = {epochs: schedule(epochs) for epochs in (None, 0, 1, 2)}
    assert {epochs: (each.epochs, each.warmup_epochs) for epochs, each in found.items()} == {
        None: (10, 1),
        0: (0, 0),
        1: (1, 0),
        2: (2, 1),
    }


def test_a_recipe_may_have_its_own_schedule() -> None:
    plan = changed(recipes__recipes__clean__schedule="pretrain", recipes__recipes__clean__epochs=7)
    assert plan.train_spec(FINETUNED).schedule.epochs == 7
    assert plan.schedule(FINETUNED).batch == SMOKE.study.schedules["pretrain"].batch
    own = changed(
        study__schedules__slow={"epochs": 3, "warmup_epochs": 0, "batch": 5, "lr": (1.0,), "weight_decay": 0.0},
        recipes__recipes__clean__schedule="slow",
    )
    assert own.train_spec(FINETUNED).schedule.batch == 5
    assert own.train_spec(PRETRAINED) == Plan(SMOKE).train_spec(PRETRAINED)


def test_what_trains_nothing_is_a_run_with_a_checkpoint() -> None:
    row = {"label": "x", "network": "official_224", "train": ("nothing@downstream",)}
    plan = with_table(row, recipes__recipes__nothing={"epochs": 0})
    assert plan.jobs() == plan.jobs() | {"train": 1, "evaluate": 1, "prepare": 1}
    (run,) = plan.runs.values()
    spec = plan.train_spec(run)
    assert spec.schedule.epochs == 0
    assert spec.network is not None
    assert (spec.network.weights, spec.network.stem) == ("published", "imagenet")


def test_the_first_stage_brings_its_network_and_no_other_has_one() -> None:
    plan = Plan(SMOKE)
    assert SCRATCH.start is None
    assert FINETUNED.start == PRETRAINED
    network = plan.train_spec(SCRATCH).network
    assert network is not None
    assert (network.name, network.norm, network.groups, network.weights) == ("resnet18", "layer", 1, "random")
    assert plan.train_spec(PRETRAINED).network == network
    assert plan.train_spec(FINETUNED).network is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, {"name": "resnet18", "stem": "cifar", "norm": "batch", "groups": 1}),
        ({"norm": "group"}, {"name": "resnet18", "stem": "cifar", "norm": "group", "groups": 8}),
        ({"stem": "imagenet"}, {"name": "resnet18", "stem": "imagenet", "norm": "batch", "groups": 1}),
        # Another network has its own options, not those of the study's.
        ({"name": "resnet50"}, {"name": "resnet50", "stem": "cifar", "options": {}, "norm": "batch", "groups": 1}),
        (
            {"name": "resnet50", "options": {"layers": [1]}},
            {"name": "resnet50", "stem": "cifar", "options": {"layers": [1]}, "norm": "batch", "groups": 1},
        ),
        (
            {"name": "resnet50.tv_in1k", "norm": "batch", "weights": "published"},
            {"name": "resnet50.tv_in1k", "stem": "imagenet", "norm": "batch", "groups": 1, "options": {}}
            | {"weights": "published"},
        ),
        (
            {"name": "unet2d", "options": {"from": "diffusers:google/ddpm-cifar10-32"}, "weights": "published"},
            {"name": "unet2d", "stem": "imagenet", "norm": "batch", "groups": 1, "weights": "published"}
            | {"options": {"from": "diffusers:google/ddpm-cifar10-32"}},
        ),
    ],
)
def test_a_network_says_what_it_has_different_from_the_studys_own(
    entry: dict[str, Any], expected: dict[str, Any]
) -> None:
    spec = changed(recipes__networks__other=entry).network_spec("other")
    assert spec.dump() == {"options": SMOKE.study.network.options, "weights": "random"} | expected


def test_groups_are_of_group_norm_alone() -> None:
    before, after = Plan(SMOKE), changed(study__network__groups=4)
    assert before.network_spec("group_norm") != after.network_spec("group_norm")
    assert before.network_spec("layer_norm") == after.network_spec("layer_norm")


row = st.builds(
    lambda network, train: {"label": "x", "network": network, "train": tuple(train)},
    st.sampled_from([None, "layer_norm", "batch_norm"]),
    st.lists(st.sampled_from(["clean@upstream", "clean@downstream", "mixed@upstream"]), min_size=1, max_size=3),
)


@given(st.lists(row, min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
def test_a_run_that_tables_share_is_computed_once(rows: list[dict[str, Any]], seeds: list[int]) -> None:
    def plan(*tables: list[dict[str, Any]]) -> Plan:
        made = {f"t{i}": {"title": "", "caption": "", "columns": ("clean",), "rows": r} for i, r in enumerate(tables)}
        return changed(tables={"tables": made}, study__report=tuple(made), study__seeds=tuple(seeds))

    one, two = plan(rows), plan(rows, rows[::-1])
    different = {(row["network"] or "layer_norm", row["train"]) for row in rows}
    trained = {(network, train[:count]) for network, train in different for count in range(1, len(train) + 1)}
    assert len(one.runs) == len(trained) * len(seeds)
    assert len(one.evaluations) == len(different) * len(seeds)
    assert set(one.runs) == set(two.runs)
    assert two.jobs() == one.jobs() | {"table": 2}
    for plan_ in (one, two):  # a run comes after what it starts from
        order = {path: at for at, path in enumerate(plan_.runs)}
        assert all(order[run.start.path] < order[path] for path, run in plan_.runs.items() if run.start)


def test_a_report_may_have_seeds_of_its_own() -> None:
    plan = changed(study__report=("table4", "table5"), study__seeds_of={"table5": (0, 7)})
    assert {run.seed for run in plan.runs_of("table4")} == {0}
    assert {run.seed for run in plan.runs_of("table5")} == {0, 7}
    rows = plan.table_spec("table5").rows
    assert all([[each.run.seed for each in runs] for runs in row.runs] == [[0], [7]] for row in rows)
    shown = {run.path for name in ("table4", "table5") for run in plan.runs_of(name)}
    needed = {run.start.path for run in plan.runs.values() if run.start}
    assert set(plan.runs) == shown | needed


def test_a_row_is_evaluated_by_what_it_names_or_by_the_studys_own() -> None:
    plan = with_table(
        ROW,
        ROW | {"label": "y", "evaluate": ("shift", "certify_050")},
        recipes__evaluations__certify_050={"kind": "certify", "sigmas": (0.5,)},
    )
    (first,), (second,) = (row.runs[0] for row in plan.table_spec("t").rows)
    folder = f"evaluate/{FINETUNED.path}"
    assert [(each.kind, each.path) for each in first.records] == [("certify", f"{folder}/certify/records.parquet")]
    assert [(each.kind, each.path) for each in second.records] == [
        ("shift", f"{folder}/shift/records.parquet"),
        ("certify", f"{folder}/certify_050/records.parquet"),
    ]
    assert plan.evaluations == [(FINETUNED, "certify"), (FINETUNED, "shift"), (FINETUNED, "certify_050")]
    assert plan.jobs() == plan.jobs() | {"train": 2, "evaluate": 3, "finish": 3}


def test_how_much_of_an_evaluation_there_is_stands_in_its_section_of_the_study() -> None:
    plan = changed(study__certify__shards=3, study__certify__processes=2, study__certify__batch=5)
    assert [plan.shards(name) for name in ("certify", "shift")] == [3, 1]
    assert [plan.processes(name) for name in ("certify", "shift")] == [2, 1]
    assert [plan.batch(name) for name in ("certify", "shift")] == [5, 0]
    kinds = [plan.evaluation(name).kind for _, name in plan.evaluations]
    assert plan.jobs()["evaluate"] == 3 * kinds.count("certify") + kinds.count("shift")


def test_a_certification_may_have_several_times_the_samples_of_the_study() -> None:
    plan = Plan(load("samplewise_smoke", ROOT))
    run = plan.runs["layer_norm/mixed@upstream/0"]
    once, thrice = (plan.evaluate_spec(run, name).dump() for name in ("certify_050", "certify_050_times_3"))
    assert thrice == once | {"n": 3 * once["n"]}


def test_an_evaluation_that_compares_takes_the_run_without_its_last_stage() -> None:
    plan = Plan(SMOKE)
    assert plan.from_start(FINETUNED, "shift") == PRETRAINED
    assert plan.from_start(FINETUNED, "certify") is None


def test_a_row_of_the_role_task_is_there_for_each_of_the_tables_tasks() -> None:
    plan = with_table(
        {"label": "fixed", "train": ("mixed@upstream",)},
        {"label": "a", "train": ("mixed@upstream", "clean@task")},
        {"label": "b", "block": "ours", "train": ("clean@task",)},
        {"label": "c", "runs": ({"train": ("clean@task",)}, {"train": ("mixed@upstream", "mixed@task")})},
        table__tasks=("downstream", "second"),
    )
    rows = plan.table_spec("t").rows
    assert [(row.block, row.label) for row in rows] == [
        ("", "fixed"),
        ("downstream", "a"),
        ("downstream, ours", "b"),
        ("downstream", "c"),
        ("second", "a"),
        ("second, ours", "b"),
        ("second", "c"),
    ]
    paths = [[each.run.path for each in row.runs[0]] for row in rows]
    first, rest = paths[0], paths[1:]
    assert first == ["layer_norm/mixed@upstream/0"]
    assert rest[:3] == [
        ["layer_norm/mixed@upstream/clean@downstream/0"],
        ["layer_norm/clean@downstream/0"],
        ["layer_norm/clean@downstream/0", "layer_norm/mixed@upstream/mixed@downstream/0"],
    ]
    assert rest[3:] == [[path.replace("downstream", "second") for path in each] for each in rest[:3]]
    # Pretrained once for both.
    assert sum(run.start is None and run.stages[0] == MIXED for run in plan.runs.values()) == 1
    assert plan.datasets == ["characters", "digits", "textures"]


def test_a_row_may_pool_runs() -> None:
    plan = with_table(
        {
            "label": "x",
            "runs": (
                {"network": "batch_norm", "train": ("sigma_025@downstream",), "evaluate": ("certify_025",)},
                {"train": ("sigma_050@downstream",), "evaluate": ("certify_050",)},
            ),
        },
        recipes__evaluations__certify_025={"kind": "certify", "sigmas": (0.25,)},
        recipes__evaluations__certify_050={"kind": "certify", "sigmas": (0.5,)},
        study__seeds=(0, 1),
    )
    (row,) = plan.table_spec("t").rows
    assert [[each.run.path for each in runs] for runs in row.runs] == [
        [f"batch_norm/sigma_025@downstream/{seed}", f"layer_norm/sigma_050@downstream/{seed}"] for seed in (0, 1)
    ]
    assert [[each.records[0].path.split("/")[-2] for each in runs] for runs in row.runs] == [
        ["certify_025", "certify_050"]
    ] * 2
    assert plan.jobs() == plan.jobs() | {"train": 4, "evaluate": 4, "finish": 4, "table": 1}


def test_a_row_of_files_has_no_jobs() -> None:
    files = ({"sigma": 0.25, "file": "a.tsv"}, {"sigma": 0.5, "file": "/b.tsv"})
    plan = with_table(ROW, {"label": "theirs", "files": files})
    theirs = plan.table_spec("t").rows[1]
    assert theirs.runs == ()
    assert [(log.sigma, log.file) for log in theirs.files] == [(0.25, "a.tsv"), (0.5, "/b.tsv")]
    assert plan.logs_of("t", ROOT) == [str(ROOT / "a.tsv"), "/b.tsv"]
    assert plan.jobs() == with_table(ROW).jobs()


def test_rows_know_the_dataset_that_they_end_on_by_its_published_name_or_its_own() -> None:
    def names(**values: Any) -> list[str | None]:
        pooled = {"label": "y", "runs": ({"train": ("clean@downstream",)}, {"train": ("clean@second",)})}
        return [row.dataset for row in with_table(ROW, pooled, **values).table_spec("t").rows]

    assert names() == ["digits", None]
    assert names(datasets__digits__published="MNIST") == ["MNIST", None]
    both = {"datasets__digits__published": "MNIST", "datasets__textures__published": "MNIST"}
    assert names(**both) == ["MNIST", "MNIST"]


DENOISED: Mapping[str, Any] = {
    "recipes__recipes__denoise": {"objective": "denoise", "sigmas": (0.5,)},
    "recipes__recipes__denoised": {"denoiser": "batch_norm/denoise@upstream", "epochs": 0},
}


def test_a_denoiser_is_a_run_that_comes_before_what_it_cleans_for() -> None:
    row = {"label": "x", "train": ("clean@downstream", "denoised@downstream")}
    plan = with_table(row, study__seeds=(3, 4), **DENOISED)
    denoiser = "batch_norm/denoise@upstream/3"  # at the first seed, for all of them
    assert [path for path in plan.runs if "denoise@" in path] == [denoiser]
    users = [run for run in plan.runs.values() if run.stages[-1].recipe == "denoised"]
    assert [run.seed for run in users] == [3, 4]
    order = list(plan.runs)
    for user in users:
        assert plan.denoiser(user) == plan.runs[denoiser]
        assert order.index(denoiser) < order.index(user.path)
        assert plan.train_spec(user).denoiser == denoiser
        assert user.start is not None
        assert plan.denoiser(user.start) is None
        assert "denoiser" not in plan.train_spec(user.start).dump()
    # Trained, but not evaluated; its network is one of those that are checked.
    assert plan.runs_of("t") == users
    assert {*plan.networks} == {"layer_norm", "batch_norm"}
    assert {*plan.datasets} == {"characters", "digits"}


def test_the_file_of_published_weights_is_known_and_what_a_hub_has_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    plan = changed(
        recipes__networks__here={
            "name": "resnet50",
            "norm": "batch",
            "weights": "published",
            "options": {"from": "~/w"},
        },
        recipes__networks__timm={"name": "resnet50", "norm": "batch", "weights": "published"},
        recipes__networks__hub={"name": "unet2d", "weights": "published", "options": {"from": f"{HUB}ours/unet"}},
    )
    assert HUB == published.PREFIX
    assert plan.weights_file("here") == Path("/home/somebody/w")
    assert [plan.weights_file(name) for name in ("layer_norm", "timm", "hub")] == [None] * 3


def test_outputs_are_there_once_and_inputs_stand_before_what_is_made_of_them() -> None:
    plan = changed(study__certify__shards=2)
    outputs = list(plan.outputs)
    assert {path for path in outputs if path.startswith("train/")} == {
        f"train/{run}/{file}" for run in plan.runs for file in ("model.safetensors", "model.json", "metrics.jsonl")
    }
    records = f"evaluate/{FINETUNED.path}/certify/records.parquet"
    folder = records.removesuffix("records.parquet")
    assert plan.outputs[records] == [f"{folder}1-of-2.parquet", f"{folder}2-of-2.parquet"]
    assert outputs.index(f"train/{FINETUNED.path}/model.json") < outputs.index(records)
    assert outputs.index(records) < outputs.index("tables/table5.csv") < outputs.index("report.html")


def test_a_course_trains_its_runs_and_evaluates_nothing() -> None:
    course = {"title": "T", "caption": "C", "metric": "full", "rows": (ROW, ROW | {"label": "y", "block": "b"})}
    made = {
        "tables": {"courses": {"c": course}},
        "study__report": ("c",),
        "study__seeds_of": {"c": (0, 3)},
        "recipes__recipes__clean__denoiser": "batch_norm/mixed@upstream",
    }
    plan = changed(**made)
    assert [run.path for run in plan.runs_of("c")] == [
        f"layer_norm/mixed@upstream/clean@downstream/{s}" for s in (0, 3)
    ]
    assert list(plan.runs) == [
        "layer_norm/mixed@upstream/0",
        "batch_norm/mixed@upstream/0",  # the denoiser
        "layer_norm/mixed@upstream/clean@downstream/0",
        "layer_norm/mixed@upstream/3",
        "layer_norm/mixed@upstream/clean@downstream/3",
    ]
    assert plan.evaluations == plan.evaluations_of("c") == []
    jobs = {name: count for name, count in plan.jobs().items() if count}
    assert jobs == {"prepare": 2, "train": 5, "course": 1, "training": 1, "report": 1}
    drawn = [name for name in plan.outputs if name.startswith(("tables", "figures", "evaluate", "metrics"))]
    assert drawn == [*(f"figures/c.{kind}" for kind in ("svg", "png", "csv")), "metrics/training.csv"]
    spec = plan.course_spec("c")
    assert (spec.name, spec.title, spec.caption, spec.metric) == ("c", "T", "C", "full")
    assert [row.name for row in spec.rows] == ["x", "b: y"]
    assert [[(each.run.seed, each.records) for each in runs] for runs in spec.rows[0].runs] == [[(0, ())], [(3, ())]]
    assert plan.page_spec().courses == (spec,)
    assert changed(**made | {"study__certify": None}).course_spec("c") == spec


def test_a_course_beside_a_table_adds_what_it_alone_trains() -> None:
    table = {"title": "", "caption": "", "columns": ("certified@0.25",), "rows": (ROW,)}
    rows = (ROW, {"label": "z", "train": ("clean@downstream",)})
    tables = {"tables": {"t": table}, "courses": {"c": {"title": "", "caption": "", "metric": "loss", "rows": rows}}}
    alone, both = (changed(tables=tables, study__report=report) for report in (("t",), ("t", "c")))
    assert both.evaluations == alone.evaluations == [(FINETUNED, "certify")]
    assert both.jobs() == alone.jobs() | {"course": 1, "train": alone.jobs()["train"] + 1}
    assert set(both.runs) - set(alone.runs) == {SCRATCH.path}


def test_gains_are_of_the_rows_of_their_table_for_each_task() -> None:
    rows = (
        {"label": "scratch", "train": ("clean@task",)},
        {"label": "mixed", "train": ("mixed@upstream", "clean@task")},
    )
    table = {"title": "", "caption": "", "columns": ("clean", "acr"), "tasks": ("downstream", "second"), "rows": rows}
    gain = {"title": "T", "caption": "C", "table": "t", "x": "clean", "y": "acr", "against": "scratch"}
    tables = {"tables": {"t": table}, "gains": {"g": gain}}
    alone, both = (changed(tables=tables, study__report=report) for report in (("t",), ("t", "g")))
    assert both.jobs() == alone.jobs() | {"gain": 1}
    assert set(both.outputs) - set(alone.outputs) == {f"figures/g.{kind}" for kind in ("svg", "png", "csv")}
    spec = both.gains_spec("g")
    assert spec.rows == both.table_spec("t").rows
    assert [(row.block, row.label) for row in spec.rows] == [
        (task, label) for task in ("downstream", "second") for label in ("scratch", "mixed")
    ]
    assert (spec.x.text, spec.y.text, spec.against) == ("clean", "acr", "scratch")
    assert both.page_spec().gains == (spec,)


def test_a_table_without_tasks_has_those_of_its_study() -> None:
    row = {"label": "a", "train": ("clean@task",)}
    table = {"title": "", "caption": "", "columns": ("clean",), "rows": (row,)}
    tables = {"none": table, "one": table | {"tasks": ("downstream",)}}
    plan = changed(tables={"tables": tables}, study__report=tuple(tables), study__tasks=("second", "downstream"))
    blocks = {name: [row.block for row in plan.table_spec(name).rows] for name in tables}
    assert blocks == {"none": ["second", "downstream"], "one": ["downstream"]}


ATTACKED: dict[str, Any] = {
    "study__attack": {"steps": 20, "images": 60},
    "table__columns": ("clean", "standard", "robust@0.25", "certified@0.25"),
}


def test_an_attack_is_planned_beside_a_certification_and_its_spec_has_all_that_changes_it() -> None:
    row = ROW | {"evaluate": ("certify", "autopgd_025")}
    plan = with_table(row, **ATTACKED)
    assert [name for _, name in plan.evaluations] == ["certify", "autopgd_025"]
    spec = plan.evaluate_spec(FINETUNED, "autopgd_025")
    assert spec.dump() == {
        "kind": "attack",
        "run": plan.run_spec(FINETUNED).dump(),
        "norm": "l2",
        "epsilon": 0.25,
        "steps": 20,
        "losses": ["cross_entropy", "margin"],
        "restarts": 1,
        "images": 60,
        "batch": 250,
        "seed": 0,
    }
    assert [(column.measure, column.radius) for column in plan.table_spec("t").columns[1:3]] == [
        ("standard", None),
        ("robust", 0.25),
    ]
    for change, same in [
        ({"batch": 7}, False),
        ({"losses": ("margin",)}, False),
        ({"shards": 3, "processes": 2}, True),
    ]:
        other = with_table(row, **ATTACKED | {"study__attack": ATTACKED["study__attack"] | change})
        assert (other.evaluate_spec(FINETUNED, "autopgd_025") == spec) == same
        assert other.evaluate_spec(FINETUNED, "certify") == plan.evaluate_spec(FINETUNED, "certify")
    assert (other.shards("autopgd_025"), other.processes("autopgd_025")) == (3, 2)


def test_a_classifier_of_several_sigmas_takes_of_the_study_what_is_not_its_own() -> None:
    made = with_table(
        {"label": "x", "train": ("mixed@upstream",), "evaluate": ("certify", "cascade")},
        table__columns=("certified@0.25", "multi_sigma@0.25"),
        study__certify__method="sequential",
        study__certify__radii=(0.0, 0.25),
    )
    ((run, _), _) = made.evaluations
    spec = made.evaluate_spec(run, "cascade")
    found = spec.dump()
    own: dict[str, Any] = {"kind": "multi_sigma", "method": "cascade", "sigmas": [1.0, 0.5, 0.25]}
    own |= {"n0": 50, "n": 200, "alpha": 0.001, "seed": 0, "dtype": "fp32", "images": 100, "radii": [0.0, 0.25]}
    assert found == own | {"run": made.run_spec(run).dump()}
    assert made.evaluate_spec(run, "certify").dump()["method"] == "sequential"
