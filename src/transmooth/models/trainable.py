"""Which parameters learn: the full network, the head alone on fixed features, or the head and low-rank corrections."""

from collections.abc import Callable

from transmooth.models.build import Network
from transmooth.models.denoiser import Denoiser
from transmooth.models.lora import add_lora


def _all(network: Network | Denoiser) -> None:
    network.requires_grad_(True)


def _head(network: Network | Denoiser) -> None:
    if not isinstance(network, Network):
        raise ValueError("trainable: head is not for a denoiser, which has none")
    network.requires_grad_(False)
    network.head.requires_grad_(True)


def _lora(network: Network | Denoiser) -> None:
    if not isinstance(network, Network):
        raise ValueError("trainable: lora is not for a denoiser")
    add_lora(network)


TRAINABLE: dict[str, Callable[[Network | Denoiser], None]] = {"all": _all, "head": _head, "lora": _lora}


def count_trained(network: Network | Denoiser, trainable: str) -> int:
    """Return how many weights of a network learn; it is changed as for its training."""
    TRAINABLE[trainable](network)
    return sum(each.numel() for each in network.parameters() if each.requires_grad)


def set_train_mode(network: Network | Denoiser, trainable: str) -> None:
    """Train mode, except that fixed features stay in eval mode: a frozen BatchNorm must not move its statistics.

    With `lora` every module is in train mode, as with `all`: what comes before the head changes.
    """
    network.train()
    if trainable == "head" and isinstance(network, Network):
        network.backbone.eval()
        network.head.train()
