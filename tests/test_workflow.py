"""The workflow itself: what Snakemake plans, and a small study run for real in a copy of the project."""

import fcntl
import json
import os
import re
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.helpers.workflow import ROOT, copy, edit, planned, snakemake, tiny, write
from transmooth.params.load import load
from transmooth.plan import Plan

PROFILES = ("default", "slurm")
STUDY = "studies/smoke.yaml"

needs_slurm = pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_slurm") is None, reason="the extra slurm is not installed"
)


def test_a_dry_run_has_the_jobs_of_the_plan(tmp_path: Path) -> None:
    expected = {rule: count for rule, count in Plan(load("smoke", ROOT)).jobs().items() if count}
    assert planned(copy(tmp_path)) == expected | {"all": 1}


def test_a_checkout_plans_by_its_own_sources_whatever_is_installed(tmp_path: Path) -> None:
    source = copy(tmp_path) / "src" / "transmooth" / "plan.py"
    source.write_text(source.read_text() + '\nraise SystemExit("planned by the copy")\n')
    done = snakemake(tmp_path, "-n")
    assert done.returncode != 0
    assert "planned by the copy" in done.stdout + done.stderr


def test_what_the_path_of_modules_has_is_there_for_jobs_too(tmp_path: Path) -> None:
    (modules := tmp_path / "modules").mkdir()
    (modules / "sitecustomize.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "with Path(__file__).with_name('started').open('a') as file:\n    print(*sys.orig_argv, file=file)\n"
    )
    variables = {"PYTHONPATH": str(modules), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (project := tmp_path / "project").mkdir()
    done = snakemake(copy(project), "-n", **variables)
    assert done.returncode == 0, done.stderr
    assert "-m transmooth job networks" in (modules / "started").read_text()


def test_one_table_needs_only_its_own_runs(tmp_path: Path) -> None:
    assert planned(copy(tmp_path), "table3") == {
        "prepare": 2,
        "train": 2,
        "evaluate": 1,
        "finish": 1,
        "table": 1,
        "table3": 1,
    }


def test_another_study_is_planned_as_readme_says(tmp_path: Path) -> None:
    assert planned(copy(tmp_path), "--config", "study=desk")["train"] > 2


@pytest.mark.parametrize(
    ("arguments", "edits", "message"),
    [
        (
            ["--config", "study=nowhere"],
            [],
            "studies/nowhere.yaml: no such study; there is .*desk, .*paper, .*smoke",
        ),
        (["--config", "stduy=smoke"], [], "--config takes study=NAME alone, found stduy"),
        ([], [(STUDY, "epochs: ", "epochs: -")], rf"params/{STUDY}: schedules.pretrain.epochs: .*found -\d"),
        (
            [],
            [("tables/mixed_noise.yaml", "- mixed@upstream\n", "- mixt@upstream\n")],
            r"params/tables/mixed_noise.yaml: .*train\[0\]: recipe 'mixt' is not in params/recipes.yaml: recipes",
        ),
        (
            [],
            [("tables/mixed_noise.yaml", "- mixed@upstream\n", "- mixed@upstrm\n")],
            rf"params/tables/mixed_noise.yaml: .*train\[0\]: role 'upstrm' is not in params/{STUDY}: roles",
        ),
        # What only timm knows: so does a dry run.
        (
            ["-n"],
            [(STUDY, "stem_type: deep", "stem_type: deeep")],
            rf"params/{STUDY}: network layer_norm: options.stem_type: 'deeep' changes nothing of resnet18",
        ),
    ],
)
def test_bad_params_end_it_with_one_message_and_nothing_started(
    tmp_path: Path, arguments: list[str], edits: list[tuple[str, str, str]], message: str
) -> None:
    copy(tmp_path)
    for file, old, new in edits:
        edit(tmp_path, file, old, new)
    done = snakemake(tmp_path, *arguments)
    said = done.stderr + done.stdout
    assert done.returncode != 0
    assert [line for line in said.splitlines() if re.search(message, line)]
    assert "Traceback" not in said
    assert "job" not in said  # no plan, of which something could be started
    assert not (tmp_path / "data").exists()


def test_a_misspelt_option_is_told_once_for_each_network_of_the_study(tmp_path: Path) -> None:
    edit(copy(tmp_path), STUDY, "stem_type: deep", "stem_type: deeep")
    done = snakemake(tmp_path, "-n")
    lines = [line for line in (done.stderr + done.stdout).splitlines() if "deeep" in line]
    networks = Plan(load("smoke", ROOT)).networks
    assert [re.findall(r"network (\w+): ", line) for line in lines] == [[name] for name in networks]


def test_a_file_of_published_weights_that_is_not_there_stops_a_study_before_any_job(tmp_path: Path) -> None:
    tiny(tmp_path)
    weights = tmp_path / "weights.safetensors"
    recipes = yaml.safe_load((tmp_path / "params" / "recipes.yaml").read_text())
    network = {"name": "resnet18", "norm": "own", "stem": "imagenet", "weights": "published"}
    recipes["networks"]["layer_norm"] = network | {"options": {"from": str(weights)}}
    write(tmp_path, "recipes.yaml", recipes)
    done = snakemake(tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"params/recipes.yaml: networks.layer_norm.options.from: no such file: {weights}" in said
    assert "[1 of" not in said
    assert not (tmp_path / "data").exists()
    weights.touch()
    assert planned(tmp_path)["train"] == 3


def test_lint_finds_nothing_but_the_environment_that_pyproject_defines() -> None:
    done = snakemake(ROOT, "--lint")
    lints = {line.strip(" *:") for line in (done.stdout + done.stderr).splitlines() if line.startswith("    * ")}
    assert lints <= {"Specify a conda environment or container for each rule."}


def test_a_failed_job_is_told_with_its_log_and_the_command_that_repeats_it(tmp_path: Path) -> None:
    copy(tmp_path)
    # The pinned hash of another set.
    text = (tmp_path / "params" / "datasets.yaml").read_text()
    digits = text[text.index("  digits:") :]
    pin = re.search(r"sha256: (\w{64})", digits)
    assert pin
    edit(tmp_path, "datasets.yaml", pin[1], "f" * 64)
    done = snakemake(tmp_path, "data")
    assert done.returncode != 0
    assert "failed: prepare data/digits" in done.stderr
    assert f"is not the pinned one: its manifest has SHA-256 {pin[1]}" in done.stderr
    command = re.search(r"to run it alone: snakemake (.*)", done.stderr)
    assert command
    again = snakemake(tmp_path, *command[1].split())
    assert again.returncode != 0
    assert "failed: prepare data/digits" in again.stderr


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run once."""
    folder = tiny(tmp_path_factory.mktemp("project"))
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pair" in done.stdout  # the tables, on the terminal
    assert "figures/figure1.svg" in done.stdout.replace("\n", "")
    assert "results/smoke/report.html" in done.stdout.replace("\n", "")
    # What else it says is a line for each job, and no more than that.
    profile, created, first, *jobs, last = done.stderr.splitlines()
    assert profile.startswith("Using workflow specific profile")  # these two by Snakemake, before any logger
    assert created.startswith("Creating specified working directory")
    assert re.fullmatch(r"smoke: (\d+) jobs: 2 prepare, 3 train, 5 evaluate, \d+ report", first)
    total = first.split()[1]
    assert [line.split("]")[0] for line in jobs] == [f"[{n} of {total}" for n in range(1, int(total) + 1)]
    assert re.match(r"Complete log\(s\): .*/\.snakemake/log/.*\.log", last)
    return folder


def test_a_study_leaves_tables_figures_and_metrics(study: Path) -> None:
    results = study / "results" / "smoke"
    table = pd.read_csv(results / "tables" / "pair.csv")
    assert set(table["row"]) == {"scratch", "mixed"}
    assert set(table["images"]) == {20}
    assert table.loc[table["measure"] == "certified", "value"].between(0, 1).all()
    assert "## Quoted from the paper (Table 3, CIFAR-10)" in (results / "tables" / "table3.md").read_text()
    for name in ("figure1", "moved", "learned", "gained"):
        assert (results / "figures" / f"{name}.svg").read_text().startswith("<?xml")
        assert (results / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    moved = pd.read_csv(results / "tables" / "moved.csv")
    assert (moved[moved["cause"] == "statistics"]["shift"] == 0).all()  # layer norm has none
    assert (moved[moved["cause"] == "finetuning"]["shift"] > 0).all()
    learned = pd.read_csv(results / "figures" / "learned.csv")
    assert learned[["row", "seed", "epoch"]].to_numpy().tolist() == [["scratch", 0, 1], ["mixed", 0, 1]]
    page = (results / "report.html").read_text()
    assert all(f'id="chart-{name}"' in page for name in ("table3", "pair", "figure1", "moved", "learned", "training"))
    gained = pd.read_csv(results / "figures" / "gained.csv")
    assert gained["start"].tolist() == ["mixed"]
    assert "Over scratch." in page
    metrics = json.loads((results / "metrics" / "pair.json").read_text())
    assert set(metrics) == {"layer_norm/clean@downstream", "layer_norm/mixed@upstream/clean@downstream"}
    first, second = (
        results / "train" / path for path in ("layer_norm/mixed@upstream/0", "layer_norm/clean@downstream/0")
    )
    cards = [json.loads((folder / "model.json").read_text()) for folder in (first, second)]
    assert [card["spec"]["schedule"]["processes"] for card in cards] == [2, 1]
    assert [card["spec"]["run"]["dataset"] for card in cards] == ["characters", "digits"]
    assert not list(results.glob("evaluate/**/*-of-*.parquet"))
    assert len(list(results.glob("evaluate/**/records.parquet"))) == 3
    assert planned(study) == {}
    # What brings back the outputs of a job that is killed in its last second is not needed any more.
    assert [str(path) for path in results.rglob("*") if path.name == "resume.pt" or path.suffix == ".journal"] == []
    state = next(results.glob("train/*/*/*/model.json")).with_name("resume.pt")
    state.touch()
    planned(study)
    assert state.exists()
    state.unlink()


PAGE = {"report": 1, "all": 1}
BELOW_CERTIFY = {"evaluate": 4, "finish": 2, "table": 2, "figure": 1, "gain": 1} | PAGE
EVERY_REPORT = {"table": 2, "figure": 1, "shift": 1, "course": 1, "gain": 1, "training": 1} | PAGE


@pytest.mark.parametrize(
    ("file", "old", "new", "jobs"),
    [
        pytest.param(
            STUDY, "- 0.002", "- 0.004", {"train": 2, "evaluate": 5, "finish": 3} | EVERY_REPORT, id="lr of finetuning"
        ),
        # The network from scratch has no first stage of that schedule.
        pytest.param(
            STUDY, "- 0.003", "- 0.004", {"train": 2, "evaluate": 3, "finish": 2} | EVERY_REPORT, id="lr of pretraining"
        ),
        pytest.param(
            STUDY,
            "dataset: digits",
            "dataset: textures",
            {"prepare": 1, "train": 2, "evaluate": 5, "finish": 3} | EVERY_REPORT,
            id="dataset of a role",
        ),
        pytest.param(
            "recipes.yaml",
            "  mixed:\n    sigmas:\n    - 0.0\n",
            "  mixed:\n    sigmas:\n    - 0.1\n",
            {"train": 2, "evaluate": 3, "finish": 2} | EVERY_REPORT,
            id="sigmas of a recipe",
        ),
        pytest.param(
            "recipes.yaml",
            "    kind: certify\n    sigmas:\n    - 0.25\n",
            "    kind: certify\n    sigmas:\n    - 0.2\n",
            BELOW_CERTIFY,
            id="sigmas of certification",
        ),
        pytest.param(STUDY, "n: 100", "n: 110", BELOW_CERTIFY, id="samples of certification"),
        pytest.param(
            "recipes.yaml",
            "images: 256",
            "images: 128",
            {"evaluate": 1, "finish": 1, "shift": 1} | PAGE,
            id="images of the shift",
        ),
        pytest.param("tables/tiny.yaml", "Two.", "Two, in words.", {"table": 1} | PAGE, id="caption of a table"),
        pytest.param("tables/tiny.yaml", "title: Figure", "title: Lines", {"figure": 1} | PAGE, id="title of a figure"),
        pytest.param("tables/tiny.yaml", "How far.", "How far?", {"shift": 1} | PAGE, id="caption of a shift"),
        pytest.param(
            "tables/tiny.yaml", "metric: score", "metric: loss", {"course": 1} | PAGE, id="metric of a course"
        ),
        pytest.param(
            "tables/tiny.yaml", "x: certified@0\n", "x: certified@0.25\n", {"gain": 1} | PAGE, id="x of gains"
        ),
        pytest.param(STUDY, "shards: 2", "shards: 3", {}, id="shards"),
        pytest.param(STUDY, "shards: 2", "shards: 2\n  processes: 2\n  batch: 7", {}, id="processes, batch"),
        pytest.param(STUDY, "processes: 2", "processes: 2\n    checkpoint_seconds: 7", {}, id="checkpoint_seconds"),
        pytest.param(STUDY, "groups: 4", "groups: 2", {}, id="groups, of group norm alone"),
        pytest.param(
            "recipes.yaml",
            "  sigma_100:\n    sigmas:\n    - 1.0",
            "  sigma_100:\n    sigmas:\n    - 2.0",
            {},
            id="a recipe that no row names",
        ),
    ],
)
def test_a_change_re_runs_what_it_concerns(study: Path, file: str, old: str, new: str, jobs: dict[str, int]) -> None:
    whole = (study / "params" / file).read_text()
    edit(study, file, old, new)
    try:
        assert planned(study) == jobs
    finally:
        (study / "params" / file).write_text(whole)


def test_a_tracker_re_runs_nothing_and_must_be_installed(study: Path) -> None:
    edit(study, STUDY, "tables: tiny\n", "tables: tiny\ntracker: mlflow\n")
    package = study / "src" / "mlflow"
    try:
        package.mkdir()  # what W&B leaves where it runs looks like this, and is no package
        done = snakemake(study, "-n")
        assert done.returncode != 0
        assert "smoke.yaml: tracker: the package mlflow is not installed" in done.stderr + done.stdout
        (package / "__init__.py").touch()
        assert planned(study) == {}
        shown = snakemake(study, "-n", "-p", "--forcerun", "train")
        assert (shown.stdout + shown.stderr).count(" --tracker mlflow ") == 3
    finally:
        edit(study, STUDY, "tracker: mlflow\n", "")
        (package / "__init__.py").unlink(missing_ok=True)
        package.rmdir()


def test_snakemakes_own_report_holds_tables_figures_and_page_with_captions(study: Path) -> None:
    done = snakemake(study, "--report", "snakemake.zip")
    assert done.returncode == 0, done.stderr
    path = study / "results" / "smoke" / "snakemake.zip"
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).name for name in archive.namelist() if "/data/" in name}
        frame = archive.read("snakemake/report.html").decode()
    path.unlink()
    shown = {"table3.md", "pair.md", "moved.md", "moved.svg", "figure1.svg", "learned.svg", "gained.svg", "report.html"}
    assert shown == names
    assert "is an oracle that picks" in frame  # the caption of a figure


def test_the_lock_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(study: Path) -> None:
    results = study / "results" / "smoke"
    lock = results / ".snakemake" / "locks" / "0.output.lock"
    lock.write_text("tables/pair.md\n")
    with (results / ".snakemake" / "alive").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)  # as a run that lives
        done = snakemake(study)
        assert done.returncode != 0
        assert "results/smoke: another snakemake is at work in it" in done.stdout + done.stderr
    assert snakemake(study).returncode == 0
    assert not lock.exists()


def test_times_of_files_do_not_matter(study: Path) -> None:
    """A clock that jumps, a copy, git and DVC give files any times."""
    kept = {path: path.stat().st_mtime for path in study.rglob("*") if path.is_file() and "logs" not in path.parts}
    for number, path in enumerate(kept):
        year = (631_152_000, 4_102_444_800)[number % 2]  # 1990 and 2100
        os.utime(path, (year, year))
    assert planned(study) == {}
    for path, moment in kept.items():
        os.utime(path, (moment, moment))


@needs_slurm
def test_a_cluster_does_not_re_run_what_is_done(study: Path) -> None:
    assert planned(study, "--workflow-profile", "slurm", "--set-resources", "train:nodes=2") == {}


def test_gpus_do_not_re_run_what_is_done(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert planned(study) == {}


def test_the_slurm_profile_decides_what_re_runs_as_the_default_one_does() -> None:
    default, slurm = (yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text()) for name in PROFILES)
    for key in ("rerun-triggers", "max-checksum-file-size", "rerun-incomplete", "keep-going"):
        assert slurm[key] == default[key], key


@needs_slurm
def test_a_cluster_job_asks_for_what_the_params_say(study: Path) -> None:
    edit(study, STUDY, "epochs: 1", "epochs: 2")
    try:
        # Without it a dry run is one on a single core, and shows what is asked for cut to that.
        done = snakemake(study, "-n", "--workflow-profile", "slurm", "--cores", "8")
    finally:
        edit(study, STUDY, "epochs: 2", "epochs: 1")
    plan = done.stdout + done.stderr
    train = plan[plan.index("rule train:") :]
    asked = re.search(r"threads: 2\n +resources: (.*)", train)
    assert asked
    assert {"gpu=2", "mem_mb=32000", "runtime=2880"} <= set(asked[1].split(", "))
    # All evaluations in one allocation.
    assert plan.count("Group job evaluate") == 1
    assert plan[plan.index("Group job evaluate") :].count("rule evaluate:") == 3
