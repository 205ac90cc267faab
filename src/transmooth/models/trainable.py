"""Which parameters learn: the full network, or the head alone on fixed features."""

from collections.abc import Callable

from transmooth.models.build import Network


def _all(network: Network) -> None:
    network.requires_grad_(True)


def _head(network: Network) -> None:
    network.requires_grad_(False)
    network.head.requires_grad_(True)


TRAINABLE: dict[str, Callable[[Network], None]] = {"all": _all, "head": _head}


def set_train_mode(network: Network, trainable: str) -> None:
    """Train mode, except that fixed features stay in eval mode: a frozen BatchNorm must not move its statistics."""
    network.train()
    if trainable == "head":
        network.backbone.eval()
        network.head.train()
