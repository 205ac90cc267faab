"""Networks whose distances to the boundary are known, and one that keeps what it was given."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transmooth.attacks.auto_pgd import auto_pgd
from transmooth.attacks.gradients import Loss, log_odds, margin
from transmooth.attacks.pgd import pgd
from transmooth.params.values import BallNorm

Attack = Callable[..., Tensor]


def descend(
    network: nn.Module, images: Tensor, labels: Tensor, begin: Tensor, epsilon: float, norm: BallNorm = "l2"
) -> Tensor:
    """PGD whose steps are the diameter: on a linear network a third of an angle is left after each."""
    return pgd(network, images, labels, begin, epsilon=epsilon, step=2 * epsilon, steps=20, norm=norm)


def automatic(loss: Loss) -> Attack:
    """AutoPGD on this loss."""

    def attack(
        network: nn.Module, images: Tensor, labels: Tensor, begin: Tensor, epsilon: float, norm: BallNorm = "l2"
    ) -> Tensor:
        return auto_pgd(network, images, labels, begin, epsilon=epsilon, steps=20, norm=norm, loss=loss)[0]

    return attack


# (network, images, labels, begin, epsilon, norm) → images
ATTACKS: dict[str, Attack] = {"pgd": descend, "apgd": automatic(log_odds), "apgd-margin": automatic(margin)}


def linear(scale: float = 1, classes: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A linear network of images [N, 3, 2, 2], to which the grey image looks like all classes alike."""
    layer = nn.Linear(12, classes)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(classes, 12, generator=torch.Generator().manual_seed(seed)))
        layer.bias.copy_(-layer.weight.sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer).to(dtype)


def pictures(count: int = 200, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images [count, 3, 2, 2] around the grey one, from which shifts up to 0.25 do not leave [0, 1]."""
    drawn = torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.5 + 0.08 * drawn).clamp(0.25, 0.75).to(dtype)


def weights(network: nn.Sequential) -> Tensor:
    """Of a linear network, [classes, 12]."""
    layer = network[1]
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach()


def worst(network: nn.Sequential, images: Tensor, labels: Tensor, epsilon: float, norm: BallNorm = "l2") -> Tensor:
    """The point of the highest loss within epsilon, of a linear network of two classes."""
    weight = weights(network)[1] - weights(network)[0]
    away = (1 - 2 * labels)[:, None] * weight  # from the label
    direction = away / weight.norm() if norm == "l2" else away.sign()
    return images + epsilon * direction.view(images.shape)


def distances(network: nn.Sequential, images: Tensor, labels: Tensor, norm: BallNorm = "l2") -> Tensor:
    """How far the nearest wrongly classified point is: min_j (z_y − z_j) / ‖w_y − w_j‖, in the dual norm; [N]."""
    logits, weight = network(images).detach(), weights(network)
    gaps = logits.gather(1, labels[:, None]) - logits
    dual = (weight[labels][:, None] - weight).norm(p=2 if norm == "l2" else 1, dim=2)
    found: Tensor = (gaps / dual).scatter(1, labels[:, None], torch.inf).amin(1)
    return found


def convolutional(seed: int = 0, dtype: torch.dtype = torch.float64, wild: float = 1) -> nn.Sequential:
    """A network of three classes, of images [N, 3, 4, 4], in train mode but for its norm.

    wild: how far it is from linear.
    """
    torch.manual_seed(seed)
    first, norm, last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(24, 3)
    with torch.no_grad():
        first.weight *= wild
        last.weight *= 6
    network = nn.Sequential(first, norm, nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), last).to(dtype)
    norm.eval()
    return network


class Spy(nn.Module):
    """Keeps what a network was given, and the modes of its modules then."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[Tensor] = []
        self.modes: list[list[bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        self.modes.append([module.training for module in self.modules()])
        answer: Tensor = self.network(images)
        return answer
