"""The package as it is installed: a small core, typed, with a version that its papers know."""

import importlib.metadata
import os
import re
import subprocess
import sys
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
