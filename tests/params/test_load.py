import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.params import STUDIES, anything, copied, edit
from transmooth.params.load import load, studies
from transmooth.params.messages import ParamsError, validate
from transmooth.params.recipes import Recipes
from transmooth.params.study import Study
from transmooth.params.tables import Tables

SMOKE = "params/studies/smoke.yaml"
RECIPES = "params/recipes.yaml"
DATASETS = "params/datasets.yaml"
TABLES = "params/tables/mixed_noise.yaml"

# file, key, its value (`...`: without it), the message as a pattern; all of them in docs/errors.md, too.
FAULTS: list[tuple[str, str, Any, str]] = [
    # ---------------------------------------------------------------------------------------------- values of a study
    (
        "studies/smoke",
        "schedules.finetune.learning_rate",
        0.1,
        f"{SMOKE}: schedules.finetune.learning_rate: unknown key",
    ),
    ("studies/smoke", "schedules.finetune.epochs", ..., f"{SMOKE}: schedules.finetune.epochs: missing"),
    (
        "studies/smoke",
        "schedules.finetune.epochs",
        "ten",
        f"{SMOKE}: schedules.finetune.epochs: .*integer.*found 'ten'",
    ),
    ("studies/smoke", "schedules.finetune.epochs", -1, f"{SMOKE}: schedules.finetune.epochs: .*equal to 0, found -1"),
    (
        "studies/smoke",
        "schedules.finetune",
        {"epochs": 0, "warmup_epochs": 0, "batch": 1, "lr": [1.0], "weight_decay": 0},
        f"{SMOKE}: schedules.finetune.epochs: should be at least 1; a recipe may have 0, found 0",
    ),
    (
        "studies/smoke",
        "schedules.finetune.epochs",
        True,
        "schedules.finetune.epochs: should be a number, not a boolean",
    ),
    ("studies/smoke", "schedules.finetune.lr", [], f"{SMOKE}: schedules.finetune.lr: .*at least 1 item"),
    (
        "studies/smoke",
        "schedules.finetune.lr",
        [0.1, -0.1],
        r"schedules.finetune.lr\[1\]: .*greater than 0.*found -0.1",
    ),
    ("studies/smoke", "schedules.finetune.lr", 0.01, "schedules.finetune.lr: should be a list, such as"),
    (
        "studies/smoke",
        "schedules.finetune.accumulate",
        3,
        "schedules.finetune: batch: should be a multiple of processes x accumulate .1 x 3., found 64",
    ),
    (
        "studies/smoke",
        "schedules.finetune.processes",
        3,
        "schedules.finetune: batch: should be a multiple of processes x accumulate .3 x 1., found 64",
    ),
    (
        "studies/smoke",
        "schedules.finetune.precision",
        "fp8",
        "schedules.finetune.precision: .*'fp32', 'bf16' or 'fp16'",
    ),
    ("studies/smoke", "schedules.finetune.optimizer", "lion", "schedules.finetune.optimizer: .*'sgd' or 'adamw'"),
    (
        "studies/smoke",
        "schedules.finetune.warmup_epochs",
        50,
        r"schedules.finetune: warmup_epochs: should be below epochs \(10\), found 50",
    ),
    ("studies/smoke", "attack", {"steps": 0}, f"{SMOKE}: attack.steps: .*greater than or equal to 1, found 0"),
    (
        "studies/smoke",
        "attack",
        {"losses": ["dlr"]},
        rf"{SMOKE}: attack.losses\[0\]: should be 'cross_entropy' or 'mar",
    ),
    ("studies/smoke", "attack", {"losses": []}, f"{SMOKE}: attack.losses: .*at least 1 item"),
    ("studies/smoke", "attack", {"losses": ["margin"] * 2}, f"{SMOKE}: attack.losses: should name each value once"),
    ("studies/smoke", "attack", {"epsilon": 0.5}, f"{SMOKE}: attack.epsilon: unknown key"),  # it is an evaluation's
    ("recipes", "evaluations.autopgd.epsilon", 0, f"{RECIPES}: evaluations.autopgd.epsilon: .*greater than 0, found 0"),
    ("recipes", "evaluations.autopgd.norm", "l1", f"{RECIPES}: evaluations.autopgd.norm: should be 'l2' or 'linf'"),
    ("studies/smoke", "certify.n", 9, "9 samples can never certify at alpha = 0.001"),
    ("studies/smoke", "certify.alpha", 0, f"{SMOKE}: certify.alpha: .*greater than 0"),
    ("studies/smoke", "certify.images", "some", f"{SMOKE}: certify.images"),
    ("studies/smoke", "certify.method", "smoothadv", "certify.method: .*'cohen', 'cohen_two_sided', 'sequential' or"),
    ("studies/smoke", "certify.method", "sequential", "certify: radii: missing: method sequential decides a grid"),
    ("studies/smoke", "certify.radii", [0.0, 0.5], "certify: radii: only for method sequential, found .* with cohen"),
    ("studies/smoke", "certify.radii", [0.5, 0.0], f"{SMOKE}: certify.radii: should increase"),
    ("studies/smoke", "certify.sigmas", [0.5], f"{SMOKE}: certify.sigmas: unknown key"),  # they are an evaluation's
    ("studies/smoke", "certify", ..., rf"{SMOKE}: certify: missing; the evaluation 'certify' \(certify\) needs it"),
    ("studies/smoke", "network.groups", 7, f"{SMOKE}: network.groups: should divide .*\\[16, .*found 7"),
    ("studies/smoke", "network.groups", 16, f"{SMOKE}: network.groups: should divide every channel count"),
    ("studies/smoke", "network.options.channels", ["x"], "network.options.channels: should be a list of numbers"),
    ("studies/smoke", "network.options.stem_width", "x", "options.stem_width: should be a number >= 1, found 'x'"),
    ("studies/smoke", "network.stem", "vit", "network.stem: .*'cifar' or 'imagenet', found 'vit'"),
    ("studies/smoke", "network.norm", "layer", f"{SMOKE}: network.norm: unknown key"),  # it is the entry's
    ("studies/smoke", "seeds", [1, 1], f"{SMOKE}: seeds: should name each value once"),
    ("studies/smoke", "seeds", [], f"{SMOKE}: seeds: .*at least 1 item"),
    ("studies/smoke", "evaluate", [], f"{SMOKE}: evaluate: .*at least 1 item"),
    ("studies/smoke", "evaluate", ["certify", "certify"], f"{SMOKE}: evaluate: should name each value once"),
    (
        "studies/smoke",
        "seeds_of",
        {"table9": [0]},
        f"{SMOKE}: seeds_of: table9: not in `report`, which has table1",
    ),
    ("studies/smoke", "tracker", "comet", f"{SMOKE}: tracker: should be 'tensorboard', 'wandb' or 'mlflow', found"),
    # ----------------------------------------------------------------------------------- names that a study looks up
    (
        "studies/smoke",
        "tables",
        "nowhere",
        r"smoke.yaml: tables: should be a file of params/tables \(.*mixed_noise.*nowhere",
    ),
    ("studies/smoke", "tables", "../tables", f"{SMOKE}: tables: String should match pattern"),
    (
        "studies/smoke",
        "network.default",
        "gone",
        f"{SMOKE}: network.default: network 'gone' is not in {RECIPES}: networks",
    ),
    (
        "studies/smoke",
        "roles.downstream.dataset",
        "dogs",
        f"{SMOKE}: roles.downstream.dataset: dataset 'dogs' is not in {DATASETS}, which has .*digits",
    ),
    (
        "studies/smoke",
        "roles.downstream.schedule",
        "slow",
        f"{SMOKE}: roles.downstream.schedule: schedule 'slow' is not in {SMOKE}: schedules, which has finetune",
    ),
    ("studies/smoke", "roles.downstream.schedule", ..., f"{SMOKE}: roles.downstream.schedule: missing"),
    ("studies/smoke", "roles.downstream", "digits", f"{SMOKE}: roles.downstream: should be .*found 'digits'"),
    ("studies/smoke", "roles.task", {"dataset": "digits", "schedule": "finetune"}, "roles.task: stands for each of a"),
    (
        "studies/smoke",
        "roles.second",
        ...,
        rf"{TABLES}: figures.figure2.panels\[1\].rows\[0\].train\[1\]: role 'second' is not in {SMOKE}: roles",
    ),
    (
        "studies/smoke",
        "roles.upstream",
        ...,
        rf"{TABLES}: tables.table1.rows\[0\].train\[0\]: role 'upstream' is not in {SMOKE}: roles, which",
    ),
    (
        "studies/smoke",
        "evaluate",
        ["gone"],
        rf"{SMOKE}: evaluate\[0\]: evaluation 'gone' is not in {RECIPES}: evaluations",
    ),
    (
        "studies/smoke",
        "report",
        ["table9000"],
        rf"{SMOKE}: report\[0\]: report 'table9000' is not in {TABLES}, which has",
    ),
    # ------------------------------------------------------------------------------------------------------- networks
    ("recipes", "networks.layer_norm.norm", "weight", "networks.layer_norm.norm: .*'instance'.*found 'weight'"),
    ("recipes", "networks.layer_norm.stem", "x", f"{RECIPES}: networks.layer_norm.stem: .*'cifar' or 'imagenet'"),
    ("recipes", "networks.layer_norm.options", {"layers": [1]}, "networks.layer_norm: options: need a `name`"),
    (
        "recipes",
        "networks.layer_norm.weights",
        "published",
        "weights: published needs `name`, `norm: batch` or `own`",
    ),
    (
        "recipes",
        "networks.official_224.name",
        ...,
        f"{RECIPES}: networks.official_224: weights: published needs `name`",
    ),
    ("recipes", "networks.official_224.norm", ..., f"{RECIPES}: networks.official_224: weights: published needs"),
    ("recipes", "networks.official_224.stem", "cifar", f"{RECIPES}: networks.official_224: weights: published needs"),
    ("recipes", "networks.official_224.weights", "theirs", "networks.official_224.weights: .*'random' or 'published'"),
    ("recipes", "networks.Bad Name", {}, f"{RECIPES}: networks.Bad Name: .*match pattern"),
    # -------------------------------------------------------------------------------------------------------- recipes
    (
        "recipes",
        "recipes.clean.objective",
        "cross_entropie",
        r"recipes.clean.objective: should be a file of src/transmooth/objectives \(.*cross_entropy.*'cross_entropie'",
    ),
    ("recipes", "recipes.clean.objective", "../noise", "recipes.clean.objective: String should match pattern"),
    ("recipes", "recipes.mixed.sigmas", [0, -0.25], rf"{RECIPES}: recipes.mixed.sigmas\[1\]"),
    ("recipes", "recipes.mixed.sigmas", [], f"{RECIPES}: recipes.mixed.sigmas: .*at least 1 item"),
    ("recipes", "recipes.mixed.sigmas", [0.5, 0.5], "recipes.mixed.sigmas: should name each value once"),
    ("recipes", "recipes.mixed.norm", "layer", f"{RECIPES}: recipes.mixed.norm: unknown key"),  # it is a network's
    (
        "recipes",
        "recipes.mixed.noise",
        "laplace",
        f"{RECIPES}: recipes.mixed.noise: should be 'uniform' or 'samplewise', found 'laplace'",
    ),
    (
        "recipes",
        "recipes.mixed.noise",
        "samplewise",
        f"{RECIPES}: recipes.mixed: n0: should be given with noise samplewise, and with it alone, found None",
    ),
    ("recipes", "recipes.mixed.n0", 20, "recipes.mixed: n0: should be given with noise samplewise, .*, found 20"),
    (
        "recipes",
        "recipes.samplewise.sigmas",
        [0, 0.5],
        "recipes.samplewise: sigmas: should be above 0 with noise samplewise, which chooses by radius, found 0",
    ),
    (
        "recipes",
        "recipes.samplewise.denoiser",
        "default",
        "recipes.samplewise: denoiser: noise samplewise chooses without one, found both",
    ),
    ("recipes", "recipes.mixed.views", 0, f"{RECIPES}: recipes.mixed.views: .*equal to 1, found 0"),
    ("recipes", "recipes.mixed.epochs", -1, f"{RECIPES}: recipes.mixed.epochs: .*equal to 0, found -1"),
    ("recipes", "recipes.Bad Name", {}, rf"{RECIPES}: recipes.Bad Name: .*match pattern"),
    ("recipes", "recipes.clean.trainable", "some", "recipes.clean.trainable: .*'all', .*'head', .*or 'lora'"),
    (
        "recipes",
        "recipes.clean.schedule",
        "slow",
        f"{RECIPES}: recipes.clean.schedule: schedule 'slow' is not in {SMOKE}: schedules, which has finetune",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "unet/denoise@upstream",
        f"{RECIPES}: recipes.clean.denoiser: network 'unet' is not in {RECIPES}: networks",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "unet_16/denoising@upstream",
        f"{RECIPES}: recipes.clean.denoiser: recipe 'denoising' is not in {RECIPES}: recipes",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "unet_16/denoise@nowhere",
        f"{RECIPES}: recipes.clean.denoiser: role 'nowhere' is not in {SMOKE}: roles",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "unet_16/denoise@task",
        f"{RECIPES}: recipes.clean.denoiser: role 'task' is not in {SMOKE}: roles",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "batch_norm/clean@upstream",
        f"{RECIPES}: recipes.clean.denoiser: should be trained without a denoiser, 'clean' has one",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "batch_norm/mixed@upstream",
        f"{RECIPES}: recipes.clean.denoiser: should end in a recipe with the objective denoise, found cross_entropy",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "default",
        f"{SMOKE}: denoiser: missing; the recipe 'clean' needs the study's",
    ),
    (
        "recipes",
        "recipes.clean.options",
        {"epsilon": 1},
        r"recipes.clean.options.epsilon: is no option of cross_entropy",
    ),
    (
        "recipes",
        "recipes.cadis_050.options",
        {"wieght": 1},
        r"cadis_050.options.wieght: is no option of confidence, which has copies, steps, epsilon, weight",
    ),
    (
        "recipes",
        "recipes.cadis_050.options",
        {"start": 1},
        "recipes.cadis_050.options.start: is no option of confidence",
    ),
    ("recipes", "recipes.clean.head", "mlp", f"{RECIPES}: recipes.clean.head: should be 'projection', found 'mlp'"),
    (
        "recipes",
        "recipes.clean.head",
        "projection",
        f"{RECIPES}: recipes.clean.head: should be none for the objective cross_entropy, found projection",
    ),
    (
        "recipes",
        "recipes.simclr.head",
        ...,
        f"{RECIPES}: recipes.simclr.head: should be projection for the objective simclr, found none",
    ),
    ("recipes", "recipes.simclr.views", 3, r"recipes.simclr.views: should be 2 for the objective simclr, found 3"),
    ("recipes", "recipes.clean.views", 2, r"recipes.clean.views: should be 1 for the objective cross_entropy, found 2"),
    ("recipes", "recipes.simclr.augment", ["spin"], rf"{RECIPES}: recipes.simclr.augment\[0\]: .*found 'spin'"),
    (
        "tables/mixed_noise",
        "tables.table1.rows.0.train",
        ["simclr@upstream"],
        rf"{TABLES}: tables.table1.rows\[0\]: simclr@upstream is trained without classes: a stage that finetunes it",
    ),
    (
        "tables/mixed_noise",
        "tables.table1.rows.0.train",
        ["simclr@downstream", "denoised@downstream"],
        r"table1.rows\[0\].train\[1\]: denoised trains nothing, and the stage before it was trained without classes",
    ),
    (
        "studies/smoke",
        "options",
        {"confidense": {}},
        f"{SMOKE}: options.confidense: .*is no objective",
    ),
    ("studies/smoke", "denoiser", "unet_16", f"{SMOKE}: denoiser: String should match pattern"),
    (
        "studies/smoke",
        "denoiser",
        "unet_99/denoise@upstream",
        f"{SMOKE}: denoiser: network 'unet_99' is not in {RECIPES}: networks",
    ),
    (
        "recipes",
        "recipes.clean.denoiser",
        "batch_norm",
        f"{RECIPES}: recipes.clean.denoiser: String should match pattern",
    ),
    (
        "recipes",
        "recipes",
        {"clean": {"denoiser": "unet_16/denoise@upstream"}, "denoise": {"objective": "denoise", "schedule": "slow"}},
        f"{RECIPES}: recipes.denoise.schedule: schedule 'slow' is not in {SMOKE}: schedules",
    ),
    (
        "recipes",
        "recipes",
        {"clean": {"denoiser": "unet_16/denoise@upstream"}, "denoise": {"objective": "denoise", "epochs": 0}},
        f"{RECIPES}: recipes.clean.denoiser: denoise trains nothing, and unet_16 has random weights",
    ),
    # ---------------------------------------------------------------------------------------------------- evaluations
    (
        "recipes",
        "evaluations.certify.sigmas",
        [0.25, -0.5],
        rf"{RECIPES}: evaluations.certify.sigmas\[1\]: .*found -0.5",
    ),
    (
        "recipes",
        "evaluations.certify.sigmas",
        [0.0, 0.5],
        r"evaluations.certify.sigmas\[0\]: .*greater than 0, found 0",
    ),
    (
        "recipes",
        "evaluations.cascade.thresholds",
        [0.1, 0.2],
        r"evaluations.cascade.*thresholds: should be one for each of 3 sigmas, found 2",
    ),
    (
        "recipes",
        "evaluations.cascade_chosen.thresholds",
        [0.1, 0.0, 0.0],
        r"evaluations.cascade_chosen.*thresholds: should be given or chosen, found both thresholds and chosen_on",
    ),
    (
        "recipes",
        "evaluations.cascade.thresholds",
        [-0.1, 0.0, 0.0],
        r"evaluations.cascade.*thresholds\[0\].*found -0.1",
    ),
    ("recipes", "evaluations.cascade.sigmas", [1.0, 1.0], r"evaluations.cascade.*sigmas: should name each value once"),
    (
        "recipes",
        "evaluations.cascade.method",
        "cohen",
        r"evaluations.cascade.method: should be 'cascade', 'margin', 'multiscale' or 'dual_rs', found 'cohen'",
    ),
    ("recipes", "evaluations.certify.sigmas", [0.5, 0.25], f"{RECIPES}: evaluations.certify.sigmas: should increase"),
    ("recipes", "evaluations.certify.sigmas", [0.25, float("nan")], rf"{RECIPES}: evaluations.certify.sigmas\[1\]"),
    ("recipes", "evaluations.certify.sigmas", ..., f"{RECIPES}: evaluations.certify.sigmas: missing"),
    ("recipes", "evaluations.certify.n", 100, f"{RECIPES}: evaluations.certify.n: unknown key"),  # it is the study's
    (
        "recipes",
        "evaluations.certify.kind",
        "guess",
        f"{RECIPES}: evaluations.certify.kind: should be one of 'certify', .*found 'guess'",
    ),
    ("recipes", "evaluations.shift.kind", ..., f"{RECIPES}: evaluations.shift.kind: missing"),
    ("recipes", "evaluations.shift.images", "all", f"{RECIPES}: evaluations.shift.images: .*integer.*found 'all'"),
    ("recipes", "evaluations.Bad Name", {"kind": "certify", "sigmas": [1]}, "evaluations.Bad Name: .*match pattern"),
    # ------------------------------------------------------------------------------------------------------ datasets
    (
        "datasets",
        "datasets.digits.source.kind",
        "cifar",
        f"{DATASETS}: datasets.digits.source.kind: should be one of .*'digits'.*found 'cifar'",
    ),
    ("datasets", "datasets.digits.source.root", "/x", f"{DATASETS}: datasets.digits.source.root: unknown key"),
    ("datasets", "datasets.digits.size", 0, f"{DATASETS}: datasets.digits.size: .*found 0"),
    ("datasets", "datasets.digits.stored", 8, r"stored: should be at least size \(16\), found 8"),
    ("datasets", "datasets.digits.resize", 15, r"digits: resize: should be at least size \(16\), found 15"),
    ("datasets", "datasets.digits.resize", 16, r"digits: stored: should be at most resize \(16\), found none"),
    ("datasets", "datasets.imagenet.resize", 255, r"imagenet: stored: should be at most resize \(255\), found 256"),
    (
        "datasets",
        "datasets.caltech101.source.test",
        0.2,
        f"{DATASETS}: datasets.caltech101.source: test: not beside train_per_class",
    ),
    (
        "datasets",
        "datasets.caltech101.source.train_per_class",
        0,
        f"{DATASETS}: datasets.caltech101.source.train_per_class: .*found 0",
    ),
    (
        "datasets",
        "datasets.cifar10_folder.source.train_per_class",
        1,
        f"{DATASETS}: datasets.cifar10_folder.source.train_per_class: unknown key",
    ),
    ("datasets", "datasets.digits.augment", ["spin"], rf"{DATASETS}: datasets.digits.augment\[0\]: .*'flip'"),
    ("datasets", "datasets.source", {"source": {"kind": "digits"}, "size": 0}, f"{DATASETS}: datasets.source.size: "),
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return copied(tmp_path)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_loads(study: str) -> None:
    loaded = load(study, ROOT)
    assert loaded.name == study
    assert loaded.study.report


def test_studies_are_the_files_of_their_folder(base: Path) -> None:
    assert studies(base) == STUDIES
    (base / "params" / "studies" / "mine.yaml").touch()
    assert studies(base) == sorted([*STUDIES, "mine"])
    assert studies(base / "nowhere") == []


@pytest.mark.parametrize(("file", "key", "value", "message"), FAULTS)
def test_a_fault_is_told_with_file_and_key(base: Path, file: str, key: str, value: Any, message: str) -> None:
    edit(base, file, key, value)
    with pytest.raises(ParamsError, match=message):
        load("smoke", base)


def test_all_faults_of_a_file_are_told_at_once(base: Path) -> None:
    edit(base, "studies/smoke", "schedules.finetune.epochs", -1)
    edit(base, "studies/smoke", "certify.n0", 0)
    with pytest.raises(ParamsError) as error:
        load("smoke", base)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["schedules.finetune.epochs", "certify.n0"]


def test_all_faults_between_files_are_told_at_once_and_each_once(base: Path) -> None:
    edit(base, "studies/smoke", "roles.upstream.dataset", "gone")
    edit(base, "studies/smoke", "network.default", "gone")
    edit(base, "recipes", "recipes.clean.schedule", "gone")
    edit(base, "tables/mixed_noise", "tables.table1.rows.0.network", "gone")
    with pytest.raises(ParamsError) as error:
        load("smoke", base)
    told = [line.split(": ")[:2] for line in str(error.value).splitlines()]
    assert told == [
        [SMOKE, "roles.upstream.dataset"],
        [SMOKE, "network.default"],
        [RECIPES, "recipes.clean.schedule"],
        [TABLES, "tables.table1.rows[0].network"],
    ]


def test_what_the_study_does_not_report_may_need_what_it_has_not(base: Path) -> None:
    """Papers share recipes and tables, not studies."""
    edit(base, "studies/smoke", "report", ["table5"])
    edit(base, "studies/smoke", "roles.second", ...)
    edit(base, "recipes", "recipes.clean_fixed.schedule", "slow")
    edit(base, "recipes", "recipes.clean_fixed.denoiser", "unet_16/denoise@nowhere")
    assert load("smoke", base).study.report == ("table5",)


@pytest.mark.parametrize("study", ["recipes", "nowhere", "../smoke", "../../params/studies/smoke", ""])
def test_an_unknown_study_is_refused_with_the_known_ones(study: str) -> None:
    with pytest.raises(ParamsError, match=r"\.yaml: no such study; there is .*desk, .*smoke"):
        load(study, ROOT)


def test_a_key_that_is_there_twice_is_found(base: Path) -> None:
    path = base / "params" / "studies" / "smoke.yaml"
    path.write_text(path.read_text() + "seeds:\n- 3\n")
    with pytest.raises(ParamsError, match=rf"{SMOKE}: line \d+: the key 'seeds' is there twice"):
        load("smoke", base)


@pytest.mark.parametrize("content", ["a: [", "- just\n- a list\n", "\x00"])
@pytest.mark.parametrize("file", ["studies/smoke", "tables/mixed_noise", "recipes", "datasets"])
def test_what_is_no_yaml_mapping_is_refused(base: Path, file: str, content: str) -> None:
    (base / "params" / f"{file}.yaml").write_text(content)
    with pytest.raises(ParamsError, match=re.escape(f"params/{file}.yaml: ")):
        load("smoke", base)


@pytest.mark.parametrize("file", ["recipes", "datasets"])
def test_a_file_that_is_not_there_is_named(base: Path, file: str) -> None:
    (base / "params" / f"{file}.yaml").unlink()
    with pytest.raises(ParamsError, match=rf"params/{file}.yaml: no such file; params/ holds "):
        load("smoke", base)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw of floats is
@given(st.data(), st.sampled_from([Study, Recipes, Tables]))
def test_no_content_gives_more_than_a_params_error(data: st.DataObject, model: type[Study | Recipes | Tables]) -> None:
    keys = st.sampled_from([*model.model_fields, "extra"])
    content = data.draw(st.dictionaries(keys, anything | st.dictionaries(st.just("a"), anything, max_size=1)))
    try:
        validate(model, content, "params/any.yaml")
    except ParamsError as error:
        told = str(error)
    else:
        assert model is not Study
        assert "extra" not in content
        told = "params/any.yaml: "
    assert all(line.startswith("params/any.yaml: ") for line in told.splitlines())
