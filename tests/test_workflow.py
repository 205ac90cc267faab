"""The workflow itself: what Snakemake plans, and a small study run for real in a copy of the project."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from transmooth.params import load
from transmooth.plan import Plan

BIN = Path(sys.executable).parent
PROFILES = ("default", "slurm")

needs_slurm = pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_slurm") is None, reason="the extra slurm is not installed"
)


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(BIN / "snakemake"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Job counts of a dry run, by rule."""
    done = snakemake(folder, "-n", *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    stats = re.search(r"job +count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.DOTALL)
    if stats is None:
        assert "Nothing to be done" in done.stdout + done.stderr
        return {}
    return {line.split()[0]: int(line.split()[1]) for line in stats[1].splitlines() if not line.startswith("total")}


def copy(to: Path) -> Path:
    for name in ("Snakefile", "params", "profiles", "src", "workflow"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    return to


def edit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "params" / file
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


def test_a_dry_run_has_the_jobs_of_the_plan(tmp_path: Path) -> None:
    expected = Plan(load("smoke", ROOT)).jobs()
    assert planned(copy(tmp_path)) == expected | {"all": 1}


def test_a_checkout_plans_by_its_own_sources_whatever_is_installed(tmp_path: Path) -> None:
    source = copy(tmp_path) / "src" / "transmooth" / "plan.py"
    source.write_text(source.read_text() + '\nraise SystemExit("planned by the copy")\n')
    done = snakemake(tmp_path, "-n")
    assert done.returncode != 0
    assert "planned by the copy" in done.stdout + done.stderr


def test_one_table_needs_only_its_own_runs(tmp_path: Path) -> None:
    assert planned(copy(tmp_path), "table3") == {
        "prepare": 2,
        "pretrain": 1,
        "finetune": 1,
        "certify": 1,
        "merge": 1,
        "table": 1,
        "table3": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "edits", "message"),
    [
        (["--config", "study=nowhere"], [], "params/nowhere.yaml: no such study"),
        (["--config", "stduy=smoke"], [], "--config takes study=NAME alone, found stduy"),
        ([], [("smoke.yaml", "epochs: ", "epochs: -")], r"params/smoke.yaml: pretrain.epochs: .*found -\d"),
        ([], [("tables.yaml", "pretrain: mixed\n", "pretrain: mixt\n")], "recipe 'mixt' is not in params/recipes.yaml"),
    ],
)
def test_bad_params_end_it_with_one_message_and_nothing_started(
    tmp_path: Path, arguments: list[str], edits: list[tuple[str, str, str]], message: str
) -> None:
    copy(tmp_path)
    for file, old, new in edits:
        edit(tmp_path, file, old, new)
    done = snakemake(tmp_path, *arguments)
    assert done.returncode != 0
    assert re.search(message, done.stderr + done.stdout)
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "data").exists()


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


TINY = {
    "roles": {"upstream": "characters", "downstream": "digits"},
    "seeds": [0],
    "network": {
        "name": "resnet18",
        "stem": "cifar",
        "groups": 4,
        "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "stem_type": "deep", "stem_width": 4},
    },
    "pretrain": {"epochs": 1, "warmup_epochs": 0, "batch": 64, "lr": [0.003], "weight_decay": 0.0, "processes": 2},
    "finetune": {"epochs": 1, "warmup_epochs": 0, "batch": 64, "lr": [0.003], "weight_decay": 0.0},
    "certify": {"sigmas": [0.25, 0.5], "n0": 20, "n": 100, "alpha": 0.01, "images": 20, "shards": 2},
    "report": ["table3", "pair", "figure1"],
}


def tiny(folder: Path) -> Path:
    """A copy of the project whose smoke study has two runs: one from scratch, one transferred."""
    copy(folder)
    (folder / "params" / "smoke.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    edit(folder, "datasets.yaml", "train: 12000", "train: 620")
    edit(folder, "datasets.yaml", "test: 1240", "test: 62")
    for text in ("sha256:",):
        datasets = (folder / "params" / "datasets.yaml").read_text()
        kept = [line for line in datasets.splitlines() if text not in line]
        (folder / "params" / "datasets.yaml").write_text("\n".join(kept) + "\n")
    tables = yaml.safe_load((folder / "params" / "tables.yaml").read_text())
    rows = [{"label": p, "pretrain": p, "finetune": "clean"} for p in ("scratch", "mixed")]
    tables["tables"]["pair"] = {"title": "Pair", "caption": "Two.", "radii": [0.0, 0.25], "rows": rows}
    panels = [{"title": "One", "rows": rows[1:]}, {"title": "Two", "rows": rows}]
    tables["figures"]["figure1"] = {"title": "Figure", "caption": "Curves.", "panels": panels}
    (folder / "params" / "tables.yaml").write_text(yaml.safe_dump(tables, sort_keys=False, allow_unicode=True))
    return folder


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
    assert re.fullmatch(r"smoke: (\d+) jobs: 2 prepare, 1 pretrain, 2 finetune, 4 certify, \d+ report", first)
    total = first.split()[1]
    assert [line.split("]")[0] for line in jobs] == [f"[{n} of {total}" for n in range(1, int(total) + 1)]
    assert re.match(r"Complete log\(s\): .*/\.snakemake/log/.*\.log", last)
    return folder


def test_a_study_leaves_tables_figures_and_metrics(study: Path) -> None:
    results = study / "results" / "smoke"
    table = pd.read_csv(results / "tables" / "pair.csv")
    assert set(table["row"]) == {"scratch", "mixed"}
    assert set(table["images"]) == {20}
    assert table["certified_accuracy"].between(0, 1).all()
    assert "## Quoted from the paper (Table 3, CIFAR-10)" in (results / "tables" / "table3.md").read_text()
    assert (results / "figures" / "figure1.svg").read_text().startswith("<?xml")
    assert (results / "figures" / "figure1.png").read_bytes().startswith(b"\x89PNG")
    page = (results / "report.html").read_text()
    assert all(f'id="chart-{name}"' in page for name in ("table3", "pair", "figure1", "training"))
    metrics = json.loads((results / "metrics" / "pair.json").read_text())
    assert set(metrics) == {"scratch-digits-clean", "mixed-digits-clean"}
    assert json.loads((results / "pretrain/mixed/0/model.json").read_text())["spec"]["training"]["processes"] == 2
    assert not list(results.glob("certify/**/*-of-2.parquet"))
    assert planned(study) == {}
    # What brings back the outputs of a job that is killed in its last second is not needed any more.
    assert [str(path) for path in results.rglob("*") if path.name == "resume.pt" or path.suffix == ".journal"] == []
    state = next(results.glob("pretrain/*/*")) / "resume.pt"
    state.touch()
    planned(study)
    assert state.exists()
    state.unlink()


def test_a_change_re_runs_what_it_concerns(study: Path) -> None:
    def after(file: str, old: str, new: str) -> dict[str, int]:
        edit(study, file, old, new)
        try:
            return planned(study)
        finally:
            edit(study, file, new, old)

    below = {"certify": 4, "merge": 2, "table": 2, "figure": 1, "report": 1, "all": 1}
    smoke = (study / "params" / "smoke.yaml").read_text()
    learning = smoke[smoke.index("finetune:") : smoke.index("certify:")]
    assert after("smoke.yaml", learning, learning.replace("0.003", "0.004")) == below | {"finetune": 2, "training": 1}
    assert after("tables.yaml", "Two.", "Two, in other words.") == {"table": 1, "report": 1, "all": 1}
    assert after("tables.yaml", "title: Figure", "title: Curves") == {"figure": 1, "report": 1, "all": 1}
    assert after("smoke.yaml", "n: 100", "n: 110") == below
    assert after("smoke.yaml", "shards: 2", "shards: 3") == {}
    assert after("smoke.yaml", "shards: 2", "shards: 2\n  processes: 2") == {}
    assert (
        after(
            "recipes.yaml", "    sigma_100:\n      sigmas:\n      - 1.0", "    sigma_100:\n      sigmas:\n      - 2.0"
        )
        == {}
    )
    assert planned(study) == {}


def test_the_lock_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(study: Path) -> None:
    results = study / "results" / "smoke"
    lock = results / ".snakemake" / "locks" / "0.output.lock"
    lock.write_text("tables/pair.md\n")
    with (results / ".snakemake" / "alive").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)  # as a run that lives
        done = snakemake(study)
        assert done.returncode != 0
        assert "cannot be locked" in done.stdout + done.stderr
    assert snakemake(study).returncode == 0
    assert not lock.exists()


def test_times_of_files_do_not_matter(study: Path) -> None:
    """A clock that jumps, a copy, git and DVC give files any times."""
    kept = {path: path.stat().st_mtime for path in study.rglob("*") if path.is_file() and "logs" not in path.parts}
    for number, path in enumerate(kept):
        moment = (631_152_000, 4_102_444_800)[number % 2]  # 1990 and 2100
        os.utime(path, (moment, moment))
    assert planned(study) == {}
    for path, moment in kept.items():
        os.utime(path, (moment, moment))


@needs_slurm
def test_a_cluster_does_not_re_run_what_is_done(study: Path) -> None:
    assert planned(study, "--workflow-profile", "slurm", "--set-resources", "pretrain:nodes=2") == {}


def test_gpus_do_not_re_run_what_is_done(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert planned(study) == {}


def test_the_slurm_profile_decides_what_re_runs_as_the_default_one_does() -> None:
    default, slurm = (yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text()) for name in PROFILES)
    for key in ("rerun-triggers", "max-checksum-file-size", "rerun-incomplete", "keep-going"):
        assert slurm[key] == default[key], key


@needs_slurm
def test_a_cluster_job_asks_for_what_the_params_say(study: Path) -> None:
    edit(study, "smoke.yaml", "epochs: 1", "epochs: 2")
    try:
        # Without it a dry run is one on a single core, and shows what is asked for cut to that.
        done = snakemake(study, "-n", "--workflow-profile", "slurm", "--cores", "8")
    finally:
        edit(study, "smoke.yaml", "epochs: 2", "epochs: 1")
    plan = done.stdout + done.stderr
    pretrain = plan[plan.index("rule pretrain:") :]
    asked = re.search(r"threads: 2\n +resources: (.*)", pretrain)
    assert asked
    assert {"gpu=2", "mem_mb=32000", "runtime=2880"} <= set(asked[1].split(", "))
    # All shards in one allocation.
    assert plan.count("Group job certify") == 1
    assert plan[plan.index("Group job certify") :].count("rule certify:") == 2
