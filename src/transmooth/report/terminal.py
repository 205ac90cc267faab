"""What a newcomer sees at the end of a run: the tables, and where everything is."""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from transmooth.plan import Plan


def show_results(plan: Plan, root: Path) -> None:
    """Print the tables of the study in this folder, where its files are, and what should be known of its pictures.

    root: the checkout.  What a terminal cannot show, as σ in ASCII, is shown by its number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    show(Path.cwd(), [*plan.tables, *plan.shifts], [*plan.figures, *plan.shifts, *plan.courses, *plan.gains])
    for manifest in filter(Path.is_file, (root / plan.prepared(dataset) for dataset in plan.datasets)):
        if note := shared_images(manifest):
            print(f"note: {note}")


def show(results: Path, tables: Iterable[str], figures: Iterable[str]) -> None:
    """Print the first part of each table that exists below `results`, then the paths of tables, figures, page."""
    from rich.markdown import Markdown  # not for each start of Snakemake

    console = Console()
    paths = [results / "tables" / f"{name}.md" for name in tables]
    for path in filter(Path.is_file, paths):
        title, *parts = path.read_text(encoding="utf-8").split("\n\n")
        rows = next(part for part in parts if part.startswith("|"))
        console.print(Markdown(f"{title}\n\n{rows}"))
    paths += [*(results / "figures" / f"{name}.svg" for name in figures), results / "report.html"]
    console.print(*filter(Path.is_file, paths), sep="\n")


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with rules on a terminal that is wide enough, else as plain columns.  Nothing is cut."""
    from rich.table import Table

    console = Console()
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if console.is_terminal and sum(widths) + 3 * len(widths) + 1 <= console.width:
        table = Table(*head, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    print(title)
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shared_images(manifest: Path) -> str | None:
    """Return a warning if some test images of a prepared set are training images too."""
    made = json.loads(manifest.read_bytes())
    if not (shared := made["duplicates_across_splits"]):
        return None
    return (
        f"{manifest.parent}: {shared} of {made['counts']['test']} test images are training or validation images too, "
        "pixel for pixel: what a network remembers counts as certified"
    )
