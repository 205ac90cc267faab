"""Write the tables of docs/leaderboard.md from params/leaderboard.csv: python docs/leaderboard.py"""

import re
from collections.abc import Sequence
from pathlib import Path

from transmooth import files
from transmooth.report.leaderboard import RADII, Row, ranked, read
from transmooth.report.tables import markdown_table

PAGE = Path(__file__).with_name("leaderboard.md")
BOARD = Path(__file__).parents[1] / "params" / "leaderboard.csv"
PART = re.compile(r"(<!-- from here .*? -->\n).*?(<!-- up to here -->)", re.DOTALL)
DATASETS = {"cifar10": "CIFAR-10", "imagenet": "ImageNet"}
PLACES = 5  # that are shown at each radius


def by_acr(rows: Sequence[Row]) -> str:
    """Every log, the largest ACR first, numbered."""
    head = ["", "method", "network", "σ", "α", "n", "images", "ACR", *(f"ε = {radius:g}" for radius in RADII), "log"]
    lines = []
    for place, row in enumerate(ranked(rows), 1):
        settings = (
            f"{row.sigma:g}",
            "–" if row.alpha is None else f"{row.alpha:g}",
            "–" if row.n is None else f"{row.n}",
        )
        made = [str(place), row.method or "–", row.network or "–", *settings, str(row.images), f"{row.acr:.3f}"]
        lines.append([*made, *(share(row, radius) for radius in RADII), log(row)])
    return markdown_table(head, lines)


def by_radius(rows: Sequence[Row]) -> str:
    """At each radius the logs that certify most there, with the numbers that they have by ACR."""
    number = {row: place for place, row in enumerate(ranked(rows), 1)}
    lines = []
    for radius in RADII:
        best = [row for row in ranked(rows, radius) if radius <= row.largest_radius][:PLACES]
        cells = [f"{share(row, radius)} {row.method}, σ {row.sigma:g} ({number[row]})" for row in best]
        lines.append([f"{radius:g}", *cells, *[""] * (PLACES - len(cells))])
    return markdown_table(["ε", *(f"{place}." for place in range(1, PLACES + 1))], lines)


def share(row: Row, radius: float) -> str:
    """Certified accuracy in percent and its 95 % interval; – beyond the largest radius of the log."""
    low, high = row.interval(radius)
    return f"{100 * row.share(radius):.1f} [{100 * low:.1f}, {100 * high:.1f}]" if radius <= row.largest_radius else "–"


def log(row: Row) -> str:
    """Where the log is, by the publication that it belongs to."""
    link = f"[{row.paper}](https://github.com/{row.repository}/blob/{row.commit}/{row.path})"
    return f"{link}, also in {row.also.split('@')[0]}" if row.also else link


def page(board: Path) -> str:
    """docs/leaderboard.md with the tables of this leaderboard."""
    rows, parts = read(board), []
    for dataset, title in DATASETS.items():
        there = [row for row in rows if row.dataset == dataset]
        parts += [f"## {title}, by ACR", by_acr(there), f"## {title}, at each radius", by_radius(there)]
    tables = "\n\n".join(parts)
    return PART.sub(lambda found: f"{found[1]}\n{tables}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    files.write_text(PAGE, page(BOARD))
