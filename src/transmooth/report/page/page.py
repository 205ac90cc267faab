"""What the template shows, and the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from transmooth.params.values import BallNorm
from transmooth.report.cells import Cell
from transmooth.report.certified import CertifiedRow
from transmooth.report.page import charts
from transmooth.report.page.classes import ByClass
from transmooth.report.page.examples import STEPS, Example
from transmooth.report.tables import OurRow, PaperRow

NORMS: dict[BallNorm, str] = {"l2": "ℓ2", "linf": "ℓ∞"}
UNFOLDED = 8  # rows of differences, at most, that the page shows without a click


@dataclass(frozen=True)
class TableRow:
    """A row of a table of the page: ours, the paper's, or both beside each other."""

    name: str
    ours: OurRow | None
    paper: PaperRow | None


@dataclass(frozen=True)
class Differences:
    """What the rows of a table are above one of them, image by image.

    title, words: what they are, as below the same table in Markdown.  columns, blocks: headings, and of each block its
    rows, of each the name and a cell for each column.
    """

    title: str
    words: str
    columns: Sequence[str]
    blocks: Sequence[tuple[str, Sequence[tuple[str, Sequence[Cell]]]]]

    @property
    def many(self) -> bool:
        """Whether they are folded until a reader opens them."""
        return sum(len(rows) for _, rows in self.blocks) > UNFOLDED


@dataclass(frozen=True)
class Section:
    """A report of a study: a heading, what it says in words, a table for tables, a chart for curves, its files.

    radii, certified: what is certified, by block, and at which radii; lower_bounds: its ACR may be larger.
    columns, blocks: headings and rows of the study's own table; oracle: its certified accuracies are the largest over
    sigma; best_in_paper: by column.
    differences: of the rows of that table from one of them; None where they are not compared.
    plain: headings and rows of a table whose first cells, `keys` of them, are words.
    picture: a data URI, of a figure without a chart.
    """

    name: str
    title: str
    caption: str
    notes: str = ""
    finding: str = ""
    radii: Sequence[float] = ()
    certified: Sequence[tuple[str, Sequence[CertifiedRow]]] = ()
    lower_bounds: bool = False
    columns: Sequence[str] = ()
    oracle: bool = False
    paper: str | None = None
    blocks: Sequence[tuple[str, Sequence[TableRow]]] = ()
    best_in_paper: Sequence[float | None] = ()
    differences: Differences | None = None
    plain: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    keys: int = 1
    chart: Mapping[str, Any] | None = None
    picture: str = ""
    links: Sequence[str] = ()


@dataclass(frozen=True)
class Gallery:
    """Example images of one network, in words, on one dataset: groups of them, with a title each."""

    name: str
    title: str
    network: str
    groups: Sequence[tuple[str, Sequence[Example]]]

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return "-".join(self.name.split())

    @property
    def balls(self) -> list[str]:
        """The norms and radii of the attacks that are shown."""
        settings = [attack.settings for _, group in self.groups for each in group for attack in each.attacks]
        return list(dict.fromkeys(f"{NORMS[each.norm]} ≤ {each.epsilon:g}" for each in settings))


@dataclass(frozen=True)
class Page:
    """What the template shows; a part that is empty is left out.

    intervals: those of all values are shown until its reader hides them.
    """

    title: str
    summary: str
    facts: Mapping[str, str]
    intervals: bool = False
    tables: Sequence[Section] = ()
    figures: Sequence[Section] = ()
    classes: Sequence[ByClass] = ()
    galleries: Sequence[Gallery] = ()
    training: Section | None = None
    stages: Sequence[Sequence[str]] = ()
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    runs: Sequence[Mapping[str, Any]] = ()

    @property
    def contents(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Anchor and title of each section that is there, and those of its articles."""
        sections = [
            ("summary", "Summary", True, []),
            ("tables", "Tables", True, [(each.name, each.title) for each in self.tables]),
            ("figures", "Figures", self.figures, [(each.name, each.title) for each in self.figures]),
            ("classes", "By class", self.classes, []),
            ("examples", "Examples", self.galleries, [(each.anchor, each.title) for each in self.galleries]),
            ("training", "Training", self.training, []),
            ("provenance", "Provenance", True, []),
        ]
        return [(anchor, title, articles) for anchor, title, there, articles in sections if there]


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("transmooth.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        page=page, norms=NORMS, steps=STEPS, library=charts.library(), version=version("transmooth")
    )
