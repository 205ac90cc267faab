"""What a schedule of the params names: optimizers, precisions, and the course of the learning rate."""

import math
from collections.abc import Callable

import torch
from torch import nn

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay, fused=True),
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True),
}
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """The factor on the peak learning rate: linear warm-up over `warmup` steps, then a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
