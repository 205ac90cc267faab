"""OpenAI's U-Nets against an implementation of their definition: Nichol and Dhariwal 2021, Dhariwal and Nichol 2021.

Module names give the state dicts the names of OpenAI's files.
"""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.models.denoiser import Denoiser, of_config
from transmooth.models.openai_unet import convert


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x))) · (1 + scale) + shift)), with scale and shift made of the time."""

    def __init__(self, width: int, out: int, time: int, resize: str = "") -> None:
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out))
        last = nn.Conv2d(out, out, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(), last)
        self.skip_connection = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resize == "down":
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        if self.resize == "up":
            h, x = (each.repeat_interleave(2, 2).repeat_interleave(2, 3) for each in (h, x))
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(time)[..., None, None].chunk(2, 1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        out: Tensor = self.skip_connection(x) + self.out_layers[1:](h)
        return out


class Attention(nn.Module):
    """x + projection of attention among pixels; of qkv's channels the first third of each head's is q, then k, v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        pixels = x.flatten(2)
        found = []
        for part in self.qkv(self.norm(pixels)).chunk(self.heads, 1):
            q, k, v = part.chunk(3, 1)
            share = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
            found.append(v @ share.transpose(1, 2))
        projected: Tensor = self.proj_out(torch.cat(found, 1))
        return x + projected.view_as(x)


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))  # type: ignore[no-any-return]


class First(nn.Conv2d):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Reference(nn.Module):
    """Images [B, 3, H, W] and times [B] → [B, 6, H, W].

    heads: of attention at a width.  resnet: whether residual blocks halve the image, as in guided-diffusion.
    """

    def __init__(self, width: int, times: list[int], layers: int, attended: list[int], resnet: bool) -> None:
        super().__init__()
        self.width, inner = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, inner))

        def attention(level: int, out: int) -> list[nn.Module]:
            return [Attention(out, out // 64 if resnet else 4)] if level in attended else []

        down: list[list[nn.Module]] = [[First(3, width, 3, padding=1)]]
        skips, now = [width], width
        for level, factor in enumerate(times):
            for _ in range(layers):
                down.append([Block(now, factor * width, inner), *attention(level, factor * width)])
                skips.append(now := factor * width)
            if level < len(times) - 1:
                down.append([Block(now, now, inner, "down") if resnet else Down(now)])
                skips.append(now)
        self.input_blocks = nn.ModuleList(map(nn.ModuleList, down))
        middle = [Block(now, now, inner), Attention(now, now // 64 if resnet else 4), Block(now, now, inner)]
        self.middle_block = nn.ModuleList(middle)
        up: list[list[nn.Module]] = []
        for level, factor in reversed([*enumerate(times)]):
            for layer in range(layers + 1):
                up.append([Block(now + skips.pop(), factor * width, inner), *attention(level, factor * width)])
                now = factor * width
                if level and layer == layers:
                    up[-1].append(Block(now, now, inner, "up") if resnet else Up(now))
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, up))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 6, 3, padding=1))

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        half = self.width // 2
        angles = times[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        kept = []
        for blocks in self.input_blocks:
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, time)
            kept.append(x)
        for block in self.middle_block:
            x = block(x, time)
        for blocks in self.output_blocks:
            x = torch.cat([x, kept.pop()], 1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, time)
        return self.out(x)  # type: ignore[no-any-return]


CIFAR10: dict[str, Any] = {"times": [1, 2, 2, 2], "layers": 3, "attended": [1, 2], "resnet": False}
GUIDED: dict[str, Any] = {"times": [1, 1, 2, 2, 4, 4], "layers": 2, "attended": [3, 4, 5], "resnet": True}


def reference(width: int, **shape: Any) -> Reference:
    """Such a net with random weights, those too that a training starts from 0, or from 1."""
    torch.manual_seed(0)
    made = Reference(width, **shape).eval()
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made.requires_grad_(False)


def converted(net: nn.Module) -> Denoiser:
    made = convert(net.state_dict())
    denoiser = of_config(made.unet, made.schedule, made.timestep_scale)
    denoiser.unet.load_state_dict(made.weights)
    return denoiser.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("width", "shape", "side"),
    [
        (32, CIFAR10, 16),
        (32, GUIDED, 32),
        (32, GUIDED | {"times": [1, 2, 4], "layers": 1, "attended": [1]}, 16),
        (64, GUIDED | {"times": [1, 3], "layers": 1, "attended": [0, 1]}, 8),
    ],
)
def test_a_converted_net_is_the_same_function(width: int, shape: dict[str, Any], side: int) -> None:
    net = reference(width, **shape)
    denoiser = converted(net)
    images = torch.randn(2, 3, side, side)
    for time in (0, 1, 145, 289.5, 702.25, 999):
        given = torch.tensor([time, 999 - time])
        ours = denoiser.unet(images, given).sample
        expected = net(images, given)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        # Of the 6 channels the last three are a variance.
        at = given / denoiser.timestep_scale
        torch.testing.assert_close(denoiser(images, at), expected[:, :3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("width", "shape", "parameters", "schedule", "scale"),
    [
        (128, CIFAR10, 52_546_438, {"num_train_timesteps": 4000, "beta_schedule": "squaredcos_cap_v2"}, 0.25),
        (256, GUIDED, 552_814_086, {"num_train_timesteps": 1000, "beta_schedule": "linear"}, 1.0),
    ],
)
def test_the_published_nets_are_known_by_their_shapes(
    width: int, shape: dict[str, Any], parameters: int, schedule: dict[str, Any], scale: float
) -> None:
    with torch.device("meta"):
        made = convert(Reference(width, **shape).state_dict())
        denoiser = of_config(made.unet, made.schedule, made.timestep_scale)
    denoiser.unet.load_state_dict(made.weights, assign=True)  # each name and shape is there
    assert sum(parameter.numel() for parameter in denoiser.unet.parameters()) == parameters
    assert (made.schedule, made.timestep_scale, made.unet["attention_head_dim"]) == (schedule, scale, 64)


def test_the_net_of_cifar_10_is_given_a_quarter_of_the_time() -> None:
    denoiser = converted(reference(32, **CIFAR10))
    given: list[Tensor] = []
    denoiser.unet.register_forward_pre_hook(lambda module, inputs: given.append(inputs[1]))
    for sigma in (0.25, 0.5, 1.0):
        denoiser.at(sigma)(torch.rand(1, 3, 8, 8))
    assert torch.cat(given).tolist() == [289.5, 496, 702.25]


def test_other_state_dicts_are_refused_in_one_line() -> None:
    with torch.device("meta"):
        cifar10 = Reference(32, **CIFAR10).state_dict()
        guided = Reference(32, **GUIDED).state_dict()
        deeper = Reference(32, **CIFAR10 | {"times": [1, 2, 3, 4]}).state_dict()
        first = Reference(32, **CIFAR10 | {"attended": [0, 1]}).state_dict()
        narrow = Reference(96, **GUIDED | {"times": [1, 1], "attended": [0]}).state_dict()
    label = {"label_emb.weight": torch.zeros(10, 128)}
    faults: list[tuple[dict[str, Tensor], str]] = [
        (cifar10 | label, "label_emb: a class-conditional model is no denoiser: it would know the class"),
        (guided | label, "label_emb: a class-conditional"),
        ({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "its first keys are conv1.weight, fc.bias"),
        ({}, "its first keys are none"),
        (deeper, "its levels have 32, 64, 96, 128 channels: of U-Nets that convolutions halve only that of CIFAR-10"),
        (first, "its levels have 32, 64, 64, 64 channels: of U-Nets that convolutions halve only"),
        (narrow, "heads of attention have 64 channels, which levels of 96, 96 channels cannot have"),
        (cifar10 | {"encoder.weight": torch.zeros(1)}, "encoder.weight: is no part of a U-Net"),
        (cifar10 | {"input_blocks.1.0.more.weight": torch.zeros(1)}, "input_blocks.1.0.more.weight: is no part of"),
        (
            cifar10 | {"input_blocks.99.0.in_layers.0.weight": torch.zeros(1)},
            "input_blocks.99.0.in_layers.0.weight: is",
        ),
    ]
    for state, message in faults:
        with pytest.raises(ValueError, match=re.escape(message)) as told:
            convert(state)
        assert "\n" not in str(told.value)
