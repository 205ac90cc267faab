"""How far a training is: a bar, or lines of its log."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10  # between two lines of a log


@contextmanager
def progress(accelerator: Accelerator, lr: float, steps: int, done: int) -> Iterator[Callable[[int], None]]:
    """On the main process, images/s and time left: a bar on its terminal, or lines for the log.

    These are what runtime/terminal.py reads.
    """
    main, console = accelerator.is_main_process, Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    started = written = time.monotonic()
    images = 0

    def write_line(**speed: float) -> None:
        if main and not console.is_terminal:
            print(json.dumps({"lr": lr, "step": done, "of": steps} | speed), flush=True)

    with Progress(*columns, console=console, disable=not (main and console.is_terminal)) as bar:
        task = bar.add_task(f"lr {lr:g}", total=steps, completed=done, rate="")
        write_line()

        def advance(count: int) -> None:
            nonlocal done, images, written
            done, images, now = done + 1, images + count, time.monotonic()
            speed = images / (now - started)
            bar.update(task, advance=1, rate=f"{speed:.0f} images/s")
            if now - written > LINE_SECONDS:
                written = now
                write_line(images_per_second=round(speed, 1))

        yield advance
