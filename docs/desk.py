"""Write the tables of docs/desk.md, here beside the paper, from results/desk/tables: python docs/desk.py [RESULTS]"""

import re
import sys
from pathlib import Path

import pandas as pd

from transmooth import files
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.report.cells import shown
from transmooth.report.measures import MEASURES
from transmooth.report.tables import markdown_table, paper_rows, read_published, title
from transmooth.smoothing.bounds import share_interval
from transmooth.specs import TableSpec

PAGE = Path(__file__).with_name("desk.md")
ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "params" / "published.csv"
PART = re.compile(r"(<!-- from here .*? -->\n).*?(<!-- up to here -->)", re.DOTALL)
PAPER_CERTIFIED = 500  # test images that the paper certifies of CIFAR-10


def beside(results: Path, spec: TableSpec) -> str:
    """A table: ours and the paper's, the paper's bold where both are above chance and agree within their errors."""
    path = results / "desk" / "tables" / f"{spec.name}.csv"
    lines = shown(pd.read_csv(path, keep_default_na=False, na_values={"sigma": [""]}), spec.columns)
    published = read_published(PUBLISHED, spec.paper, spec.published)
    paper = {row.key[1]: row for row in paper_rows(published, spec)}
    head = ["", *(text for column in spec.columns for text in (f"{title(column)}, here", "paper"))]
    chance = pd.to_numeric(lines["chance"]).max()
    rows = []
    for (block, name, key), group in lines[lines["published"] != ""].groupby(["block", "row", "published"], sort=False):
        ours, cells = group.set_index("column"), []
        for column, quoted in zip(spec.columns, paper[key].cells, strict=True):
            line = ours.loc[column.text]
            value, images = float(line["value"]), int(line["images"])
            interval = share_interval(value * images, images)
            paper_images = PAPER_CERTIFIED if MEASURES[column.measure].per_sigma else images
            cells += [f"{100 * value:.1f}", _quoted(quoted, interval, paper_images, chance)]
        rows.append([f"{block}: {name}" if block else name, *cells])
    rows.append(["chance: one answer for all images", *[f"{100 * chance:.1f}", "–"] * len(spec.columns)])
    return f"## {spec.published}\n\n{markdown_table(head, rows)}"


def _quoted(value: str | None, ours: tuple[float, float], images: int, chance: float) -> str:
    """The paper's number, bold where its 95 % interval over so many images meets ours and both lie above chance."""
    if value is None:
        return "–"
    low, high = share_interval(float(value) / 100 * images, images)
    return f"**{value}**" if chance < low <= ours[1] and chance < ours[0] <= high else value


def page(results: Path) -> str:
    """docs/desk.md with the tables of these results."""
    plan = Plan(load("desk", ROOT))
    tables = "\n\n".join(beside(results, plan.table_spec(f"table{number}")) for number in (1, 4, 5, 6))
    return PART.sub(lambda found: f"{found[1]}\n{tables}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    files.write_text(PAGE, page(Path(sys.argv[1] if len(sys.argv) > 1 else "results")))
