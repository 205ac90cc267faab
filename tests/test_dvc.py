"""The real DVC on a small study in clones: no command takes a result away, and what it brings back is up to date."""

import copy
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.helpers.workflow import BIN, ROOT, TABLES, TINY, edit, planned, snakemake, tiny, write

PRETRAINED, FINETUNED = "layer_norm/mixed@upstream/0", "layer_norm/mixed@upstream/clean@downstream/0"
WEIGHTS = f"results/smoke/train/{PRETRAINED}/model.safetensors"
PAIR = "results/smoke/metrics/pair.json"
# All that the learning rate of the finetuning concerns.
RULES = {"train", "evaluate", "finish", "table", "training", "report", "all"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "tests", f"GIT_{role}_EMAIL": "tests@localhost"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def call(folder: Path, *command: str) -> str:
    return run(folder, *command).stdout


def version(folder: Path) -> Path:
    """Make the folder of a tiny study a git repository with DVC, as the project is one."""
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    dvc["metrics"] = ["results/smoke/dvc/metrics/pair.json"]
    curve = {"results/smoke/dvc/metrics/training.csv": [f"train/{PRETRAINED}"]}
    dvc["plots"] = [{"training": {"x": "epoch", "y": curve}}]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(dvc, sort_keys=False))
    call(folder, "git", "init", "--quiet", "--initial-branch=main")
    call(folder, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    commit(folder, "study")
    return folder


def commit(folder: Path, message: str) -> None:
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", f"--message={message}")


def store(folder: Path) -> None:
    """Have DVC and git version the data and what Snakemake left of the study."""
    call(folder, "dvc", "add", "--quiet", "data")
    call(folder, "dvc", "commit", "--quiet", "--force", "minutes@smoke")
    commit(folder, "versioned")


def clone(project: Path, to: Path) -> Path:
    call(project, "git", "clone", "--quiet", str(project), str(to))
    return to


def experiment(folder: Path, name: str, *arguments: str) -> tuple[set[str], list[str]]:
    """Run an experiment; the rules of the jobs that it ran, and the runs that it trained."""
    said = run(folder, "dvc", "exp", "run", "--name", name, *arguments).stderr
    jobs = re.findall(r"^\[\d+ of \d+\] (\w+)(?: (\S+))?  ", said, re.MULTILINE)
    return {rule for rule, _ in jobs}, [of for rule, of in jobs if rule == "train"]


def kept(folder: Path) -> dict[str, str]:
    """The hash of each file of data and results; of the smoke study not those of mirror, logs and states."""
    found = {}
    for path in sorted([*(folder / "data").rglob("*"), *(folder / "results").rglob("*")]):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not re.match(r"results/smoke/((dvc|logs|\.snakemake)/|.*/resume\.pt$)", name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def below(name: str) -> bool:
    """Whether a file is made of finetuned networks."""
    return bool(re.match(rf"results/smoke/(?!train/{PRETRAINED}/)", name))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a study with one finetuned network and two tables, and nothing that was run."""
    folder = tiny(tmp_path_factory.mktemp("origin"))
    study = copy.deepcopy(TINY)
    study["schedules"]["pretrain"]["processes"] = study["certify"]["shards"] = 1
    write(folder, "studies/smoke.yaml", study | {"report": ["table3", "pair"]})
    tables = copy.deepcopy(TABLES)
    del tables["tables"]["pair"]["rows"][0], tables["gains"]
    write(folder, "tables/tiny.yaml", tables)
    return version(folder)


@pytest.fixture(scope="module")
def project(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with results of another study, whose own run was killed when it began to finetune."""
    folder = clone(origin, tmp_path_factory.mktemp("project") / "clone")
    for name in (f"train/{PRETRAINED}/model.safetensors", "tables/table1.md", "dvc/tables/table1.md", ".snakemake/x"):
        path = folder / "results" / "desk" / name
        path.parent.mkdir(parents=True)
        path.write_text("hours of work")
    with subprocess.Popen([BIN / "snakemake", "--quiet"], cwd=folder, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while not (folder / f"results/smoke/logs/train/{FINETUNED}.log").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (folder / "results/smoke/dvc").exists()
    return folder


@pytest.fixture(scope="module")
def slow(project: Path) -> Path:
    """An experiment after the kill: it goes on with the pretraining that was done."""
    before = kept(project)
    assert WEIGHTS in before
    ran = experiment(project, "slow", "minutes@smoke")
    assert ran == (RULES, [FINETUNED])
    after = kept(project)
    assert {name: after.get(name) for name in before} == before
    return project


@pytest.fixture(scope="module")
def fast(slow: Path) -> Path:
    """An experiment on a finished run that DVC knows nothing of."""
    edit(slow, "studies/smoke.yaml", "n: 100", "n: 110")
    done = snakemake(slow)
    assert done.returncode == 0, done.stderr
    before = kept(slow)
    ran = experiment(slow, "fast", "-S", "params/studies/smoke.yaml:schedules.finetune.lr=[0.1]", "minutes@smoke")
    assert ran == (RULES, [FINETUNED])
    after = kept(slow)
    assert after.keys() == before.keys()
    assert {name: after[name] for name in before if not below(name)} == {
        name: digest for name, digest in before.items() if not below(name)
    }
    assert after[PAIR] != before[PAIR]
    assert planned(slow) == {}
    return slow


def test_numbers_and_curves_of_two_experiments_are_compared(fast: Path) -> None:
    change = json.loads(call(fast, "dvc", "metrics", "diff", "--json", "slow", "fast"))
    accuracy = change["results/smoke/dvc/metrics/pair.json"]["layer_norm/mixed@upstream/clean@downstream.certified_0"]
    assert accuracy["old"] != accuracy["new"]
    call(fast, "dvc", "plots", "diff", "slow", "fast", "--out", "plots")
    page = (fast / "plots" / "index.html").read_text()
    assert {'"rev": "slow"', '"rev": "fast"'} <= set(re.findall(r'"rev": "\w+"', page))
    shutil.rmtree(fast / "plots")
    columns = call(fast, "dvc", "exp", "show", "--csv").splitlines()[0].split(",")
    assert {"schedules.finetune.lr", "layer_norm/mixed@upstream/clean@downstream.certified_0", "src"} <= set(columns)
    assert "fast" in call(fast, "dvc", "exp", "show", "--only-changed")


def test_an_earlier_experiment_comes_back_and_nothing_is_planned(fast: Path) -> None:
    results: dict[str, dict[str, str]] = {}
    for name in ("slow", "fast", "slow"):
        call(fast, "dvc", "exp", "apply", name)
        assert planned(fast) == {}
        assert results.setdefault(name, kept(fast)) == kept(fast)
    assert results["slow"][PAIR] != results["fast"][PAIR]
    assert results["slow"][WEIGHTS] == results["fast"][WEIGHTS]
    commit(fast, "slow")
    call(fast, "dvc", "exp", "apply", "fast")
    assert planned(fast) == {}
    call(fast, "git", "checkout", "--quiet", "--force", "HEAD", "--", ".")
    call(fast, "dvc", "checkout", "minutes@smoke")
    assert planned(fast) == {}
    assert kept(fast) == results["slow"]


def test_results_that_dvc_does_not_have_stay_when_it_checks_out_others(fast: Path) -> None:
    call(fast, "dvc", "exp", "apply", "slow")
    edit(fast, "tables/tiny.yaml", "Two.", "Two, in other words.")
    assert snakemake(fast).returncode == 0
    assert re.search(r"modified: +results/smoke/dvc", call(fast, "dvc", "status", "minutes@smoke"))
    ours = kept(fast)
    call(fast, "dvc", "checkout", "--force", "minutes@smoke")
    done = snakemake(fast)
    assert "2 results are in no DVC cache and stay" in done.stdout + done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr
    assert kept(fast) == ours
    # They are in the mirror again, and once DVC has them it may take others in their place.
    call(fast, "dvc", "commit", "--force", "minutes@smoke")
    assert call(fast, "dvc", "status", "minutes@smoke").strip().endswith("up to date.")
    call(fast, "dvc", "exp", "apply", "slow")
    assert planned(fast) == {}
    assert {name for name, digest in kept(fast).items() if digest != ours[name]} == {
        "results/smoke/tables/pair.md",
        "results/smoke/report.html",
    }


def test_a_run_leaves_the_cache_whole(fast: Path) -> None:
    """Snakemake writes into its records, which must not be the cache's own."""
    objects = [path for path in (fast / ".dvc" / "cache" / "files" / "md5").glob("??/*") if path.suffix != ".dir"]
    assert len(objects) > 10
    for path in objects:
        assert hashlib.md5(path.read_bytes()).hexdigest() == path.parent.name + path.name


def test_without_a_stage_nothing_is_lost_either(fast: Path) -> None:
    before = kept(fast)
    assert experiment(fast, "all") == (set(), [])
    assert kept(fast) == before


@pytest.fixture(scope="module")
def remote(fast: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder to which data and study were pushed."""
    folder = tmp_path_factory.mktemp("remote")
    call(fast, "dvc", "exp", "apply", "fast")
    assert planned(fast) == {}
    store(fast)
    call(fast, "dvc", "remote", "add", "--local", "--default", "store", str(folder))
    call(fast, "dvc", "push", "--quiet")
    return str(folder)


def test_a_clone_after_pull_plans_nothing(fast: Path, remote: str, tmp_path: Path) -> None:
    folder = clone(fast, tmp_path / "clone")
    call(folder, "dvc", "remote", "add", "--local", "--default", "store", remote)
    call(folder, "dvc", "pull", "--quiet", "minutes@smoke")
    assert planned(folder) == {}
    call(folder, "dvc", "pull", "--quiet")
    assert planned(folder) == {}
    assert call(folder, "dvc", "status", "minutes@smoke").strip().endswith("up to date.")
    assert {name: digest for name, digest in kept(fast).items() if "/desk/" not in name} == kept(folder)
    # A change re-runs what it concerns, and the data made anew are those that are pinned.
    edit(folder, "tables/tiny.yaml", "Two.", "Two, in other words.")
    assert planned(folder) == {"table": 1, "report": 1, "all": 1}
    shutil.rmtree(folder / "data" / "digits")
    call(folder, str(BIN / "snakemake"), "data")
    assert call(folder, "dvc", "status", "data.dvc").strip().endswith("up to date.")
