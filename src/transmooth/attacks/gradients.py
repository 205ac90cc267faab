"""What attacks climb: losses of each image, and their gradients at its pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from transmooth.attacks.ball import widened

# (logits [N, K], labels [N] or other goals) → [N]
Loss = Callable[[Tensor, Tensor], Tensor]


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log((1 − p) / p), [N], of the labels' probabilities p: cross-entropy as an attack should see it.

    It rises with cross-entropy, −log p, and its gradient has the same direction.  But it does not vanish: where
    float32 rounds p to 1 cross-entropy is flat, and an attack on it would call such an image robust.
    """
    right = logits.gather(1, labels[:, None])
    return (_wrong(logits, labels).logsumexp(1, keepdim=True) - right)[:, 0]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return max_{j≠y} z_j − z_y, [N], of logits z and labels y: above 0 exactly where the answer is wrong."""
    right = logits.gather(1, labels[:, None])
    return (_wrong(logits, labels).amax(1, keepdim=True) - right)[:, 0]


def _wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(1, labels[:, None], -torch.inf)


def slope(network: nn.Module, points: Tensor, goals: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits [N, K], losses [N] and gradients [N, 3, H, W] at these images, without a graph.

    The gradient is of the sum of the losses: that of an image is its own, whatever else is in the batch.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        logits = widened(network(points))
        losses = loss(logits, goals)
        (gradient,) = torch.autograd.grad(losses.sum(), points)
    return logits.detach(), losses.detach(), widened(gradient)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back into its own: fixed features are in eval mode while a head trains."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
