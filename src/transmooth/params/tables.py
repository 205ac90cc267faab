"""params/tables/<paper>.yaml: tables and figures, as rows of names."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from transmooth.params.values import Measure, Model, Name, Positive, StageText, unique

TASK = "task"  # the role that stands for each of a table's or the study's `tasks`
# The kinds of evaluation whose records a measure can be computed from; none: the run's card has it.
KINDS: dict[Measure, tuple[str, ...]] = {
    "clean": (),
    "certified": ("certify", "multi_sigma", "samplewise", "lookup"),
    "acr": ("certify", "multi_sigma", "samplewise", "lookup"),
    "multi_sigma": ("multi_sigma",),
    "multi_sigma_acr": ("multi_sigma",),
    "standard": ("attack",),
    "robust": ("attack",),
    "parameters": (),
    "trained": (),
    "denoiser_parameters": (),
    "hours": (),
    "evaluations": ("certify", "multi_sigma", "samplewise"),
}
TRANSDUCTIVE = ("samplewise", "lookup")  # kinds whose certificates are about balls around the test images
AT_RADIUS = ("certified", "multi_sigma", "robust")  # measures that are of one radius


class LogFile(Model):
    """A certification log or records at one sigma; a path below the checkout, or with ~ or $VARIABLES."""

    sigma: Positive
    file: str


class Evaluated(Model):
    """A run and the evaluations that look at it.

    network: an entry of `networks`, the study's default where it is not named.  train: `recipe@role`, in order.
    evaluate: entries of `evaluations`, the study's where none are named.
    """

    network: Name | None = None
    train: Annotated[tuple[StageText, ...], Field(min_length=1)]
    evaluate: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = None


class Row(Model):
    """A row of a table, or a curve: one run (`train`), a pooled set of them (`runs`), or `files` (other people's logs).

    published: the row of the paper's own table that it stands beside.  sigma: of evaluations at several sigmas, the one
    that the row shows.
    """

    label: str
    block: str = ""
    published: str | None = None
    sigma: Positive | None = None
    network: Name | None = None
    train: Annotated[tuple[StageText, ...], Field(min_length=1)] | None = None
    evaluate: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(unique)] | None = None
    runs: Annotated[tuple[Evaluated, ...], Field(min_length=1)] | None = None
    files: Annotated[tuple[LogFile, ...], Field(min_length=1)] | None = None

    @field_validator("files")
    @classmethod
    def _one_each(cls, value: tuple[LogFile, ...] | None) -> tuple[LogFile, ...] | None:
        unique(tuple(log.sigma for log in value or ()))
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [name for name in ("train", "runs", "files") if getattr(self, name) is not None]
        if len(origins) != 1:
            raise ValueError(f"should have one of train, runs and files, found {' and '.join(origins) or 'none'}")
        if self.train is None and (self.network is not None or self.evaluate is not None):
            raise ValueError(
                "network, evaluate: belong to `train`; "
                + ("with `runs` they stand in its entries" if self.runs else "files are evaluated already")
            )
        return self

    @property
    def evaluated(self) -> tuple[Evaluated, ...]:
        """Its runs: one, or those that it pools; none where it has files."""
        if self.train is not None:
            return (Evaluated(network=self.network, train=self.train, evaluate=self.evaluate),)
        return self.runs or ()


class Column(Model):
    """What a column of a table shows: a measure, and the radius that it is at."""

    measure: Measure
    radius: float | None

    @property
    def text(self) -> str:
        """As in the params, `measure` or `measure@radius`."""
        return self.measure if self.radius is None else f"{self.measure}@{self.radius:g}"


def parse_column(text: str) -> Column:
    """Return the column of `measure` or `measure@radius`.  Raises ValueError for any other text."""
    measure, _, at = text.partition("@")
    if measure not in (known := get_args(Measure)):
        raise ValueError(f"should be measure or measure@radius, with a measure of {', '.join(known)}; found {text!r}")
    try:
        radius = float(at) if at else None
    except ValueError:
        radius = -1.0
    if (radius is None) == (measure in AT_RADIUS) or (radius is not None and not 0 <= radius < float("inf")):
        wanted = f"a radius >= 0, as in {measure}@0.25" if measure in AT_RADIUS else "no radius"
        raise ValueError(f"{measure}: should have {wanted}, found {text!r}")
    return Column(measure=measure, radius=radius)  # type: ignore[arg-type]


def _columns(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        parse_column(text)
    unique(tuple(parse_column(text).text for text in texts))
    return texts


class Table(Model):
    """A table.

    published: what the paper calls its own.  brackets: `natural` prints the same curve at radius 0 in front of a
    certified accuracy.  against: the label of a row that the others are compared with, image by image: of their block
    where it has one, else of the whole table.  tasks: roles, the study's where there are none; a row with the role
    `task` is there for each of them, under its name.
    """

    title: str
    caption: str
    published: str | None = None
    columns: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_columns)]
    brackets: Literal["natural"] | None = None
    against: str | None = None
    tasks: Annotated[tuple[Name, ...], AfterValidator(unique)] = ()
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @property
    def certified_radii(self) -> tuple[float, ...]:
        """The radii of its columns of certified accuracy, in their order."""
        columns = map(parse_column, self.columns)
        return tuple(column.radius for column in columns if column.radius is not None and column.measure == "certified")


class Panel(Model):
    """One row: a curve for every sigma and their envelope.  Several rows: the envelope of each."""

    title: str
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Figure(Model):
    """A figure of certified accuracy over the radius."""

    title: str
    caption: str
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]


class ShiftReport(Model):
    """A table and a figure of how far each row's normalised features move (evaluations of kind `shift`)."""

    title: str
    caption: str
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class CourseReport(Model):
    """A figure of a metric over the epochs of the last stage of each row's run, which needs no evaluation.

    metric: `loss`, or a metric of the objective, of the training images: `score`; `full` of objectives/confidence.py.
    """

    title: str
    caption: str
    metric: Name
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class GainsReport(Model):
    """A figure of two columns of a table: what its rows have there, or gain over the one that is called `against`.

    table: of the same file; its blocks, such as its tasks, are the points, its labels the groups of points.  Gains have
    a line of least squares; without `against` the points of a label are joined in the order of their rows.  x, y: two
    of its columns.
    """

    title: str
    caption: str
    table: Name
    x: str
    y: str
    against: str | None = None


class Tables(Model):
    """The whole file.  paper: what params/published.csv calls the paper."""

    paper: str | None = None
    tables: dict[Name, Table] = Field(default={})
    figures: dict[Name, Figure] = Field(default={})
    shifts: dict[Name, ShiftReport] = Field(default={})
    courses: dict[Name, CourseReport] = Field(default={})
    gains: dict[Name, GainsReport] = Field(default={})

    @property
    def reports(self) -> dict[str, Mapping[str, Model]]:
        """Its reports by kind, each by name."""
        return {kind: getattr(self, kind) for kind in ("tables", "figures", "shifts", "courses", "gains")}

    def placed_rows(self) -> Iterator[tuple[str, str, Row]]:
        """Yield each row with the name of its report and its place in the file."""
        kinds: dict[str, Mapping[str, Table | ShiftReport | CourseReport]] = {
            "tables": self.tables,
            "shifts": self.shifts,
            "courses": self.courses,
        }
        for kind, reports in kinds.items():
            for name, report in reports.items():
                yield from ((name, f"{kind}.{name}.rows[{at}]", row) for at, row in enumerate(report.rows))
        for name, figure in self.figures.items():
            for number, panel in enumerate(figure.panels):
                where = f"figures.{name}.panels[{number}]"
                yield from ((name, f"{where}.rows[{at}]", row) for at, row in enumerate(panel.rows))
