"""What a schedule of the params names: optimizers, precisions, and the course of learning rate and weight decay."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from transmooth.models.build import Network
from transmooth.specs import ScheduleSpec

OPTIMIZERS: dict[str, Callable[[Any, float, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay, fused=True),
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True),
}
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def create_optimizer(network: nn.Module, schedule: ScheduleSpec, lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of the parameters that learn.

    With a `layer_decay` each layer has its own share of the learning rate: layer_decay^k for the k-th from the last.
    Biases and norms then have no weight decay.  timm does the same (Clark et al. 2020, "ELECTRA").
    """
    if schedule.layer_decay is None:
        parameters: Any = [parameter for parameter in network.parameters() if parameter.requires_grad]
    else:
        from timm.optim import param_groups_layer_decay

        backbone = network.backbone if isinstance(network, Network) else network
        parameters = param_groups_layer_decay(backbone, schedule.weight_decay, layer_decay=schedule.layer_decay)
    return OPTIMIZERS[schedule.optimizer](parameters, lr, schedule.weight_decay)


class Course:
    """Learning rate and weight decay at each step of a schedule.

    epoch_steps: of an epoch.  A schedule that is planned for more epochs than it has (`of_epochs`) ends on the way.
    """

    def __init__(self, schedule: ScheduleSpec, epoch_steps: int) -> None:
        self.steps = (schedule.of_epochs or schedule.epochs) * epoch_steps
        self.warmup = schedule.warmup_epochs * epoch_steps
        self.decay, self.decay_end = schedule.weight_decay, schedule.weight_decay_end

    def set(self, optimizer: torch.optim.Optimizer, lr: float, step: int) -> None:
        """Set what a step is taken with; lr: the peak."""
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate(step, self.steps, self.warmup) * group.get("lr_scale", 1.0)
            if self.decay_end is not None and group["weight_decay"]:  # biases and norms have none
                share = 0.5 * (1 - math.cos(math.pi * step / max(1, self.steps)))
                group["weight_decay"] = self.decay + (self.decay_end - self.decay) * share


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """The factor on the peak learning rate: linear warm-up over `warmup` steps, then a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
