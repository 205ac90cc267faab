"""params/studies/<name>.yaml: how much of everything."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from transmooth.params.datasets import Dataset
from transmooth.params.recipes import Recipes
from transmooth.params.tables import Evaluated, Table, Tables
from transmooth.params.values import (
    AttackLoss,
    Count,
    Dtype,
    Images,
    Level,
    Method,
    Model,
    Name,
    Optimizer,
    Positive,
    Precision,
    Radii,
    RunText,
    Seeds,
    Stem,
    Tracker,
    Whole,
    unique,
)


class NetworkParams(Model):
    """The study's own network: what an entry of `networks` does not say is said here; `default` names one of them."""

    default: Name
    name: str
    stem: Stem
    groups: Count = 32
    options: dict[str, JsonValue] = Field(default={})


class Role(Model):
    """A dataset and the schedule of trainings on it."""

    dataset: Name
    schedule: Name


class Schedule(Model):
    """How long and how fast a training is, and on how many processes.

    of_epochs: the epochs that the learning rate's course is planned for, where the training ends before.
    weight_decay_end: what the weight decay becomes, by a cosine.  layer_decay: of the learning rate from each layer to
    the one before.  clip: the largest norm of the gradient.
    """

    epochs: Whole
    warmup_epochs: Whole
    batch: Count
    lr: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(unique)]
    optimizer: Optimizer = "sgd"
    weight_decay: Level
    precision: Precision = "fp32"
    accumulate: Count = 1
    processes: Count = 1
    checkpoint_seconds: Positive = 300
    of_epochs: Count | None = None
    weight_decay_end: Level | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip: Positive | None = None

    @model_validator(mode="after")
    def _course_holds_epochs(self) -> Self:
        if self.of_epochs is not None and self.of_epochs < self.epochs:
            raise ValueError(f"of_epochs: should be at least epochs ({self.epochs}), found {self.of_epochs}")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs >= max(self.epochs, 1):
            raise ValueError(f"warmup_epochs: should be below epochs ({self.epochs}), found {self.warmup_epochs}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch % (self.processes * self.accumulate):
            raise ValueError(
                f"batch: should be a multiple of processes x accumulate "
                f"({self.processes} x {self.accumulate}), found {self.batch}"
            )
        return self


class CertifyParams(Model):
    """How much a certification does; `n` is the most samples of an image where the method may stop earlier."""

    method: Method = "cohen"
    radii: Radii | None = None
    tolerance: Positive | None = None
    n0: Count
    n: Count
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    images: Images | None = None
    batch: Count | None = None
    dtype: Dtype = "fp32"
    seed: Whole = 0
    shards: Count = 1
    processes: Count = 1

    @model_validator(mode="after")
    def _radii_of_sequential(self) -> Self:
        if self.method == "sequential" and self.radii is None:
            raise ValueError("radii: missing: method sequential decides a grid of radii, the ones that tables show")
        if self.method != "sequential" and self.radii is not None:
            raise ValueError(f"radii: only for method sequential, found {list(self.radii)} with {self.method}")
        if self.method != "sequential" and self.tolerance is not None:
            raise ValueError(f"tolerance: only for method sequential, found {self.tolerance} with {self.method}")
        return self

    @model_validator(mode="after")
    def _n_can_certify(self) -> Self:
        alpha = self.alpha / 2 if self.method == "cohen_two_sided" else self.alpha
        if alpha ** (1 / self.n) <= 0.5:
            raise ValueError(
                f"n: {self.n} samples can never certify at alpha = {self.alpha}: even without a failure the bound "
                f"alpha^(1/n) = {alpha ** (1 / self.n):.3f} stays at or below 1/2"
            )
        return self


class AttackParams(Model):
    """How hard images are attacked: `restarts` times from a random start, each time on every loss, in `steps` steps.

    batch: images that are attacked together.  It is part of the spec: gradients depend on their batch in the last bits.
    """

    steps: Count = 100
    losses: Annotated[tuple[AttackLoss, ...], Field(min_length=1), AfterValidator(unique)] = ("cross_entropy", "margin")
    restarts: Count = 1
    images: Images | None = None
    batch: Count = 250
    seed: Whole = 0
    shards: Count = 1
    processes: Count = 1


class Study(Model):
    """The whole file.

    tables: the file of params/tables that the study takes its reports from.  denoiser: of recipes whose denoiser is
    `default`.  options: of objectives, by name, where a recipe does not say.  evaluate: what rows that name no
    evaluations are evaluated by.  tasks: roles that `task` stands for in tables that name none themselves.
    seeds_of: seeds of reports that have their own.  certify, attack: how much of the evaluations of that kind.
    tracker: where trainings also show their epochs; it changes no result.
    """

    tables: Name
    network: NetworkParams
    denoiser: RunText | None = None
    options: dict[Name, dict[str, JsonValue]] = Field(default={})
    roles: dict[Name, Role]
    tasks: Annotated[tuple[Name, ...], AfterValidator(unique)] = ()
    seeds: Seeds
    seeds_of: dict[Name, Seeds] = Field(default={})
    schedules: dict[Name, Schedule]
    evaluate: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
    certify: CertifyParams | None = None
    attack: AttackParams | None = None
    report: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)]
    tracker: Tracker | None = None

    @model_validator(mode="after")
    def _seeds_of_reports(self) -> Self:
        if unknown := sorted(self.seeds_of.keys() - {*self.report}):
            raise ValueError(f"seeds_of: {', '.join(unknown)}: not in `report`, which has {', '.join(self.report)}")
        return self


class Params(Model):
    """Everything that a study is made of."""

    name: Name
    recipes: Recipes
    datasets: dict[Name, Dataset]
    tables: Tables
    study: Study

    def tasks_of(self, table: Table) -> tuple[Name, ...]:
        """Return the roles that `task` stands for in a table: its own, or the study's."""
        return table.tasks or self.study.tasks

    def evaluations_of(self, report: str, each: Evaluated) -> tuple[Name, ...]:
        """Return the names of what looks at a run of a report's row: its own, or the study's; none in a course."""
        return () if report in self.tables.courses else each.evaluate or self.study.evaluate
