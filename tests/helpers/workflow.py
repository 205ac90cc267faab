"""Snakemake in copies of the project, and a study that is small enough to be run by tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

_SCHEDULE = {"epochs": 1, "warmup_epochs": 0, "batch": 64, "lr": [0.003], "optimizer": "adamw", "weight_decay": 0.0}
TINY: dict[str, Any] = {
    "tables": "tiny",
    "network": {
        "default": "layer_norm",
        "name": "resnet18",
        "stem": "cifar",
        "groups": 4,
        "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "stem_type": "deep", "stem_width": 4},
    },
    "roles": {
        "upstream": {"dataset": "characters", "schedule": "pretrain"},
        "downstream": {"dataset": "digits", "schedule": "finetune"},
    },
    "seeds": [0],
    "schedules": {"pretrain": _SCHEDULE | {"processes": 2}, "finetune": _SCHEDULE | {"lr": [0.002]}},
    "evaluate": ["certify"],
    "certify": {"n0": 20, "n": 100, "alpha": 0.01, "images": 20, "shards": 2},
    "report": ["table3", "pair", "figure1", "moved", "learned", "gained"],
}
SCRATCH, MIXED = ["clean@downstream"], ["mixed@upstream", "clean@downstream"]
ROWS = [{"label": "scratch", "train": SCRATCH}, {"label": "mixed", "train": MIXED}]
TABLES: dict[str, Any] = {
    "paper": "mixed-noise",
    "tables": {
        "table3": {
            "title": "Comparison",
            "caption": "Beside the paper's.",
            "published": "Table 3",
            "columns": ["clean", "certified@0.25"],
            "brackets": "natural",
            "rows": [ROWS[1] | {"published": "method=ours"}],
        },
        "pair": {"title": "Pair", "caption": "Two.", "columns": ["certified@0", "certified@0.25"], "rows": ROWS},
    },
    "figures": {
        "figure1": {
            "title": "Figure",
            "caption": "Curves.",
            "panels": [{"title": "One", "rows": ROWS[1:]}, {"title": "Two", "rows": ROWS}],
        }
    },
    "courses": {"learned": {"title": "Learned", "caption": "How.", "metric": "score", "rows": ROWS}},
    "gains": {
        "gained": {
            "title": "G",
            "caption": "C",
            "table": "pair",
            "x": "certified@0",
            "y": "certified@0.25",
            "against": "scratch",
        }
    },
    "shifts": {"moved": {"title": "Moved", "caption": "How far.", "rows": [ROWS[1] | {"evaluate": ["shift"]}]}},
}


def snakemake(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What Snakemake says in a folder, where only that folder's own sources are found; variables: its environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
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
    """A copy of the project without its results."""
    for name in ("Snakefile", "params", "profiles", "src", "workflow"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    return to


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Replace the first `old` of a file of the params."""
    path = folder / "params" / file
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


def write(folder: Path, file: str, content: Any) -> None:
    """Write a file of the params in block style, one key a line."""
    (folder / "params" / file).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def tiny(folder: Path) -> Path:
    """A copy of the project whose smoke study has two networks: one from scratch, one transferred."""
    copy(folder)
    write(folder, "studies/smoke.yaml", TINY)
    write(folder, "tables/tiny.yaml", TABLES)
    datasets = yaml.safe_load((folder / "params" / "datasets.yaml").read_text())
    datasets["datasets"]["characters"]["source"] |= {"train": 620, "test": 62}
    del datasets["datasets"]["characters"]["sha256"]
    write(folder, "datasets.yaml", datasets)
    return folder
