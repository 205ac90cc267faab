"""The state that an interrupted training resumes from."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from transmooth import files


def new_state(job: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a training before its first step.

    job: whatever its result depends on.  `trial` counts the learning rates that are done; `sums`, by name, and
    `seconds` are those of the epoch so far.
    """
    return {
        "job": json.dumps(job, sort_keys=True),
        "trial": 0,
        "step": 0,
        "sums": {},
        "seconds": 0.0,
        "history": [],
        "best": None,
    }


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a running training: tensors and plain values.  Raises OSError, naming it, on a full disk."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    files.write_bytes(path, hashlib.sha256(content).digest() + content)


def load_state(path: Path, *jobs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state to resume from, or None where there is none of these jobs or it is damaged: then start anew."""
    if not path.is_file():
        return None
    stored = path.read_bytes()
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:  # torch itself does not look at the checksums in its files
        print(f"{path}: damaged, starting anew")
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if state.keys() < new_state({}).keys() or not isinstance(state["sums"], dict):
        print(f"{path}: of an older version, starting anew")
        return None
    return state if state["job"] in [json.dumps(job, sort_keys=True) for job in jobs] else None
