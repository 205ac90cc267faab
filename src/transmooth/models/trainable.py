"""Which parameters learn: the full network, the head alone on fixed features, or the head and low-rank corrections."""

from collections.abc import Callable

from transmooth.models.build import Network
from transmooth.models.lora import add_lora


def _all(network: Network) -> None:
    network.requires_grad_(True)


def _head(network: Network) -> None:
    network.requires_grad_(False)
    network.head.requires_grad_(True)


TRAINABLE: dict[str, Callable[[Network], None]] = {"all": _all, "head": _head, "lora": add_lora}


def set_train_mode(network: Network, trainable: str) -> None:
    """Train mode, except that fixed features stay in eval mode: a frozen BatchNorm must not move its statistics.

    With `lora` every module is in train mode, as with `all`: what comes before the head changes.
    """
    network.train()
    if trainable == "head":
        network.backbone.eval()
        network.head.train()
