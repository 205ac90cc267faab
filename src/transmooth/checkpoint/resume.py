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
    try:
        state = _read(path)
    except ValueError as fault:
        print(f"{path}: {fault}, starting anew")
        return None
    return state if state["job"] in [json.dumps(job, sort_keys=True) for job in jobs] else None


def job_of(path: Path) -> dict[str, Any] | None:
    """Return the job that a state is of, or None where there is none that could be resumed."""
    try:
        job: dict[str, Any] = json.loads(_read(path)["job"])
    except (FileNotFoundError, ValueError):
        return None
    return job


def _read(path: Path) -> dict[str, Any]:
    stored = path.read_bytes()
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:  # torch itself does not look at the checksums in its files
        raise ValueError("damaged")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if state.keys() < new_state({}).keys() or not isinstance(state["sums"], dict):
        raise ValueError("of an older version")
    return state
