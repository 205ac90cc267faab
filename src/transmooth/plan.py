"""Tables -> runs -> jobs.  Pure: no torch, no snakemake, nothing heavy, because Snakemake loads it at every start.

A table is rows of recipe names.  A row and a seed make a run: one network, pretrained, finetuned and certified.  A job
is told its `spec`: exactly the params that can change its output, as one canonical JSON string, so that a change
re-runs the jobs it concerns and no others.  Two tables that name the same run share its jobs: a job is its path.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transmooth.params import Dataset, Figure, Gap, Params, Row, Table, TrainParams, below

# How a training run is carried out, not what it computes: never in a spec.
_NOT_SPEC = {"checkpoint_seconds"}


@dataclass(frozen=True, order=True)
class Run:
    """One network of a study, named by what made it."""

    pretrain: str
    dataset: str
    finetune: str
    seed: int

    @property
    def path(self) -> str:
        """pretrain/dataset/finetune/seed: the folder of the run below each stage's own."""
        return f"{self.pretrain}/{self.dataset}/{self.finetune}/{self.seed}"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal params give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def prepare_spec(dataset: Dataset) -> dict[str, Any]:
    """How a dataset is made, and the hash that it must have."""
    spec = dataset.model_dump(mode="json", exclude={"augment", "images", "fetch"})
    return spec | {"stored": dataset.stored or dataset.size}


def training_spec(recipe: dict[str, Any], training: TrainParams, augment: Iterable[str]) -> dict[str, Any]:
    """What every training has: objective, noise, schedule, augmentations."""
    return recipe | {"training": training.model_dump(mode="json", exclude=_NOT_SPEC), "augment": list(augment)}


class Plan:
    """The jobs of a study, derived from the tables and figures that it reports."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.study = params.study
        reports = params.reports
        self.tables: dict[str, Table] = {n: reports.tables[n] for n in self.study.report if n in reports.tables}
        self.figures: dict[str, Figure] = {n: reports.figures[n] for n in self.study.report if n in reports.figures}
        self.gaps: dict[str, Gap] = {n: reports.gaps[n] for n in self.study.report if n in reports.gaps}

    # ------------------------------------------------------------------------------------------ tables -> runs
    def rows(self, report: str) -> tuple[Row, ...]:
        """The rows of a table, or of all panels of a figure."""
        if report in self.tables or report in self.gaps:
            return (self.tables | self.gaps)[report].rows
        return tuple(row for panel in self.figures[report].panels for row in panel.rows)

    def logs_of(self, table: str, base: Path) -> list[str]:
        """The files of other people's logs that a table reads."""
        return [str(below(base, log.file)) for row in self.tables[table].logs for log in row.files]

    def runs_of(self, report: str) -> list[Run]:
        """The runs that a report needs, each once, in order."""
        return list(dict.fromkeys(run for row in self.rows(report) for run in self._runs(report, row)))

    def _runs(self, report: str, row: Row) -> list[Run]:
        """Those of one of its rows, one for each seed."""
        seeds = self.study.seeds_of.get(report, self.study.seeds)
        return [Run(row.pretrain, self.study.roles[row.dataset], row.finetune, seed) for seed in seeds]

    @cached_property
    def runs(self) -> list[Run]:
        """Every run of the study."""
        return list(dict.fromkeys(run for report in self.study.report for run in self.runs_of(report)))

    @cached_property
    def datasets(self) -> list[str]:
        """Every dataset that some run needs, upstream first."""
        upstream = [self.upstream(run.pretrain) for run in self.runs if self.pretrained(run)]
        return list(dict.fromkeys([*upstream, *(run.dataset for run in self.runs)]))

    def upstream(self, recipe: str) -> str:
        """The dataset that a pretraining recipe trains on."""
        return self.study.roles[self.params.recipes.pretrain[recipe].upstream]

    def prepared(self, dataset: str) -> str:
        """The manifest of a prepared dataset, below the checkout."""
        return f"{self.params.datasets[dataset].home}/{dataset}/manifest.json"

    def pretrained(self, run: Run) -> bool:
        """Whether the run starts from a network that the study pretrains, not from a random or an official one."""
        return self.params.recipes.pretrain[run.pretrain].start == "train"

    @cached_property
    def trainings(self) -> list[str]:
        """The folder of every training, below the study's results."""
        pretrained = dict.fromkeys(f"pretrain/{r.pretrain}/{r.seed}" for r in self.runs if self.pretrained(r))
        return [*pretrained, *(f"finetune/{run.path}" for run in self.runs)]

    @cached_property
    def outputs(self) -> dict[str, list[str]]:
        """Every file that the study leaves below its results, inputs before what is made of them.

        Each with the temporary files that it is made of: the shards of records.
        """
        made = ("model.safetensors", "model.json", "metrics.jsonl")
        trained = [f"{folder}/{file}" for folder in self.trainings for file in made]
        shards = self.study.certify.shards
        records = {
            f"certify/{run.path}/records.parquet": [
                f"certify/{run.path}/{shard}-of-{shards}.parquet" for shard in range(1, shards + 1)
            ]
            for run in self.runs
        }
        tables = [f"tables/{name}.{kind}" for name in [*self.tables, *self.gaps] for kind in ("csv", "md")]
        pictures = [f"figures/{name}.{kind}" for name in [*self.figures, *self.gaps] for kind in ("svg", "png")]
        curves = [f"figures/{name}.csv" for name in self.figures]
        metrics = [f"metrics/{name}.json" for name in self.tables]
        reports = [*tables, *pictures, *curves, *metrics, "metrics/training.csv", "report.html"]
        return {name: [] for name in trained} | records | {name: [] for name in reports}

    def jobs(self) -> dict[str, int]:
        """How many jobs of each kind the study needs, shared ones counted once."""
        return {
            "prepare": len(self.datasets),
            "pretrain": len({(run.pretrain, run.seed) for run in self.runs if self.pretrained(run)}),
            "finetune": len(self.runs),
            "certify": len(self.runs) * self.study.certify.shards,
            "merge": len(self.runs),
            "table": len(self.tables),
            "figure": len(self.figures),
            "gap": len(self.gaps),
            "training": 1,
            "report": 1,
        }

    # ------------------------------------------------------------------------------------------- jobs -> specs
    def prepare(self, dataset: str) -> str:
        """How a dataset is made, and the hash that it must have."""
        return canonical(prepare_spec(self.params.datasets[dataset]))

    def pretrain(self, recipe: str, seed: int) -> str:
        """Objective, noise, network and schedule of a pretraining."""
        entry = self.params.recipes.pretrain[recipe]
        dataset = self.params.datasets[self.upstream(recipe)]
        what = entry.model_dump(mode="json", include={"objective", "options", "sigmas"})
        return canonical(
            training_spec(what, self.study.pretrain, dataset.augment)
            | {"network": self._network(recipe), "trainable": "all", "seed": seed, "dataset": self.upstream(recipe)}
        )

    def finetune(self, run: Run) -> str:
        """The same of a finetuning; the network is that of the checkpoint, or a new one when trained from scratch."""
        entry = self.params.recipes.finetune[run.finetune]
        training = self.study.finetune
        if entry.epochs is not None:
            warmup = min(training.warmup_epochs, entry.epochs - 1)
            training = training.model_copy(update={"epochs": entry.epochs, "warmup_epochs": warmup})
        network = {} if self.pretrained(run) else {"network": self._network(run.pretrain)}
        what = entry.model_dump(mode="json", exclude={"epochs"})
        augment = self.params.datasets[run.dataset].augment
        return canonical(training_spec(what, training, augment) | network | {"seed": run.seed})

    def certify(self, dataset: str) -> str:
        """Method, sigmas and sample sizes.  Batch, shards and processes are absent: they change rounding at most."""
        spec = self.study.certify.model_dump(mode="json", exclude={"batch", "shards", "processes"})
        return canonical(spec | {"images": self.study.certify.images or self.params.datasets[dataset].images})

    def table(self, name: str) -> str:
        """What a table shows and how."""
        table = self.tables[name].model_dump(mode="json")
        return canonical({"name": name, **table, "rows": self._report_rows(name, self.tables[name].rows)})

    def figure(self, name: str) -> str:
        """What a figure shows and how."""
        figure = self.figures[name]
        panels = [{"title": panel.title, "rows": self._report_rows(name, panel.rows)} for panel in figure.panels]
        return canonical({"name": name, "title": figure.title, "caption": figure.caption, "panels": panels})

    def gap(self, name: str) -> str:
        """What a distribution gap compares."""
        gap = self.gaps[name].model_dump(mode="json")
        return canonical({"name": name, **gap, "rows": self._report_rows(name, self.gaps[name].rows)})

    def report(self) -> str:
        """What the page of the study shows: every table, figure and gap, training and record of it."""
        shown = {
            "tables": [json.loads(self.table(name)) for name in self.tables],
            "figures": [json.loads(self.figure(name)) for name in self.figures],
            "gaps": [json.loads(self.gap(name)) for name in self.gaps],
        }
        records = [f"certify/{run.path}/records.parquet" for run in self.runs]
        return canonical({"study": self.params.name, **shown, "trainings": self.trainings, "records": records})

    def _network(self, recipe: str) -> dict[str, Any]:
        entry = self.params.recipes.pretrain[recipe]
        network = self.study.network.model_dump(mode="json")
        network |= {"name": entry.network or network["name"], "stem": entry.stem or network["stem"]}
        # Only group norm reads `groups`: a change of it must not retrain the others.
        network |= {"norm": entry.norm, "groups": network["groups"] if entry.norm == "group" else 1}
        return network | ({"official": True, "stem": "imagenet", "options": {}} if entry.start == "official" else {})

    def _report_rows(self, report: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
        return [
            {
                "label": row.label,
                "block": row.block,
                "published": row.published,
                "runs": [asdict(run) | {"path": run.path} for run in self._runs(report, row)],
            }
            for row in rows
        ]
