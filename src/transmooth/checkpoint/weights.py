"""The weights of a checkpoint, and the network that they and the card make up."""

import math
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import ValidationError

from transmooth import files
from transmooth.checkpoint.card import CheckpointError, read_card, write_card
from transmooth.models.build import Network, create
from transmooth.models.check import FAULTS, planned
from transmooth.models.denoiser import Denoiser
from transmooth.specs import NetworkSpec


def save(folder: Path, network: Network | Denoiser, card: dict[str, Any]) -> None:
    """Write weights, then the card that names their hash; each file whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    write_card(folder, card | {"weights_sha256": files.sha256(folder / "model.safetensors")})


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild the classifier of a checkpoint as `load_any` does.  Raises CheckpointError for one without classes.

    It is the network alone: a denoiser before it is another checkpoint (see `loading.denoisers.load_classifier`).
    """
    network, card = load_network(folder)
    assert network.spec is not None
    if network.spec.head is not None:
        raise CheckpointError(f"{folder}: was pretrained without classes; finetune it first")
    return network, card


def load_network(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Rebuild what a finetuning starts from: a classifier, or a network that was pretrained without classes.

    Raises CheckpointError for a denoiser's checkpoint, and as `load_any`.
    """
    network, card = load_any(folder)
    if not isinstance(network, Network):
        raise CheckpointError(f"{folder}: is a denoiser; a classifier takes it by --denoiser {folder}")
    return network, card


def load_any(folder: Path) -> tuple[Network | Denoiser, dict[str, Any]]:
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
    network = _described(card, folder)
    try:
        weights = safetensors.torch.load_file(path)
        network.load_state_dict(weights)
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]  # torch lists every tensor
        raise CheckpointError(f"{path}: does not fit {card['network']['name']}: {reason}") from error
    if broken := next((name for name, tensor in weights.items() if tensor.isnan().any()), None):
        raise CheckpointError(f"{path}: the weights are NaN ({broken}): the training diverged")
    return network.eval(), card


def _described(card: dict[str, Any], folder: Path) -> Network | Denoiser:
    """Return the network of a card, whose weights are still to come; it is no larger than the file of these."""
    where = f"{folder / 'model.json'}: describes no network"
    try:
        with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118  (it is no dict)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{folder / 'model.safetensors'}: not weights: {error}") from error
    try:
        described = NetworkSpec.of(card["network"])
        network = described.model_copy(update={"weights": "random"})
        # Twice as many: a stem that is replaced counts too.
        planned(network, len(card["classes"]), 2 * len(shapes), 2 * sum(map(math.prod, shapes)))
        built = create(network, len(card["classes"]), card["mean"], card["std"])
        built.spec = described
        return built
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, ("network", *detail["loc"])))
        raise CheckpointError(f"{where}: {key}: {detail['msg']}") from error
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error
    except FAULTS as error:
        raise CheckpointError(f"{where}: {type(error).__name__}: {error}") from error
