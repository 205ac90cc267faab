"""Which parameters learn, and which BatchNorm statistics move with what the network sees.

all                 every weight, and the statistics
frozen_statistics   every weight; the statistics stay
head                the head alone, on fixed features
head_moving         the head alone; the statistics move, and with them its features
lora                the head and low-rank corrections (see `lora`)
"""

from collections.abc import Callable

from torch.nn.modules.batchnorm import _BatchNorm

from transmooth.models.build import Network
from transmooth.models.denoiser import Denoiser
from transmooth.models.lora import add_lora
from transmooth.params.values import Trainable


def _all(network: Network | Denoiser) -> None:
    network.requires_grad_(True)


def _head(network: Network | Denoiser) -> None:
    if not isinstance(network, Network):
        raise ValueError("trainable: the head is not for a denoiser, which has none")
    network.requires_grad_(False)
    network.head.requires_grad_(True)


def _lora(network: Network | Denoiser) -> None:
    if not isinstance(network, Network):
        raise ValueError("trainable: lora is not for a denoiser")
    add_lora(network)


TRAINABLE: dict[Trainable, Callable[[Network | Denoiser], None]] = {
    "all": _all,
    "frozen_statistics": _all,
    "head": _head,
    "head_moving": _head,
    "lora": _lora,
}


def count_trained(network: Network | Denoiser, trainable: Trainable) -> int:
    """Return how many weights of a network learn; it is changed as for its training."""
    TRAINABLE[trainable](network)
    return sum(each.numel() for each in network.parameters() if each.requires_grad)


def set_train_mode(network: Network | Denoiser, trainable: Trainable) -> None:
    """Train mode, except for fixed features and frozen statistics: a BatchNorm in eval mode does not move them.

    With `lora` every module is in train mode, as with `all`: what comes before the head changes.
    """
    network.train()
    if trainable == "frozen_statistics":
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    if trainable == "head" and isinstance(network, Network):
        network.backbone.eval()
        network.head.train()
