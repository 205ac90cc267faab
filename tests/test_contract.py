"""The contract holds four papers: one row of each is files and entries, and no edit of plan, rules, loop or checks.

In a throw-away copy of the project.  What does not exist yet (objectives, evaluations, a noise) is a stub
there, at the places where it will be: a file, a name in params/values.py, a class of params.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import workflow

# ------------------------------------------------------------------------------------------------------------- stubs
OBJECTIVE = (
    "def loss(classifier, view, images, labels, sigma, generator, *, {options}):\n    raise NotImplementedError\n"
)
EVALUATION = """
def run(spec, data, checkpoint, start, out, shard, shards, batch):
    raise NotImplementedError

def finish(spec, data, parts, out):
    raise NotImplementedError
"""
FILES = {
    "objectives/simclr.py": OBJECTIVE.format(options="projection"),
    "evaluation/attack.py": EVALUATION,
    "evaluation/samplewise.py": EVALUATION,
    # Jobs that write what is asked of them: what re-runs what does not depend on it.
    "cli/fork_server.py": "",
    "__main__.py": """
import sys
from pathlib import Path

if sys.argv[2] == "networks":
    from transmooth.cli.main import app

    app()
job, out = sys.argv[2], Path(sys.argv[sys.argv.index("--out") + 1])
made = {
    "prepare": [out / "manifest.json"],
    "train": [out / name for name in ("model.safetensors", "model.json", "metrics.jsonl")],
    "table": [out.with_suffix(".csv"), out.with_suffix(".md"), Path(sys.argv[-1])],
}
for path in made.get(job, [out]):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(sys.argv[2:]))
""",
}
# file, what stands there, what is added after it
ENTRIES = [
    ("params/values.py", 'Noise = Literal["uniform"', ', "samplewise"'),
    ("params/values.py", "Measure = Literal[\n", '    "robust",\n'),
    ("params/tables.py", '    "clean": (),', '\n    "robust": ("attack",),'),
    ("params/tables.py", '"certified": ("certify",', ' "samplewise",'),
    ("params/tables.py", '"acr": ("certify",', ' "samplewise",'),
    ("params/tables.py", 'AT_RADIUS = ("certified",', ' "robust",'),
    (
        "params/recipes.py",
        "    images: Count\n",
        """

class Attack(EvaluationModel):
    amount: ClassVar[str | None] = "attack"
    kind: Literal["attack"]
    norm: Literal["l2", "linf"]
    epsilon: float


class Samplewise(EvaluationModel):
    amount: ClassVar[str | None] = "certify"
    kind: Literal["samplewise"]
    sigmas: Sigmas
""",
    ),
    ("params/recipes.py", "Evaluation = Annotated[Certify | Shift", " | Attack | Samplewise"),
    (
        "params/study.py",
        "    certify: CertifyParams | None = None\n",
        "    attack: AttackParams | None = None\n",
    ),
    (
        "params/study.py",
        "    dataset: Name\n    schedule: Name\n",
        """

class AttackParams(Model):
    steps: Count
    images: Images | None = None
    shards: Count = 1
    processes: Count = 1
    batch: Count = 256
""",
    ),
    (
        "specs.py",
        "    sigmas: tuple[float, ...]\n    images: int\n",
        """

class AttackSpec(Spec):
    kind: Literal["attack"] = "attack"
    run: RunSpec
    norm: str
    epsilon: float
    images: Images
    steps: int


class SamplewiseSpec(CertifySpec):
    kind: Literal["samplewise"] = "samplewise"
""",
    ),
    ("specs.py", '"shift": ShiftSpec', ', "attack": AttackSpec, "samplewise": SamplewiseSpec'),
]

# ------------------------------------------------------------------------------------------------------------ params
_STEPS = {"batch": 64, "lr": [0.003], "weight_decay": 0.0, "warmup_epochs": 0}
STUDY: dict[str, Any] = {
    "network": {"default": "layer_norm", "name": "resnet18", "stem": "cifar", "groups": 8},
    "seeds": [0],
    "schedules": {"pretrain": {"epochs": 4} | _STEPS, "finetune": {"epochs": 2} | _STEPS},
    "report": ["table1"],
}
CERTIFY = {"method": "cohen", "n0": 50, "n": 200, "alpha": 0.001, "images": 20}
TWO = {
    "upstream": {"dataset": "characters", "schedule": "pretrain"},
    "downstream": {"dataset": "digits", "schedule": "finetune"},
}
STUDIES: dict[str, Any] = {
    "mixed": STUDY | {"roles": TWO, "evaluate": ["certify"], "certify": CERTIFY | {"shards": 2}},
    "transfer": STUDY
    | {
        "roles": {
            "upstream": TWO["upstream"],
            "food": {"dataset": "digits", "schedule": "finetune"},
            "cars": {"dataset": "textures", "schedule": "finetune"},
        },
        "evaluate": ["autopgd"],
        "attack": {"steps": 20, "images": 100},
    },
    "cadis": STUDY
    | {
        "roles": TWO,
        "evaluate": ["certify"],
        "certify": CERTIFY,
        "schedules": STUDY["schedules"] | {"cadis": {"epochs": 1} | _STEPS},
    },
    "samplewise": STUDY
    | {
        "roles": {
            "upstream": {"dataset": "digits", "schedule": "pretrain"},
            "downstream": {"dataset": "digits", "schedule": "finetune"},
        },
        "evaluate": ["certify"],
        "certify": CERTIFY | {"shards": 2},
    },
}
TABLES: dict[str, Any] = {
    "mixed": {
        "columns": ["clean", "certified@0.25"],
        "brackets": "natural",
        "rows": [
            {"label": "batch norm", "network": "batch_norm", "train": ["mixed@upstream", "clean@downstream"]},
            {"label": "scratch", "train": ["clean@downstream"]},
        ],
    },
    "transfer": {
        "columns": ["clean", "robust@0.5"],
        "tasks": ["food", "cars"],
        "rows": [{"label": "SimCLR", "network": "resnet50", "train": ["simclr@upstream", "adversarial@task"]}],
    },
    "cadis": {
        "columns": ["certified@0.25", "certified@0.5"],
        "rows": [
            {
                "label": "FT-CADIS",
                "runs": [
                    {
                        "network": "vit_b16",
                        "train": ["clean@downstream", f"cadis_{sigma}@downstream"],
                        "evaluate": [f"certify_{sigma}"],
                    }
                    for sigma in ("025", "050")
                ],
            },
            {"label": "Denoised", "network": "vit_b16", "train": ["clean@downstream", "denoised@downstream"]},
        ],
    },
    "samplewise": {
        "columns": ["clean", "certified@0.25", "acr"],
        "rows": [
            {
                "label": "sample-wise",
                "train": ["mixed@upstream", "samplewise@downstream"],
                "evaluate": ["samplewise"],
            }
        ],
    },
}
_CADIS = {"objective": "confidence", "options": {"weight": 1.0}, "denoiser": "unet/denoise@upstream"}
WHAT: dict[str, dict[str, Any]] = {
    "networks": {
        "resnet50": {"name": "resnet50", "norm": "batch"},
        "vit_b16": {"name": "vit_base_patch16_224", "norm": "own", "weights": "published"},
        "unet": {"name": "unet2d", "options": {"unet": {"block_out_channels": [8, 16], "norm_num_groups": 4}}},
    },
    "recipes": {
        "simclr": {"objective": "simclr", "views": 2, "options": {"projection": 128}},
        "adversarial": {"objective": "adversarial", "options": {"epsilon": 0.5, "steps": 3}},
        "denoise": {"objective": "denoise", "sigmas": [0.25, 0.5]},
        "cadis_025": _CADIS | {"sigmas": [0.25], "schedule": "cadis"},
        "cadis_050": _CADIS | {"sigmas": [0.5], "schedule": "cadis"},
        "denoised": {"denoiser": "unet/denoise@upstream", "epochs": 0},
        "samplewise": {"noise": "samplewise", "sigmas": [0.25, 0.5, 1.0]},
    },
    "evaluations": {
        "autopgd": {"kind": "attack", "norm": "l2", "epsilon": 0.5},
        "certify_025": {"kind": "certify", "sigmas": [0.25]},
        "certify_050": {"kind": "certify", "sigmas": [0.5]},
        "samplewise": {"kind": "samplewise", "sigmas": [0.25, 0.5, 1.0]},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the stubs, and a study of one table for each paper."""
    folder = workflow.copy(tmp_path_factory.mktemp("project"))
    package = folder / "src" / "transmooth"
    for file, text in FILES.items():
        (package / file).write_text(text)
    for file, old, more in ENTRIES:
        text = (package / file).read_text()
        assert text.count(old) == 1, (file, old)
        (package / file).write_text(text.replace(old, old + more))
    recipes = yaml.safe_load((folder / "params" / "recipes.yaml").read_text())
    more = json.loads(json.dumps(WHAT))  # without what two recipes share, which YAML would write once
    workflow.write(folder, "recipes.yaml", {section: recipes[section] | more[section] for section in recipes})
    for name, table in TABLES.items():
        made = {"tables": {"table1": {"title": name, "caption": "One row of it."} | table}}
        workflow.write(folder, f"tables/{name}.yaml", made)
        workflow.write(folder, f"studies/{name}_smoke.yaml", {"tables": name} | STUDIES[name])
    assert networks(folder) == ""
    return folder


def dry(folder: Path, paper: str, *arguments: str) -> list[str]:
    """The jobs that are planned, as the terminal has them: the rule and what it makes."""
    done = workflow.snakemake(folder, "-n", *arguments, "--config", f"study={paper}_smoke")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return sorted(re.findall(r"^((?:prepare|train|evaluate|finish|table) \S+)  \(", told, re.MULTILINE))


def networks(folder: Path) -> str:
    """What is said of the networks of all studies, which are checked at once: torch is slow to start."""
    code = """
import sys
from pathlib import Path
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.runtime.session import check_networks

specs = [spec.text for name in sys.argv[1:] for spec in Plan(load(name, Path())).networks.values()]
print(*check_networks(dict(zip(map(str, range(len(specs))), specs)), Path()), sep="\\n")
"""
    command = [sys.executable, "-c", code, *(f"{paper}_smoke" for paper in STUDIES)]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": "src"}, capture_output=True, text=True)
    return done.stdout.strip() + done.stderr


VIT = "vit_b16/clean@downstream"
SIMCLR = "resnet50/simclr@upstream"
EXPECTED = {
    "mixed": [
        "prepare data/characters",
        "prepare data/digits",
        "train batch_norm/mixed@upstream/0",
        "train batch_norm/mixed@upstream/clean@downstream/0",
        "train layer_norm/clean@downstream/0",
        "evaluate batch_norm/mixed@upstream/clean@downstream/0/certify/1/2",
        "evaluate batch_norm/mixed@upstream/clean@downstream/0/certify/2/2",
        "evaluate layer_norm/clean@downstream/0/certify/1/2",
        "evaluate layer_norm/clean@downstream/0/certify/2/2",
        "finish batch_norm/mixed@upstream/clean@downstream/0/certify",
        "finish layer_norm/clean@downstream/0/certify",
        "table table1",
    ],
    "transfer": [
        "prepare data/characters",
        "prepare data/digits",
        "prepare data/textures",
        f"train {SIMCLR}/0",  # once for both tasks
        f"train {SIMCLR}/adversarial@food/0",
        f"train {SIMCLR}/adversarial@cars/0",
        f"evaluate {SIMCLR}/adversarial@food/0/autopgd/1/1",
        f"evaluate {SIMCLR}/adversarial@cars/0/autopgd/1/1",
        f"finish {SIMCLR}/adversarial@food/0/autopgd",
        f"finish {SIMCLR}/adversarial@cars/0/autopgd",
        "table table1",
    ],
    "cadis": [
        "prepare data/characters",
        "prepare data/digits",
        "train unet/denoise@upstream/0",
        f"train {VIT}/0",
        f"train {VIT}/cadis_025@downstream/0",
        f"train {VIT}/cadis_050@downstream/0",
        f"train {VIT}/denoised@downstream/0",
        f"evaluate {VIT}/cadis_025@downstream/0/certify_025/1/1",
        f"evaluate {VIT}/cadis_050@downstream/0/certify_050/1/1",
        f"evaluate {VIT}/denoised@downstream/0/certify/1/1",
        f"finish {VIT}/cadis_025@downstream/0/certify_025",
        f"finish {VIT}/cadis_050@downstream/0/certify_050",
        f"finish {VIT}/denoised@downstream/0/certify",
        "table table1",
    ],
    "samplewise": [
        "prepare data/digits",
        "train layer_norm/mixed@upstream/0",
        "train layer_norm/mixed@upstream/samplewise@downstream/0",
        "evaluate layer_norm/mixed@upstream/samplewise@downstream/0/samplewise/1/2",
        "evaluate layer_norm/mixed@upstream/samplewise@downstream/0/samplewise/2/2",
        "finish layer_norm/mixed@upstream/samplewise@downstream/0/samplewise",
        "table table1",
    ],
}


@pytest.mark.parametrize("paper", EXPECTED)
def test_table1_of_each_paper_is_planned(project: Path, paper: str) -> None:
    assert dry(project, paper, "table1") == sorted(EXPECTED[paper])


def test_one_changed_option_re_runs_its_own_runs_and_what_is_made_of_them(project: Path) -> None:
    done = workflow.snakemake(project, "table1", "--config", "study=cadis_smoke", "--quiet", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    # The denoiser reached its users, and the start the stage after it.
    folder = project / "results" / "cadis_smoke" / "train"
    told = (folder / VIT / "cadis_050@downstream" / "0" / "model.json").read_text()
    assert f"--start train/{VIT}/0" in told
    assert "--denoiser train/unet/denoise@upstream/0" in told
    assert "--denoiser" not in (folder / VIT / "0" / "model.json").read_text()

    def after(*changes: tuple[str, Any]) -> list[str]:
        path = project / "params" / "recipes.yaml"
        text = path.read_text()
        content = yaml.safe_load(text)
        for keys, value in changes:
            *parents, last = keys.split(".")
            target = content
            for key in parents:
                target = target[key]
            target[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        try:
            return dry(project, "cadis", "table1")
        finally:
            path.write_text(text)

    def concerning(*words: str) -> list[str]:
        return sorted(job for job in EXPECTED["cadis"] if any(word in job for word in (*words, "table1")))

    assert after() == []
    assert after(("recipes.denoise.sigmas", [0.25])) == concerning("unet", "cadis_025", "cadis_050", "denoised")
    alone = [("recipes.cadis_050.options.weight", 2.0), ("recipes.denoised.denoiser", None)]
    assert after(*alone) == concerning("cadis_050", "denoised")  # not the denoiser


SPECS = """
import json, sys
from pathlib import Path
from transmooth.params.load import load
from transmooth.params.study import Params
from transmooth.plan import Plan

def specs(params):
    plan = Plan(params)
    made = {path: plan.train_spec(run).text for path, run in plan.runs.items()}
    return made | {plan.records(run, name): plan.evaluate_spec(run, name).text for run, name in plan.evaluations}

found = []
for study, keys, value in json.loads(sys.argv[1]):
    params = load(study, Path())
    before, content = specs(params), params.model_dump(mode="python")
    target = content
    *parents, last = keys.split(".")
    for key in parents:
        target = target[key]
    target[last] = value
    after = specs(Params.model_validate(content))
    found.append(sorted(path for path in before if after[path] != before[path]))
print(json.dumps(found))
"""
MIXED = "layer_norm/mixed@upstream/samplewise@downstream/0"
FOOD, CARS = (f"resnet50/simclr@upstream/adversarial@{task}/0" for task in ("food", "cars"))
CHANGES: list[tuple[str, str, Any, list[str]]] = [
    ("transfer", "recipes.recipes.simclr.views", 3, ["resnet50/simclr@upstream/0"]),
    ("transfer", "recipes.recipes.adversarial.options", {"epsilon": 1.0}, [FOOD, CARS]),
    ("transfer", "study.attack.steps", 7, [f"evaluate/{run}/autopgd/records.parquet" for run in (FOOD, CARS)]),
    ("transfer", "study.attack.batch", 7, []),
    ("transfer", "datasets.textures.augment", ["flip"], [CARS]),
    ("cadis", "study.schedules.cadis.epochs", 9, [f"{VIT}/cadis_{sigma}@downstream/0" for sigma in ("025", "050")]),
    ("samplewise", "recipes.recipes.samplewise.noise", "uniform", [MIXED]),
    ("samplewise", "study.certify.n", 999, [f"evaluate/{MIXED}/samplewise/records.parquet"]),
    ("samplewise", "study.schedules.finetune.epochs", 9, [MIXED]),  # `upstream` is the same dataset
]


def test_a_spec_has_what_concerns_its_job(project: Path) -> None:
    asked = json.dumps([(f"{paper}_smoke", keys, value) for paper, keys, value, _ in CHANGES])
    path = {"PYTHONPATH": str(project / "src")}
    done = subprocess.run([sys.executable, "-c", SPECS, asked], cwd=project, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [sorted(expected) for *_, expected in CHANGES]
