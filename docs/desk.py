"""Write the tables of docs/desk.md, here beside the paper, from results/desk/tables: python docs/desk.py [RESULTS]"""

import re
import sys
from pathlib import Path

import pandas as pd

from transmooth import files
from transmooth.report.tables import markdown_table, paper_rows, read_published
from transmooth.smoothing.bounds import share_interval

PAGE = Path(__file__).with_name("desk.md")
PUBLISHED = Path(__file__).parents[1] / "params" / "published.csv"
PART = re.compile(r"(<!-- from here .*? -->\n).*?(<!-- up to here -->)", re.DOTALL)
PAPER_CERTIFIED = 500  # test images that the paper certifies of CIFAR-10


def beside(results: Path, number: int) -> str:
    """Table `number`: ours and the paper's, the paper's bold where the two do not differ by more than their errors."""
    lines = pd.read_csv(results / "desk" / "tables" / f"table{number}.csv", dtype={"block": str})
    lines = lines[lines["oracle"] & lines["published"].notna()]
    lines = lines.assign(block=lines["block"].fillna(""))
    paper = {row.key: row for row in paper_rows(read_published(PUBLISHED, f"Table {number}"), {})}
    radii = sorted(lines["radius"].unique())
    head = ["", "Clean, here", "paper", *(text for radius in radii for text in (f"ε = {radius:g}, here", "paper"))]
    rows = []
    for (block, name, key), group in lines.groupby(["block", "row", "published"], sort=False):
        first, theirs = group.iloc[0], paper[key]
        clean = share_interval(first["clean_accuracy"] * first["clean_images"], first["clean_images"])
        cells = [_percent(first["clean_accuracy"]), _quoted(theirs.clean, clean, int(first["clean_images"]))]
        for radius, line in group.set_index("radius").sort_index().iterrows():
            ours = line["low"], line["high"]
            cells += [
                _percent(line["certified_accuracy"]),
                _quoted(theirs.certified.get(radius), ours, PAPER_CERTIFIED),
            ]
        rows.append([f"{block}: {name}" if block else name, *cells])
    return f"## Table {number}\n\n{markdown_table(head, rows)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _quoted(value: str | None, ours: tuple[float, float], images: int) -> str:
    """The paper's number, bold where its 95 % interval over so many images meets ours."""
    if value is None:
        return "–"
    low, high = share_interval(float(value) / 100 * images, images)
    return f"**{value}**" if low <= ours[1] and ours[0] <= high else value


def page(results: Path) -> str:
    """docs/desk.md with the tables of these results."""
    tables = "\n\n".join(beside(results, number) for number in (1, 4, 5, 6))
    return PART.sub(lambda found: f"{found[1]}\n{tables}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    files.write_text(PAGE, page(Path(sys.argv[1] if len(sys.argv) > 1 else "results")))
