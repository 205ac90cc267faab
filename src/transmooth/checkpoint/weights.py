"""The weights of a checkpoint, and the network that they and the card make up."""

from pathlib import Path
from typing import Any

import safetensors.torch
import timm

from transmooth import files
from transmooth.checkpoint.card import CheckpointError, read_card, write_card
from transmooth.models import Network, build


def save(folder: Path, network: Network, card: dict[str, Any]) -> None:
    """Write weights, then the card that names their hash; each file whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    write_card(folder, card | {"weights_sha256": files.sha256(folder / "model.safetensors")})


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild the network of a checkpoint, in eval mode on the CPU, and return it with its card.

    Raises CheckpointError when a file is missing, its hash is not the card's, the card describes no network, or the
    weights do not fit it or are NaN.
    """
    card, path = read_card(folder), folder / "model.safetensors"
    needed = {"network", "classes", "mean", "std", "weights_sha256"}
    if not isinstance(card, dict) or not needed <= card.keys():
        raise CheckpointError(f"{folder / 'model.json'}: not a card: it should name {', '.join(sorted(needed))}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if (found := files.sha256(path)) != card["weights_sha256"]:
        raise CheckpointError(
            f"{path}: damaged: its SHA-256 is {found}, the card says {card['weights_sha256']}; "
            "remove it, and the same command trains again"
        )
    network = _described(card, folder / "model.json")
    try:
        weights = safetensors.torch.load_file(path)
        network.load_state_dict(weights)
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]  # torch lists every tensor
        raise CheckpointError(f"{path}: does not fit {card['network']['name']}: {reason}") from error
    if broken := next((name for name, tensor in weights.items() if tensor.isnan().any()), None):
        raise CheckpointError(f"{path}: the weights are NaN ({broken}): the training diverged")
    return network.eval(), card


def _described(card: dict[str, Any], path: Path) -> Network:
    """The network of a card, whose weights are still to come."""
    try:
        # timm takes names of a hub and of local folders too, and would fetch what they name.
        if not timm.is_model(card["network"]["name"]):
            raise ValueError(f"network.name: timm has no {card['network']['name']!r}")
        return build(card["network"] | {"official": False}, len(card["classes"]), card["mean"], card["std"])
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:  # timm passes on any of these
        raise CheckpointError(f"{path}: describes no network: {type(error).__name__}: {error}") from error
