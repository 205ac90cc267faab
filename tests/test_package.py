"""The package as it is installed: a small core, typed, with a version that its papers know."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from PIL import Image

import transmooth
from tests.conftest import ROOT

# The core, as it runs where the extra `workflow` was not installed: its packages cannot be imported.
CORE = """
import sys

sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
import torch
from torch import nn
import transmooth
from transmooth.cli.main import app
from transmooth import params, plan
from transmooth.checkpoint import weights
from transmooth.loading import images, models
from transmooth.records import logs, table
from transmooth.report import compare

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
frame = transmooth.certify(model, torch.rand(2, 3, 4, 4), [0, 1], sigma=0.5, n=100)
assert len(frame) == 2
for arguments in (["--help"], ["finetune", "pictures", "--from", "base", "--out", "model"]):
    try:
        app(arguments)
    except SystemExit as end:
        print("status", end.code)
"""


def test_certifying_needs_nothing_of_the_workflow() -> None:
    extras = [line for line in importlib.metadata.requires("transmooth") or [] if "workflow" in line]
    names = {"scikit-learn": "sklearn", "scikit-image": "skimage"}
    absent = [names.get(name, name) for name in (re.split(r"[^\w-]", line)[0] for line in extras)]
    assert {"accelerate", "dvc", "matplotlib", "sklearn", "skimage", "snakemake"} <= set(absent)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", CORE, ",".join(absent)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "status 0" in done.stdout
    assert "status 1" in done.stdout
    assert "needs the package accelerate: in a checkout, pip install -e '.[workflow]' brings it" in done.stderr


def test_it_is_typed_and_its_citation_has_its_version() -> None:
    assert (Path(transmooth.__file__).parent / "py.typed").is_file()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == transmooth.__version__ == importlib.metadata.version("transmooth")
    assert citation["cff-version"] == "1.2.0"


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extras_of(text: str) -> set[str]:
    """The extras that a text installs the checkout with."""
    return {extra for names in re.findall(r"\.\[([\w,]+)\]", text) for extra in names.split(",")}


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert f'__version__ = "{transmooth.__version__}"' in (ROOT / "src" / "transmooth" / "__init__.py").read_text()
    assert f"## {transmooth.__version__} (unreleased)" in (ROOT / "CHANGELOG.md").read_text().splitlines()


def test_containers_and_environments_install_what_pyproject_has() -> None:
    python = PROJECT["requires-python"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{python}" in environment
    (pip,) = (each["pip"] for each in environment if isinstance(each, dict))
    container = (ROOT / "Containerfile").read_text()
    assert f"\nFROM python:{python.removeprefix('>=')}-slim\n" in container
    for installed in (*pip, container):
        assert extras_of(installed) == {"workflow"} <= {*PROJECT["optional-dependencies"]}


def test_an_image_holds_what_the_workflow_needs_and_no_results() -> None:
    ignored = {line.split("/")[0] for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert {"data", "external", "results", ".venv", ".git"} <= ignored
    assert ignored.isdisjoint(
        {"Snakefile", "params", "profiles", "pyproject.toml", "src", "workflow", "README.md", "LICENSE"}
    )


def test_the_checks_of_a_push_are_those_of_ci_run_with_no_rights_but_to_read() -> None:
    flow = yaml.load((ROOT / ".github" / "workflows" / "ci.yml").read_text(), yaml.BaseLoader)  # `on` stays a word
    assert {*flow["on"]} == {"push", "pull_request"}
    assert flow["permissions"] == {"contents": "read"}
    (job,) = flow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    (python,) = (step["with"]["python-version"] for step in job["steps"] if "setup-uv" in step.get("uses", ""))
    assert python == PROJECT["requires-python"].removeprefix(">=")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_result_of_snakemakes_report_has_a_caption() -> None:
    catalogue = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert catalogue["report"] is True
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    captions = re.findall(r'caption="([^"]+)"', rules)
    assert len(captions) == rules.count(" report(") + rules.count("=report(")
    there = {path.name for path in (ROOT / "workflow" / "report").iterdir()}
    assert {caption.removeprefix("../report/") for caption in captions} == there


WITHOUT_POSIX = """
import os, sys

class Windows:
    def find_spec(self, name, path, target=None):
        if name in ("fcntl", "resource", "pwd", "grp"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Windows())
sys.modules.pop("fcntl", None)
del os.posix_fallocate
import transmooth
from transmooth.cli.main import app
transmooth.certify
for arguments in ARGUMENTS:
    try:
        app(arguments)
    except SystemExit as end:
        assert not end.code, arguments
"""


def test_what_needs_no_study_runs_without_what_posix_alone_has(tmp_path: Path) -> None:
    net = (
        "import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    (tmp_path / "net.py").write_text(net)
    for k, name in enumerate("abc"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), tuple(200 * (k == c) for c in range(3))).save(tmp_path / "pics" / name / "0.png")
    settings = ["--sigma", "0.1", "--n", "50", "--n0", "5", "--batch", "50", "--out", "r.parquet"]
    arguments = [["certify", "net:net", "pics", *settings], ["accuracy", "r.parquet"]]
    arguments += [
        ["report", "r.parquet", "--out", "r.html"],
        ["export-log", "r.parquet", "r.tsv"],
        ["accuracy", "r.tsv"],
    ]
    code = WITHOUT_POSIX.replace("ARGUMENTS", repr(arguments))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 images") == 2
