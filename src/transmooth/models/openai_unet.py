"""OpenAI's U-Nets, of improved-diffusion and guided-diffusion, as the same function in diffusers' UNet2DModel.

Their files are flat state dicts without a configuration, so what a net is stands in its shapes, but for two things: the
heads of its attention and its schedule.  These are what was published:

    cifar10_uncond_50M_500K.pt       convolutions halve the image; 4 heads; cosine, T = 4000, and the net is given t / 4
    256x256_diffusion_uncond.pt      residual blocks halve it; heads of 64 channels; linear, T = 1000

Of the first kind other nets had other heads and schedules, and so it must have the levels of that one: w, 2w, 2w, 2w
channels.  Of the second kind any levels will do.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# Of a network: their names of layers, and those of diffusers.
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
# Of a residual block, of attention, of what halves and doubles the image by a convolution.
PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}
MIDDLE = {
    f"middle_block.{at}": f"mid_block.{name}" for at, name in enumerate(("resnets.0", "attentions.0", "resnets.1"))
}


@dataclass(frozen=True)
class Converted:
    """A U-Net: what `denoiser.of_config` makes it from, and the weights by the names of diffusers."""

    unet: dict[str, Any]
    schedule: dict[str, Any]
    timestep_scale: float
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Levels:
    """What of a U-Net is read from its shapes.

    widths: channels of each level, from the image down.  attended: whether a level has attention.  layers: residual
    blocks of a level on the way down.  resnet: whether residual blocks, not convolutions, halve and double the image.
    """

    widths: tuple[int, ...]
    attended: tuple[bool, ...]
    layers: int
    resnet: bool

    @property
    def head(self) -> int:
        """Channels of a head of attention.  Raises ValueError where they are not known."""
        attended = {self.widths[-1], *(w for w, attends in zip(self.widths, self.attended, strict=True) if attends)}
        found = ", ".join(map(str, self.widths))
        if self.resnet:
            if any(width % 64 for width in attended):
                raise ValueError(f"heads of attention have 64 channels, which levels of {found} channels cannot have")
            return 64
        first = self.widths[0]
        if self.widths != (first, *(2 * first,) * 3) or self.attended[0]:
            raise ValueError(
                f"its levels have {found} channels: of U-Nets that convolutions halve only that of CIFAR-10 is known, "
                "with w, 2w, 2w, 2w; a folder of diffusers can hold any"
            )
        return self.widths[-1] // 4


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return a U-Net of OpenAI's as one of diffusers'.

    Raises ValueError, in one line, if the state dict is of another kind or of a class-conditional U-Net, or if its
    heads or schedule are unknown.
    """
    needed = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight", "out.2.weight")
    if not all(name in state for name in (*needed, "output_blocks.0.0.out_layers.3.weight")):
        shown = ", ".join(list(state)[:4]) or "none"
        raise ValueError(
            f"should hold a U-Net as OpenAI's are saved (time_embed.0.weight, …), its first keys are {shown}"
        )
    if any(name.startswith("label_emb.") for name in state):
        raise ValueError("label_emb: a class-conditional model is no denoiser: it would know the class")
    levels = _levels(state)
    head = levels.head
    kind = "resnet" if levels.resnet else "conv"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if levels.resnet else ("DownBlock2D", "UpBlock2D")
    unet: dict[str, Any] = {
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "block_out_channels": list(levels.widths),
        "layers_per_block": levels.layers,
        "down_block_types": ["AttnDownBlock2D" if attends else plain[0] for attends in levels.attended],
        "up_block_types": ["AttnUpBlock2D" if attends else plain[1] for attends in reversed(levels.attended)],
        "downsample_type": kind,
        "upsample_type": kind,
        "downsample_padding": 1,
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": head,
        "attn_norm_num_groups": 32,  # else the attention in the middle has no norm
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }
    cosine = {"num_train_timesteps": 4000, "beta_schedule": "squaredcos_cap_v2"}
    linear = {"num_train_timesteps": 1000, "beta_schedule": "linear"}
    weights = dict(_renamed(state, dict(_blocks(levels)), head))
    return Converted(unet, linear if levels.resnet else cosine, 1.0 if levels.resnet else 0.25, weights)


def _levels(state: Mapping[str, Tensor]) -> Levels:
    """Return what the way up tells: there the last block of a level, and only it, ends in what doubles the image."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("output_blocks."))
    doubled = [name for name in state if re.fullmatch(r"output_blocks\.\d+\.[12]\.(conv|in_layers\.0)\.weight", name)]
    levels = len(doubled) + 1
    each = blocks // levels
    widths, attended = list[int](), list[bool]()
    for first in range(0, each * levels, each):
        made = state.get(f"output_blocks.{first}.0.out_layers.3.weight")
        if made is None:
            raise ValueError(f"output_blocks.{first}.0: should be a residual block, and is none")
        widths.insert(0, made.shape[0])
        attended.insert(0, f"output_blocks.{first}.1.qkv.weight" in state)
    return Levels(tuple(widths), tuple(attended), each - 1, any("in_layers" in name for name in doubled))


def _blocks(levels: Levels) -> Iterator[tuple[str, str]]:
    """Yield the name of every block there and in diffusers."""
    yield from MIDDLE.items()
    count = len(levels.widths)
    at = 1  # input_blocks.0 is the first convolution
    for level in range(count):
        for layer in range(levels.layers):
            yield f"input_blocks.{at}.0", f"down_blocks.{level}.resnets.{layer}"
            yield f"input_blocks.{at}.1", f"down_blocks.{level}.attentions.{layer}"
            at += 1
        if level < count - 1:
            yield f"input_blocks.{at}.0", f"down_blocks.{level}.downsamplers.0"
            at += 1
    at = 0
    for up, attends in enumerate(reversed(levels.attended)):
        for layer in range(levels.layers + 1):
            yield f"output_blocks.{at}.0", f"up_blocks.{up}.resnets.{layer}"
            if attends:
                yield f"output_blocks.{at}.1", f"up_blocks.{up}.attentions.{layer}"
            at += 1
        if up < count - 1:
            yield f"output_blocks.{at - 1}.{1 + attends}", f"up_blocks.{up}.upsamplers.0"


def _renamed(state: Mapping[str, Tensor], blocks: Mapping[str, str], head: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by their names in diffusers.  Raises ValueError for a name that is not of such a U-Net."""
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        parts = re.match(r"(\w+_blocks?(?:\.\d+)+)\.(\D.*)", layer)
        if layer in ENDS:
            yield f"{ENDS[layer]}.{leaf}", value
        elif parts and parts[1] in blocks and parts[2] == "qkv":
            # Rows are q, k, v of the first head, then of the next one; a 1x1 convolution there, a linear layer here.
            rows = value.flatten(1) if value.dim() > 1 else value
            for at, which in enumerate("qkv"):
                mine = rows.reshape(-1, 3, head, *rows.shape[1:])[:, at].reshape(-1, *rows.shape[1:])
                yield f"{blocks[parts[1]]}.to_{which}.{leaf}", mine
        elif parts and parts[1] in blocks and parts[2] in PARTS:
            attention = parts[2] == "proj_out" and value.dim() > 1
            yield f"{blocks[parts[1]]}.{PARTS[parts[2]]}.{leaf}", value.flatten(1) if attention else value
        else:
            raise ValueError(f"{name}: is no part of a U-Net as OpenAI's are saved")
