"""Tables -> runs -> jobs -> specs.  Pure and light: no torch, because Snakemake loads it at every start.

A run is a network and the stages that it goes through, `recipe@role` each; an evaluation looks at a run; a table shows
measures of evaluations.  Two tables that name the same run share its jobs: a job is its path.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transmooth import specs
from transmooth.params.datasets import Dataset
from transmooth.params.present import below
from transmooth.params.recipes import Certify, Evaluation, Recipe
from transmooth.params.study import AttackParams, CertifyParams, Params, Schedule
from transmooth.params.tables import (
    TASK,
    CourseReport,
    Evaluated,
    Figure,
    GainsReport,
    Row,
    ShiftReport,
    Table,
    parse_column,
)

# How a job is carried out, not what it computes: never in a spec.
_NOT_SPEC = {"checkpoint_seconds"}
# What an option `from` of a network begins with where it names no file; `models.published` imports torch.
HUB = "diffusers:"
# What a training leaves in its folder.
TRAINED = ("model.safetensors", "model.json", "metrics.jsonl")


@dataclass(frozen=True, order=True)
class Stage:
    """One training: a recipe, and the role of the dataset that it is on."""

    recipe: str
    role: str

    def __str__(self) -> str:
        return f"{self.recipe}@{self.role}"


@dataclass(frozen=True, order=True)
class Run:
    """One network and the trainings that it goes through."""

    network: str
    stages: tuple[Stage, ...]
    seed: int

    @property
    def path(self) -> str:
        """network/recipe@role/…/seed: its folder below `train` and `evaluate`."""
        return "/".join([self.network, *map(str, self.stages), str(self.seed)])

    @property
    def start(self) -> "Run | None":
        """The run without its last stage; None where that is the bare network."""
        return Run(self.network, self.stages[:-1], self.seed) if len(self.stages) > 1 else None


def prepare_spec(dataset: Dataset) -> dict[str, Any]:
    """Return how a dataset is made, and the hash that it must have."""
    spec = dataset.model_dump(mode="json", exclude={"augment", "images", "published", "fetch"})
    for newer in ("train_per_class", "resize"):  # than prepared sets
        if spec[newer] is None:
            del spec[newer]
    return spec | {"stored": dataset.stored or dataset.size}


def schedule_spec(schedule: Schedule) -> specs.ScheduleSpec:
    """Return the part of a schedule that changes what is computed."""
    return specs.ScheduleSpec.of(schedule.model_dump(exclude=_NOT_SPEC))


class Plan:
    """The jobs of a study, derived from the tables and figures that it reports."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.study = params.study
        tables, reported = params.tables, self.study.report
        self.tables: dict[str, Table] = {name: tables.tables[name] for name in reported if name in tables.tables}
        self.figures: dict[str, Figure] = {name: tables.figures[name] for name in reported if name in tables.figures}
        self.shifts: dict[str, ShiftReport] = {name: tables.shifts[name] for name in reported if name in tables.shifts}
        self.courses: dict[str, CourseReport] = {n: tables.courses[n] for n in reported if n in tables.courses}
        self.gains: dict[str, GainsReport] = {name: tables.gains[name] for name in reported if name in tables.gains}

    # ------------------------------------------------------------------------------------------ tables -> runs
    def rows(self, report: str) -> tuple[Row, ...]:
        """Return the rows of a report; those of a table that have the role `task` once for each of its tasks."""
        if report in self.figures:
            return tuple(row for panel in self.figures[report].panels for row in panel.rows)
        if report in self.shifts:
            return self.shifts[report].rows
        if report in self.courses:
            return self.courses[report].rows
        table = self.tables[self.gains[report].table if report in self.gains else report]
        fixed = tuple(row for row in table.rows if not _has_task(row))
        return fixed + tuple(
            _of_task(row, task) for task in self.params.tasks_of(table) for row in table.rows if _has_task(row)
        )

    def logs_of(self, report: str, base: Path) -> list[str]:
        """Return the files of other people's logs that a report reads."""
        return [str(below(base, log.file)) for row in self.rows(report) for log in row.files or ()]

    def _evaluated(self, report: str, row: Row, seed: int) -> Iterator[tuple[Run, tuple[str, ...]]]:
        """The runs that a row of a report pools, at one seed, and the names of their evaluations."""
        for each in row.evaluated:
            yield self._run(each, seed), self.params.evaluations_of(report, each)

    def _shown(self, report: str) -> Iterator[tuple[Run, tuple[str, ...]]]:
        """The runs of a report and the names of their evaluations, over its rows and seeds."""
        for row in self.rows(report):
            for seed in self.seeds(report):
                yield from self._evaluated(report, row, seed)

    def _run(self, each: Evaluated, seed: int) -> Run:
        stages = tuple(Stage(*text.split("@")) for text in each.train)
        return Run(each.network or self.study.network.default, stages, seed)

    def seeds(self, report: str) -> tuple[int, ...]:
        """Return the seeds of a report."""
        return self.study.seeds_of.get(report, self.study.seeds)

    def evaluations_of(self, report: str) -> list[tuple[Run, str]]:
        """Return the runs that a report needs, each with the name of an evaluation, each pair once, in order."""
        return list(dict.fromkeys((run, name) for run, names in self._shown(report) for name in names))

    def runs_of(self, report: str) -> list[Run]:
        """Return the runs that a report shows, each once, in order."""
        return list(dict.fromkeys(run for run, _ in self._shown(report)))

    @cached_property
    def evaluations(self) -> list[tuple[Run, str]]:
        """Every run that is evaluated, with the name of an evaluation."""
        return list(dict.fromkeys(pair for report in self.study.report for pair in self.evaluations_of(report)))

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run that is trained, by its path: each after the runs that it needs."""
        found: dict[str, Run] = {}

        def add(run: Run) -> None:
            for needed in (run.start, self.denoiser(run)):
                if needed is not None and needed.path not in found:
                    add(needed)
            found[run.path] = run

        for report in self.study.report:
            for run in self.runs_of(report):
                add(run)
        return found

    @cached_property
    def networks(self) -> dict[str, specs.NetworkSpec]:
        """What is built, by the name of the network."""
        return {run.network: self.network_spec(run.network) for run in self.runs.values()}

    def weights_file(self, network: str) -> Path | None:
        """Return what a network's published weights are read from; None for random ones, and for those of a hub."""
        text = self.network_spec(network).options.get("from")
        if not isinstance(text, str) or text.startswith(HUB):
            return None
        return Path(text).expanduser()

    def denoiser(self, run: Run) -> Run | None:
        """Return the run of the denoiser that a run's last stage names: at the study's first seed, for all of them."""
        text = self.recipe(run).denoiser
        if text == "default":
            text = self.study.denoiser
        if text is None:
            return None
        network, *stages = text.split("/")
        return Run(network, tuple(Stage(*stage.split("@")) for stage in stages), self.study.seeds[0])

    def recipe(self, run: Run) -> Recipe:
        """Return the recipe of a run's last stage."""
        return self.params.recipes.recipes[run.stages[-1].recipe]

    def dataset(self, run: Run) -> str:
        """Return the dataset of a run's last stage."""
        return self.study.roles[run.stages[-1].role].dataset

    def schedule(self, run: Run) -> Schedule:
        """Return the schedule of a run's last stage: the recipe's own or the role's, with the recipe's epochs."""
        recipe = self.recipe(run)
        schedule = self.study.schedules[recipe.schedule or self.study.roles[run.stages[-1].role].schedule]
        if recipe.epochs is None:
            return schedule
        warmup = min(schedule.warmup_epochs, max(recipe.epochs - 1, 0))
        return schedule.model_copy(update={"epochs": recipe.epochs, "warmup_epochs": warmup})

    @cached_property
    def datasets(self) -> list[str]:
        """Every dataset that some run needs, those of first stages first."""
        runs = sorted(self.runs.values(), key=lambda run: run.start is not None)
        return list(dict.fromkeys(map(self.dataset, runs)))

    def prepared(self, dataset: str) -> str:
        """Return the manifest of a prepared dataset, below the checkout."""
        return f"{self.params.datasets[dataset].home}/{dataset}/manifest.json"

    def evaluation(self, name: str) -> Evaluation:
        """Return an entry of `evaluations`."""
        return self.params.recipes.evaluations[name]

    def from_start(self, run: Run, evaluation: str) -> Run | None:
        """Return the run that an evaluation compares a run with; None where it looks at the run alone."""
        return run.start if self.evaluation(evaluation).from_start else None

    def amount(self, evaluation: str) -> CertifyParams | AttackParams | None:
        """Return the study's section that says how much of an evaluation there is; None where its kind has none."""
        section = self.evaluation(evaluation).amount
        return getattr(self.study, section) if section else None

    def shards(self, evaluation: str) -> int:
        """Return the number of jobs that an evaluation of a run is cut into."""
        amount = self.amount(evaluation)
        return amount.shards if amount else 1

    def processes(self, evaluation: str) -> int:
        """Return the number of processes of one of these jobs."""
        amount = self.amount(evaluation)
        return amount.processes if amount else 1

    def batch(self, evaluation: str) -> int:
        """Return how many images one of these jobs evaluates at once; 0 where the job chooses."""
        amount = self.amount(evaluation)
        return (amount.batch if amount else None) or 0

    def records(self, run: Run, evaluation: str) -> str:
        """Return the file of an evaluation's records, below the study's results."""
        return f"evaluate/{run.path}/{evaluation}/records.parquet"

    def shard_files(self, run: Run, evaluation: str) -> list[str]:
        """Return the temporary files that an evaluation's records are made of."""
        folder, shards = f"evaluate/{run.path}/{evaluation}", self.shards(evaluation)
        return [f"{folder}/{shard}-of-{shards}.parquet" for shard in range(1, shards + 1)]

    @cached_property
    def outputs(self) -> dict[str, list[str]]:
        """Every file that the study leaves below its results, inputs before what is made of them.

        Each with the temporary files that it is made of: the shards of records.
        """
        trained = [f"train/{path}/{file}" for path in self.runs for file in TRAINED]
        records = {self.records(run, name): self.shard_files(run, name) for run, name in self.evaluations}
        tables = [f"tables/{name}.{kind}" for name in [*self.tables, *self.shifts] for kind in ("csv", "md")]
        drawn = [*self.figures, *self.shifts, *self.courses, *self.gains]
        pictures = [f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "png")]
        curves = [f"figures/{name}.csv" for name in [*self.figures, *self.courses, *self.gains]]
        metrics = [f"metrics/{name}.json" for name in self.tables]
        reports = [*tables, *pictures, *curves, *metrics, "metrics/training.csv", "report.html"]
        return {name: [] for name in trained} | records | {name: [] for name in reports}

    def jobs(self) -> dict[str, int]:
        """Return how many jobs of each rule the study needs, shared ones counted once."""
        return {
            "prepare": len(self.datasets),
            "train": len(self.runs),
            "evaluate": sum(self.shards(name) for _, name in self.evaluations),
            "finish": len(self.evaluations),
            "table": len(self.tables),
            "figure": len(self.figures),
            "shift": len(self.shifts),
            "course": len(self.courses),
            "gain": len(self.gains),
            "training": 1,
            "report": 1,
        }

    # ------------------------------------------------------------------------------------------- jobs -> specs
    def prepare_spec(self, dataset: str) -> str:
        """Return how a dataset is made, and the hash that it must have."""
        return specs.canonical(prepare_spec(self.params.datasets[dataset]))

    def run_spec(self, run: Run) -> specs.RunSpec:
        """Return which run it is."""
        return specs.RunSpec(
            network=run.network,
            stages=tuple(map(str, run.stages)),
            seed=run.seed,
            dataset=self.dataset(run),
            path=run.path,
        )

    def train_spec(self, run: Run) -> specs.TrainSpec:
        """Return the last stage of a run: objective, noise, schedule, and the network where it is the first."""
        recipe, denoiser = self.recipe(run), self.denoiser(run)
        return specs.TrainSpec(
            run=self.run_spec(run),
            seed=run.seed,
            network=self.network_spec(run.network) if run.start is None else None,
            schedule=schedule_spec(self.schedule(run)),
            augment=self.params.datasets[self.dataset(run)].augment if recipe.augment is None else recipe.augment,
            # Another denoiser is not seen by its input file: of inputs only their content re-runs a job.
            denoiser=denoiser.path if denoiser else None,
            options_from={str(epoch): options for epoch, options in recipe.options_from.items()}
            if recipe.options_from
            else None,
            options=self.study.options.get(recipe.objective, {}) | recipe.options,
            **recipe.model_dump(exclude={"schedule", "epochs", "denoiser", "options", "options_from", "augment"}),
        )

    def evaluate_spec(self, run: Run, name: str) -> specs.EvaluateSpec:
        """One evaluation of a run: its entry, and of its study's section what its kind has and the entry does not say.

        How a job is carried out, not what it computes, is no field of its spec, and so absent.
        """
        entry, amount = self.evaluation(name), self.amount(name)
        kind = specs.EVALUATIONS[entry.kind]
        content = {"run": self.run_spec(run), **entry.model_dump(exclude={"times"})}
        if amount is not None:
            content |= amount.model_dump(include=kind.model_fields.keys() - content.keys())
            content["images"] = amount.images or self.params.datasets[self.dataset(run)].images
        if isinstance(entry, Certify):
            content["n"] *= entry.times
        return kind(**content)

    def table_spec(self, name: str) -> specs.TableSpec:
        """Return what a table shows and how."""
        table = self.tables[name]
        columns = tuple(specs.ColumnSpec(**parse_column(text).model_dump()) for text in table.columns)
        return specs.TableSpec(
            name=name,
            paper=self.params.tables.paper,
            columns=columns,
            rows=self._row_specs(name, self.rows(name)),
            **table.model_dump(include={"title", "caption", "published", "brackets", "against"}),
        )

    def figure_spec(self, name: str) -> specs.FigureSpec:
        """Return what a figure shows and how."""
        figure = self.figures[name]
        panels = tuple(
            specs.PanelSpec(title=panel.title, rows=self._row_specs(name, panel.rows)) for panel in figure.panels
        )
        return specs.FigureSpec(name=name, title=figure.title, caption=figure.caption, panels=panels)

    def shift_spec(self, name: str) -> specs.ShiftReportSpec:
        """Return what a report of shifts compares."""
        report = self.shifts[name]
        rows = self._row_specs(name, report.rows)
        return specs.ShiftReportSpec(name=name, title=report.title, caption=report.caption, rows=rows)

    def course_spec(self, name: str) -> specs.CourseReportSpec:
        """Return what a figure of trainings shows."""
        report = self.courses[name]
        rows = self._row_specs(name, report.rows)
        return specs.CourseReportSpec(rows=rows, name=name, **report.model_dump(include={"title", "caption", "metric"}))

    def gains_spec(self, name: str) -> specs.GainsReportSpec:
        """Return what a figure of gains compares."""
        report = self.gains[name]
        return specs.GainsReportSpec(
            name=name,
            x=specs.ColumnSpec(**parse_column(report.x).model_dump()),
            y=specs.ColumnSpec(**parse_column(report.y).model_dump()),
            rows=self._row_specs(name, self.rows(name)),
            **report.model_dump(include={"title", "caption", "against"}),
        )

    def page_spec(self) -> specs.PageSpec:
        """Return what the page of the study shows: every report, training and record of it."""
        return specs.PageSpec(
            study=self.params.name,
            tables=tuple(map(self.table_spec, self.tables)),
            figures=tuple(map(self.figure_spec, self.figures)),
            shifts=tuple(map(self.shift_spec, self.shifts)),
            courses=tuple(map(self.course_spec, self.courses)),
            gains=tuple(map(self.gains_spec, self.gains)),
            trainings=tuple(f"train/{path}" for path in self.runs),
            records=tuple(self._records_spec(run, name) for run, name in self.evaluations),
        )

    def network_spec(self, name: str) -> specs.NetworkSpec:
        """Return what a network is: its entry, and the study's own where that says nothing."""
        entry, study = self.params.recipes.networks[name], self.study.network
        norm = entry.norm or "batch"
        return specs.NetworkSpec(
            name=entry.name or study.name,
            stem=entry.stem or ("imagenet" if entry.weights == "published" else study.stem),
            norm=norm,
            # Only group norm reads it: a change of it must not retrain networks of another norm.
            groups=study.groups if norm == "group" else 1,
            options=entry.options if entry.name else study.options,
            weights=entry.weights,
            size=entry.size,
        )

    def _records_spec(self, run: Run, name: str) -> specs.RecordsSpec:
        return specs.RecordsSpec(kind=self.evaluation(name).kind, path=self.records(run, name))

    def _row_specs(self, report: str, rows: Iterable[Row]) -> tuple[specs.RowSpec, ...]:
        return tuple(self._row_spec(report, row) for row in rows)

    def _row_spec(self, report: str, row: Row) -> specs.RowSpec:
        runs = tuple(
            tuple(
                specs.EvaluatedSpec(run=self.run_spec(run), records=tuple(self._records_spec(run, n) for n in names))
                for run, names in self._evaluated(report, row, seed)
            )
            for seed in (self.seeds(report) if row.evaluated else ())
        )
        ends = {each.run.dataset for group in runs for each in group}
        datasets = {self.params.datasets[name].published or name for name in ends}
        return specs.RowSpec(
            label=row.label,
            block=row.block,
            published=row.published,
            sigma=row.sigma,
            dataset=datasets.pop() if len(datasets) == 1 else None,
            runs=runs,
            files=tuple(specs.LogSpec(**log.model_dump()) for log in row.files or ()),
        )


def _has_task(row: Row) -> bool:
    return any(text.endswith(f"@{TASK}") for each in row.evaluated for text in each.train)


def _of_task(row: Row, task: str) -> Row:
    """Return the row with a role in the place of `task`, which its block then names."""

    def with_task(train: tuple[str, ...]) -> tuple[str, ...]:
        stages = (text.rpartition("@") for text in train)
        return tuple(f"{recipe}@{task if role == TASK else role}" for recipe, _, role in stages)

    changed: dict[str, Any] = {"block": f"{task}, {row.block}" if row.block else task}
    if row.train is not None:
        changed["train"] = with_task(row.train)
    if row.runs is not None:
        changed["runs"] = tuple(each.model_copy(update={"train": with_task(each.train)}) for each in row.runs)
    return row.model_copy(update=changed)
