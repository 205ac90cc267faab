"""The four normalisation layers that the mixed-noise paper compares (Section 4.3, Table 6).

All four have one weight and one bias per channel, so that they differ in nothing but the statistics:

    batch     over the batch, height and width, per channel     (E over B, H, W)
    instance  over height and width, per channel                (E over H, W)
    group     over a group of channels, height and width        (E over C/G, H, W)
    layer     over all channels, height and width               (E over C, H, W): a group norm with one group

and `own`, the network's as timm has them, which are of another kind in a transformer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NormLayer = Callable[..., nn.Module]


# A CPU's kernel for channels-last goes through each group of fewer channels one by one, where images are this small.
_PIXELS, _CHANNELS = 1024, 16


class GroupNorm(nn.GroupNorm):
    """PyTorch's group norm, up to 30 times faster on a CPU where the memory is channels-last.

    What comes out is in the order of what came in: the layers after it are slow where the orders are mixed.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.num_groups == 1 or not _channels_last(input) or input.is_cuda or self._kernel_is_fast(input):
            return super().forward(input)
        if torch.compiler.is_compiling():
            return self._by_channels(input)
        return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)

    def _kernel_is_fast(self, input: Tensor) -> bool:
        # With gradients the copies stay: another order of sums would train other weights.
        large = input.shape[-2:].numel() >= _PIXELS or self.num_channels // self.num_groups >= _CHANNELS
        return large and not torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def _by_channels(self, input: Tensor) -> Tensor:
        """The same, for a compiler: sums over pixels channel by channel, then over the channels of a group.

        Inductor makes one loop in the order of memory of the sums, and one of scale and shift and what follows them.
        Products of matrices stand between, which it does not fuse: it would find each group's statistics again for
        each pixel.
        """
        images, channels, height, width = input.shape
        share = channels // self.num_groups
        features = input.permute(0, 2, 3, 1).reshape(images, height * width, channels).float()
        groups = torch.eye(self.num_groups, device=input.device).repeat_interleave(share, 1)  # [groups, channels]
        size = height * width * share
        mean = features.sum(1) @ groups.T / size
        variance = features.square().sum(1) @ groups.T / size - mean.square()
        scale = torch.rsqrt(variance.clamp_min(0) + self.eps)
        if self.affine:
            weight, bias = groups * self.weight.float(), self.bias.float()
        else:
            weight, bias = groups, features.new_zeros(())
        normalised = features * (scale @ weight)[:, None] + (bias - (mean * scale) @ weight)[:, None]
        return normalised.to(input.dtype).view(images, height, width, channels).permute(0, 3, 1, 2)


def _channels_last(input: Tensor) -> bool:
    """Whether images lie in memory as height x width x channels, and not in the usual order."""
    return input.ndim == 4 and not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)


def _grouped(groups: int | None) -> NormLayer:
    """Group norm over `groups` groups, or over one group per channel for None."""

    def layer(channels: int, **factory: Any) -> nn.GroupNorm:
        return GroupNorm(groups or channels, channels, **factory)

    return layer


NORMS: dict[str, Callable[[int], NormLayer | None]] = {
    "batch": lambda groups: nn.BatchNorm2d,
    "instance": lambda groups: _grouped(None),
    "group": _grouped,
    "layer": lambda groups: _grouped(1),
    "own": lambda groups: None,
}


def create_norm(norm: str, groups: int) -> NormLayer | None:
    """Return a constructor (channels) -> layer, None for the network's own.

    `groups` is read by `group` alone and must divide every channel count.
    """
    return NORMS[norm](groups)
