"""Checkpoints: weights (safetensors) beside a readable card (JSON), and the state that an interrupted run resumes from.

<folder>/model.safetensors   the weights, nothing that can execute
<folder>/model.json          the card: what the network is, how it was made, what it reaches
<folder>/resume.pt           only while a training runs; tensors and plain values, read with weights_only
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from transmooth import files
from transmooth.models import Network, build


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another kind.  The message names the file."""


def save(folder: Path, network: Network, card: dict[str, Any]) -> None:
    """Write weights, then the card that names their hash; each file whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    card = card | {"weights_sha256": files.sha256(folder / "model.safetensors")}
    files.write_text(folder / "model.json", json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a checkpoint.  Raises CheckpointError when it is missing or not JSON."""
    path = folder / "model.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such card; a checkpoint is a folder with it and model.safetensors") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not a card: {error}") from error
    return card


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild the network of a checkpoint, in eval mode on the CPU, and return it with its card.

    Raises CheckpointError when a file is missing, its hash is not the card's, or the weights do not fit the network.
    """
    card, path = read_card(folder), folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if (found := files.sha256(path)) != card["weights_sha256"]:
        raise CheckpointError(f"{path}: damaged: its SHA-256 is {found}, the card says {card['weights_sha256']}")
    network = build(card["network"], len(card["classes"]), card["mean"], card["std"])
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: does not fit {card['network']['name']}: {error}") from error
    return network.eval(), card


def new_state(job: dict[str, Any]) -> dict[str, Any]:
    """The state of a training before its first step.

    job: whatever its result depends on.  `trial` counts the learning rates that are done; `sums` and `seconds` are
    those of the epoch so far.
    """
    return {
        "job": json.dumps(job, sort_keys=True),
        "trial": 0,
        "step": 0,
        "sums": [0.0] * 3,
        "seconds": 0.0,
        "history": [],
        "best": None,
    }


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a running training: tensors and plain values."""
    with files.replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, job: dict[str, Any]) -> dict[str, Any] | None:
    """The state to resume from, or None when there is none, or none of this job, or it is damaged: then start anew."""
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; whichever it is, the file is of no use
        print(f"{path}: damaged ({type(error).__name__}), starting anew")
        return None
    return state if state.get("job") == json.dumps(job, sort_keys=True) else None
