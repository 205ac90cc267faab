"""Where the processor waits for a GPU."""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import transmooth

SOURCES = Path(transmooth.__file__).parent


@contextmanager
def waits(device: torch.device) -> Iterator[Counter[str]]:
    """How often it does, by the innermost line of transmooth: what PyTorch warns of."""
    found: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "called a synchronizing" in str(message):
            frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(SOURCES)]
            where = f"{Path(frames[-1].filename).relative_to(SOURCES)}:{frames[-1].lineno}" if frames else "elsewhere"
            found[where] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
