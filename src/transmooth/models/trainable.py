"""Which parameters learn: the full network, or the head alone on fixed features."""

from collections.abc import Callable

from transmooth.models.build import Network
from transmooth.models.denoiser import Denoiser


def _all(network: Network | Denoiser) -> None:
    network.requires_grad_(True)


def _head(network: Network | Denoiser) -> None:
    if not isinstance(network, Network):
        raise ValueError("trainable: head is not for a denoiser, which has none")
    network.requires_grad_(False)
    network.head.requires_grad_(True)


TRAINABLE: dict[str, Callable[[Network | Denoiser], None]] = {"all": _all, "head": _head}


def set_train_mode(network: Network | Denoiser, trainable: str) -> None:
    """Train mode, except that fixed features stay in eval mode: a frozen BatchNorm must not move its statistics."""
    network.train()
    if trainable == "head" and isinstance(network, Network):
        network.backbone.eval()
        network.head.train()
