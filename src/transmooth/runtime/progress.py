"""Show how far an evaluation is: by a bar on a terminal, elsewhere by a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

EVERY = 10.0  # seconds between two lines
# What is good of a row, by the words for it.
GOOD: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "certified at 0": lambda row: row["prediction"] == row["label"],
    "robust": lambda row: bool(row["robust"]),
}

Rows = Sequence[Mapping[str, Any]]
# (new rows, number of all): the first call has what an earlier run had done.
Show = Callable[[Rows, int], None]


@contextmanager
def telling(quiet: bool = False, good: str = "certified at 0") -> Iterator[Show]:
    """Give a function that shows rows as they are finished, on standard error; nothing if `quiet`.

    good: a key of GOOD: the share of such rows is shown.
    """
    if quiet:
        yield lambda rows, total: None
    elif sys.stderr.isatty():
        with _bar(good) as show:
            yield show
    else:
        yield _lines(good)


def duration(seconds: float) -> str:
    """Return a time in words: 40 s, 5 min, 3.2 h, 4.0 days."""
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 60):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def _lines(good: str) -> Show:
    started = shown_at = time.monotonic()
    done = new = right = calls = 0

    def show(rows: Rows, total: int) -> None:
        nonlocal started, shown_at, done, new, right, calls
        now = time.monotonic()
        if not calls:  # what came before was reading and timing the network
            started = shown_at = now
        done, calls = done + len(rows), calls + 1
        new += len(rows) if calls > 1 else 0
        right += sum(map(GOOD[good], rows))
        if new and (now - shown_at >= EVERY or done == total):
            shown_at = now
            left = duration((now - started) / new * (total - done))
            rest = f", {left} left" if done < total else f" in {duration(now - started)}"
            print(f"{done} of {total} images{rest}, {right / done:.1%} {good}", file=sys.stderr, flush=True)

    return show


@contextmanager
def _bar(good: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = f"{{task.fields[speed]}} images/s, {good}: {{task.fields[share]}}"
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn(text))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, right, calls = bar.add_task("", speed="-", share="-"), 0, 0

        def show(rows: Rows, total: int) -> None:
            nonlocal right, calls
            right += sum(map(GOOD[good], rows))
            if not calls:  # what an earlier call has done says nothing about the speed
                bar.reset(task, total=total, completed=len(rows))
            else:
                bar.advance(task, len(rows))
            calls += 1
            state = bar.tasks[0]
            speed = f"{state.speed:.2f}" if state.speed else "-"
            bar.update(task, speed=speed, share=f"{right / state.completed:.1%}" if state.completed else "-")

        yield show
