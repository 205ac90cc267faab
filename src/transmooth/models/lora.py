"""Low-rank adaptation: a vision transformer learns a small correction of its queries and values, and a head.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), with alpha = rank.
"""

import math

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional

from transmooth.models.build import Network


class LowRank(nn.Linear):
    """Tokens x [..., D] -> qkv(x) + [B_q A_q x; 0; B_v A_v x], [..., 3 D].

    A [rank, D] is Kaiming-uniform, B [D, rank] is 0 at first: it starts as the layer that it replaces, whose weight and
    bias it has under their names.
    """

    def __init__(self, qkv: nn.Linear, rank: int) -> None:
        super().__init__(qkv.in_features, qkv.out_features, bias=qkv.bias is not None, device="meta")
        self.weight, self.bias = qkv.weight, qkv.bias
        down, up = (rank, qkv.in_features), (qkv.out_features // 3, rank)
        self.a_q, self.a_v = (nn.Parameter(qkv.weight.new_empty(down)) for _ in "qv")
        self.b_q, self.b_v = (nn.Parameter(qkv.weight.new_zeros(up)) for _ in "qv")
        for a in (self.a_q, self.a_v):
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        q = functional.linear(functional.linear(input, self.a_q), self.b_q)
        v = functional.linear(functional.linear(input, self.a_v), self.b_v)
        return super().forward(input) + torch.cat([q, torch.zeros_like(q), v], dim=-1)

    def merged(self) -> Tensor:
        """Return the weight of the plain layer that does the same."""
        q, v = self.b_q @ self.a_q, self.b_v @ self.a_v
        return self.weight + torch.cat([q, torch.zeros_like(q), v])


def add_lora(network: Network, rank: int = 4) -> None:
    """Freeze the network but for its head and for new low-rank corrections of q and v in every block.

    Seed torch before the call.  Raises ValueError unless the attention is that of timm's
    VisionTransformer: one layer makes q, k and v.
    """
    blocks = [module for module in network.modules() if isinstance(module, Attention)]
    if not blocks:
        raise ValueError(f"trainable: lora fits timm's vision transformers; {type(network.backbone).__name__} is none")
    network.requires_grad_(False)
    network.head.requires_grad_(True)
    for block in blocks:
        block.qkv = LowRank(block.qkv, rank)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with low-rank corrections added into the weights: the names of a network without them."""
    state: dict[str, Tensor] = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, LowRank):
            state[f"{name}.weight"] = module.merged().detach()
            for own in ("a_q", "a_v", "b_q", "b_v"):
                del state[f"{name}.{own}"]
    return state
