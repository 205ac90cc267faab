"""Specs: what a job computes.  The plan writes them, jobs read them, cards and records keep them.

A spec has exactly the params that can change its job's output, as one canonical JSON string: a change of params re-runs
only the jobs that it concerns.  This module imports little, for every start of Snakemake makes the plan.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, SerializerFunctionWrapHandler, model_serializer

from transmooth.params.values import (
    AttackLoss,
    Augmentation,
    BallNorm,
    Dtype,
    Head,
    Images,
    Measure,
    Method,
    MultiSigma,
    Noise,
    Norm,
    Optimizer,
    Precision,
    Stem,
    Trainable,
    Weights,
)


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Spec(BaseModel):
    """A frozen spec.  What is None is left out of its JSON, so that a key that is new changes no spec without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    def dump(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return self.model_dump(mode="json")

    @property
    def text(self) -> str:
        """Its canonical JSON."""
        return canonical(self.dump())

    @classmethod
    def of(cls, content: Any) -> Self:
        """Return the spec of plain values.  Raises ValueError, naming the key, for what is none."""
        return cls.model_validate(content)


class RunSpec(Spec):
    """Which run of a study it is.

    stages: `recipe@role`, in order.  dataset: of the last stage.  path: of its folder below `train` and `evaluate`.
    """

    network: str
    stages: tuple[str, ...]
    seed: int
    dataset: str
    path: str


class NetworkSpec(Spec):
    """What is built: see `models.build`."""

    name: str
    stem: Stem
    norm: Norm
    groups: int
    options: dict[str, JsonValue]
    weights: Weights = "random"
    size: int | None = None
    head: Head | None = None


class ScheduleSpec(Spec):
    """How long and how fast a training is."""

    epochs: int
    warmup_epochs: int
    batch: int
    lr: tuple[float, ...]
    optimizer: Optimizer
    weight_decay: float
    precision: Precision
    accumulate: int
    processes: int
    of_epochs: int | None = None
    weight_decay_end: float | None = None
    layer_decay: float | None = None
    clip: float | None = None


class TrainSpec(Spec):
    """One stage of a run.

    network: what the first stage starts from; None where a checkpoint is.  run: None for a training outside of a study.
    options_from: epoch, counted from 0, as text → options that change from then on.
    denoiser: the run of the network that cleans what this one sees; None where there is none.
    head: in place of the last layer, in this stage; None where that stays.
    n0: noisy copies of each training image, at each sigma, by which `samplewise` chooses its sigma.
    """

    run: RunSpec | None = None
    seed: int
    network: NetworkSpec | None = None
    objective: str
    options: dict[str, JsonValue]
    options_from: dict[str, dict[str, JsonValue]] | None = None
    sigmas: tuple[float, ...]
    noise: Noise
    n0: int | None = None
    views: int
    head: Head | None = None
    trainable: Trainable
    denoiser: str | None = None
    schedule: ScheduleSpec
    augment: tuple[Augmentation, ...]


class CertificationSpec(Spec):
    """What certifications at one sigma have in common.  radii, tolerance: of the sequential method alone."""

    run: RunSpec | None = None
    sigmas: tuple[float, ...]
    images: Images
    method: Method
    radii: tuple[float, ...] | None = None
    tolerance: float | None = None
    n0: int
    n: int
    alpha: float
    seed: int
    dtype: Dtype


class CertifySpec(CertificationSpec):
    """One certification of each test image at every sigma."""

    kind: Literal["certify"] = "certify"


class SamplewiseSpec(CertificationSpec):
    """One certification of each test image at a sigma of its own; n0 samples at each of `sigmas` choose it."""

    kind: Literal["samplewise"] = "samplewise"


class LookupSpec(Spec):
    """One lookup of the nearest test image."""

    kind: Literal["lookup"] = "lookup"
    run: RunSpec
    images: Images


class ShiftSpec(Spec):
    """One measurement of the shift of normalised features."""

    kind: Literal["shift"] = "shift"
    run: RunSpec
    sigmas: tuple[float, ...]
    images: int


class MultiSigmaSpec(Spec):
    """One certification of a classifier of several sigmas, in the order of its stages.

    thresholds: None are all 0, or those that `chosen_on` validation images choose.  radii: that images may end early
    for, None where each stage takes n samples.
    """

    kind: Literal["multi_sigma"] = "multi_sigma"
    run: RunSpec | None = None
    method: MultiSigma
    sigmas: tuple[float, ...]
    thresholds: tuple[float, ...] | None = None
    chosen_on: int | None = None
    radii: tuple[float, ...] | None = None
    images: Images
    n0: int
    n: int
    alpha: float
    seed: int
    dtype: Dtype


class AttackSpec(Spec):
    """One attack of a base classifier.  batch: images that are attacked together, on which the last bits depend."""

    kind: Literal["attack"] = "attack"
    run: RunSpec | None = None
    norm: BallNorm
    epsilon: float
    steps: int
    losses: tuple[AttackLoss, ...]
    restarts: int
    images: Images
    batch: int
    seed: int


class SmoothedAttackSpec(AttackSpec):
    """One attack of a smoothed classifier: with gradients of `samples` noisy copies, decided by n votes."""

    sigma: float
    samples: int
    n: int
    alpha: float


EvaluateSpec = CertifySpec | MultiSigmaSpec | SamplewiseSpec | LookupSpec | ShiftSpec | AttackSpec
# By kind of evaluation.
EVALUATIONS: Mapping[str, type[EvaluateSpec]] = {
    "certify": CertifySpec,
    "multi_sigma": MultiSigmaSpec,
    "samplewise": SamplewiseSpec,
    "lookup": LookupSpec,
    "shift": ShiftSpec,
    "attack": AttackSpec,
}


def evaluate_spec(content: Mapping[str, Any]) -> EvaluateSpec:
    """Return the spec of an evaluation.  Raises ValueError for what is none."""
    if content.get("kind") not in EVALUATIONS:
        raise ValueError(f"kind: should be one of {', '.join(EVALUATIONS)}, found {content.get('kind')!r}")
    return EVALUATIONS[content["kind"]].of(content)


class RecordsSpec(Spec):
    """Where the records of one evaluation of a run are, below the study's results, and what kind they are of."""

    kind: str
    path: str


class EvaluatedSpec(Spec):
    """A run and what looked at it."""

    run: RunSpec
    records: tuple[RecordsSpec, ...]


class LogSpec(Spec):
    """A log, or records, of other people's network at one sigma."""

    sigma: float
    file: str


class RowSpec(Spec):
    """A row: `runs` has the runs that it pools, once for each seed; `files`, in their place, are other people's logs.

    dataset: the dataset that its runs end on, as params/published.csv calls it, else by its own name.
    sigma: the one that it shows, if not all.
    """

    label: str
    block: str
    published: str | None = None
    sigma: float | None = None
    dataset: str | None = None
    runs: tuple[tuple[EvaluatedSpec, ...], ...] = ()
    files: tuple[LogSpec, ...] = ()

    @property
    def name(self) -> str:
        """Its name in its report, which no other row there has."""
        return f"{self.block}: {self.label}" if self.block else self.label


class ColumnSpec(Spec):
    """A column of a table."""

    measure: Measure
    radius: float | None = None

    @property
    def text(self) -> str:
        """As in the params, `measure` or `measure@radius`."""
        return self.measure if self.radius is None else f"{self.measure}@{self.radius:g}"


class TableSpec(Spec):
    """A table.

    paper, published: where params/published.csv has the table that it stands beside.  against: the label of the row
    that the others are compared with, image by image.
    """

    name: str
    title: str
    caption: str
    paper: str | None = None
    published: str | None = None
    columns: tuple[ColumnSpec, ...]
    brackets: str | None = None
    against: str | None = None
    rows: tuple[RowSpec, ...]


class PanelSpec(Spec):
    """A panel of a figure."""

    title: str
    rows: tuple[RowSpec, ...]


class FigureSpec(Spec):
    """A figure of curves over the radius."""

    name: str
    title: str
    caption: str
    panels: tuple[PanelSpec, ...]


class ShiftReportSpec(Spec):
    """A table and a figure of shifts."""

    name: str
    title: str
    caption: str
    rows: tuple[RowSpec, ...]


class CourseReportSpec(Spec):
    """A figure of a metric of training images over the epochs: each row is one run at each seed, without records."""

    name: str
    title: str
    caption: str
    metric: str
    rows: tuple[RowSpec, ...]


class GainsReportSpec(Spec):
    """A figure of one column over another, or, where `against` is a label, of the gains over it in both."""

    name: str
    title: str
    caption: str
    x: ColumnSpec
    y: ColumnSpec
    against: str | None = None
    rows: tuple[RowSpec, ...]


class PageSpec(Spec):
    """The page of a study: all that it reports, its trainings (folders) and its records."""

    study: str
    tables: tuple[TableSpec, ...]
    figures: tuple[FigureSpec, ...]
    shifts: tuple[ShiftReportSpec, ...]
    courses: tuple[CourseReportSpec, ...] = ()
    gains: tuple[GainsReportSpec, ...] = ()
    trainings: tuple[str, ...]
    records: tuple[RecordsSpec, ...]
