"""DVC round trips, on the small study of test_workflow: what comes back from the cache is up to date as it is."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_workflow import BIN, planned, study  # noqa: F401  (a fixture)


def call(folder: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "tests", f"GIT_{role}_EMAIL": "tests@localhost"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def version(folder: Path) -> Path:
    """Make the folder of a study that was run a git repository, with its data and results in DVC."""
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    dvc["stages"] = {"smoke": dvc["stages"]["smoke"]}
    dvc["metrics"] = ["results/smoke/metrics/pair.json"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(dvc, sort_keys=False))
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    call(folder, "dvc", "add", "--quiet", "data")
    call(folder, "dvc", "repro", "--quiet", "smoke")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message=study")
    return folder


@pytest.fixture(scope="module")
def versioned(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The study, versioned and pushed to a remote folder."""
    version(study)
    call(study, "dvc", "remote", "add", "--local", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    call(study, "dvc", "push", "--quiet")
    return study


def test_a_clone_after_pull_plans_nothing(versioned: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(versioned), str(clone))
    call(clone, "dvc", "remote", "add", "--local", "--default", "store", remote_of(versioned))
    call(clone, "dvc", "pull", "--quiet")
    assert planned(clone) == {}
    assert call(clone, "dvc", "status").strip().endswith("up to date.")


def remote_of(folder: Path) -> str:
    return call(folder, "dvc", "remote", "list").split()[1]


def test_the_cache_survives_a_run_on_what_was_checked_out(versioned: Path, tmp_path: Path) -> None:
    """Snakemake rewrites its metadata in place, which must not be the cache's own copy."""
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(versioned), str(clone))
    call(clone, "dvc", "remote", "add", "--local", "--default", "store", remote_of(versioned))
    call(clone, "dvc", "pull", "--quiet")
    params = clone / "params" / "tables.yaml"
    params.write_text(params.read_text().replace("caption: ", "caption: Otherwise, ", 1))
    call(clone, str(BIN / "snakemake"), "pair")
    objects = [path for path in (clone / ".dvc" / "cache" / "files" / "md5").glob("??/*") if path.suffix != ".dir"]
    assert len(objects) > 10
    for path in objects:
        assert hashlib.md5(path.read_bytes()).hexdigest() == path.parent.name + path.name


def test_a_clone_without_data_and_remote_can_run_an_experiment(versioned: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(versioned), str(clone))
    call(clone, "dvc", "exp", "run", "--quiet", "--name=first", "-S", "params/smoke.yaml:certify.n=200", "smoke")
    assert "first" in call(clone, "dvc", "exp", "show", "--json")


def test_data_rebuilt_from_source_match_the_pinned_hash(versioned: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(versioned), str(clone))
    call(clone, str(BIN / "snakemake"), "data")
    call(clone, "dvc", "add", "--quiet", "data")
    assert call(clone, "git", "diff", "--", "data.dvc") == ""


def test_an_experiment_re_runs_what_it_changes_and_checkout_brings_the_old_back(versioned: Path) -> None:
    before = (versioned / "results/smoke/metrics/pair.json").read_text()
    call(versioned, "dvc", "exp", "run", "--quiet", "--name=faster", "-S", "params/smoke.yaml:finetune.lr=[0.01]")
    log = max((versioned / ".snakemake" / "log").glob("*.log"), key=lambda path: path.stat().st_mtime).read_text()
    ran = {line.split()[0] for line in log.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:-1]}
    assert ran == {"finetune", "certify", "merge", "table", "figure", "training", "report", "all"}
    assert planned(versioned) == {}
    after = (versioned / "results/smoke/metrics/pair.json").read_text()
    assert after != before
    shown = json.dumps(json.loads(call(versioned, "dvc", "exp", "show", "--json")))
    assert "faster" in shown
    changed = json.loads(call(versioned, "dvc", "metrics", "diff", "--json", "main"))
    assert "results/smoke/metrics/pair.json" in json.dumps(changed)
    call(versioned, "git", "checkout", "--quiet", "--", ".")
    call(versioned, "dvc", "checkout", "--quiet")
    assert (versioned / "results/smoke/metrics/pair.json").read_text() == before
    assert planned(versioned) == {}
