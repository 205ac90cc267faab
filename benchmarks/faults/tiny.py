"""A small study in a copy of the project, traced, and what two runs of it have different."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from transmooth.records import table as records

ROOT = Path(__file__).parents[2]
STUDY = "faults"
CHECKPOINT_SECONDS = 1
TRACE = "TRANSMOOTH_TRACE"  # the environment variable that names the file

_SCHEDULE = {"warmup_epochs": 0, "batch": 64, "lr": [0.003], "weight_decay": 0.0}
_SCHEDULE |= {"checkpoint_seconds": CHECKPOINT_SECONDS}
# What is small of the smoke study.
SMALL: dict[str, Any] = {
    "tables": STUDY,
    "roles": {
        "upstream": {"dataset": "characters", "schedule": "pretrain"},
        "downstream": {"dataset": "digits", "schedule": "finetune"},
    },
    "schedules": {
        "pretrain": _SCHEDULE | {"epochs": 20, "processes": 2},
        "finetune": _SCHEDULE | {"epochs": 12},
    },
    "certify": {"n0": 20, "n": 500, "alpha": 0.01, "images": 64, "shards": 2},
    "report": ["pair", "curves", "moved"],
}
SPREAD = "layer_norm/mixed@upstream/0"  # the training on several processes
ROWS: list[dict[str, Any]] = [
    {"label": "scratch", "train": ["clean@downstream"]},
    {"label": "mixed", "train": ["mixed@upstream", "clean@downstream"]},
]
REPORTS = {
    "tables": {
        "pair": {"title": "Pair", "caption": "Two.", "columns": ["certified@0", "certified@0.25"], "rows": ROWS},
    },
    "figures": {
        "curves": {
            "title": "Curves",
            "caption": "Two.",
            "panels": [{"title": "One", "rows": ROWS[1:]}, {"title": "Two", "rows": ROWS}],
        },
    },
    "shifts": {"moved": {"title": "Moved", "caption": "One.", "rows": [ROWS[1] | {"evaluate": ["shift"]}]}},
}

# Appended to the copy's modules.  Each piece of work that a kill can undo is noted when it begins, under the log that
# its job writes to: that names the job for every process of it.
_NOTE = """

import os as _os, time as _time

def _note(*items):
    line = "".join(
        f"{_time.monotonic()}\\t{_os.getpid()}\\t{_os.readlink('/proc/self/fd/1')}\\t{item}\\n" for item in items
    )
    descriptor = _os.open(_os.environ["TRANSMOOTH_TRACE"], _os.O_WRONLY | _os.O_CREAT | _os.O_APPEND)
    _os.write(descriptor, line.encode())
    _os.close(descriptor)
"""
_TRACES = {
    "training/loop.py": """
_train_step = train_step

def train_step(accelerator, task, model, optimizer, split, batch, step, epoch):
    if accelerator.is_main_process:
        _note(f"step {step}")
    return _train_step(accelerator, task, model, optimizer, split, batch, step, epoch)
""",
    "smoothing/chunks.py": """
_decide = decide

def decide(counts, images, labels, sigmas, settings):
    _note(*(f"image {image} at {sigma}" for sigma in sigmas for image in images))
    return _decide(counts, images, labels, sigmas, settings)
""",
}


def copy(to: Path) -> Path:
    """A copy of the project at `to`, with the small study."""
    for folder in ("params", "profiles", "src", "workflow"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", to)
    params = to / "params"
    study = yaml.safe_load((params / "studies" / "smoke.yaml").read_text()) | SMALL
    study["network"]["groups"] = 4
    study["network"]["options"] |= {"channels": [8, 8, 8, 16], "stem_width": 4}
    _write(params / "studies" / f"{STUDY}.yaml", study)
    _write(params / "tables" / f"{STUDY}.yaml", REPORTS)
    recipes = yaml.safe_load((params / "recipes.yaml").read_text())
    recipes["evaluations"]["certify"]["sigmas"] = [0.25, 0.5]
    _write(params / "recipes.yaml", recipes)
    datasets = yaml.safe_load((params / "datasets.yaml").read_text())
    datasets["datasets"]["characters"]["source"] |= {"train": 620, "test": 62}
    del datasets["datasets"]["characters"]["sha256"]
    _write(params / "datasets.yaml", datasets)
    for module, trace in _TRACES.items():
        with (to / "src" / "transmooth" / module).open("a") as file:
            file.write(_NOTE + trace)
    return to


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _without(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda mapping: {key: value for key, value in mapping.items() if key not in keys}


def observed(path: Path) -> Any:
    """The content of a file but for what a clock says.

    Left out are `seconds` of records and cards, `finished` of cards, `images_per_second` of metrics, and the two
    checksums in the card that are of these.
    """
    if path.name.endswith(".parquet"):
        table: pa.Table = records.unseal(path)
        kept = [name for name in table.column_names if name != "seconds"]
        return table.select(kept).to_pydict(), records.metadata(path)
    if path.name == "model.json":
        return _without("seconds", "finished", "checksum", "metrics_sha256")(json.loads(path.read_text()))
    if path.name == "metrics.jsonl":
        return [_without("images_per_second")(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def outputs(project: Path) -> dict[str, Path]:
    """Every file that the study left, by its path in the project, but for logs, Snakemake's own and DVC's copies.

    The page report.html is left out too: it shows what is compared here, and when and for how long each stage ran.
    """
    found = {}
    for folder in ("data", f"results/{STUDY}"):
        for path in (project / folder).rglob("*"):
            name = path.relative_to(project)
            if path.is_file() and not {"logs", ".snakemake", "dvc", "report.html"} & set(name.parts):
                found[str(name)] = path
    return found


def different(whole: Path, other: Path) -> list[str]:
    """The files of two runs that are not equal, temporary ones that a killed process left included."""
    a, b = outputs(whole), outputs(other)
    return sorted(
        name for name in a.keys() | b.keys() if name not in a or name not in b or observed(a[name]) != observed(b[name])
    )


def environment(trace: Path) -> dict[str, str]:
    """For Snakemake in a copy: its own sources, a trace, and compiled modules kept, without which torch takes 10 s."""
    dropped = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    return {key: value for key, value in os.environ.items() if key not in dropped} | {TRACE: str(trace)}
