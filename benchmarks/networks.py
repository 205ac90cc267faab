"""The networks that benchmarks run: random weights, ten or a thousand classes, images in [0, 1].

    resnet20, resnet110      He et al. (2016) at 32x32, as Cohen et al. certify
    resnet152                the mixed-noise paper's, at 32x32, with our layer norm
    layer, group, instance   our ResNet-18 at 32x32 by its norm; `batch` beside it
    resnet50, vit            ResNet-50 and ViT-B/16 at 224x224
    denoised                 a U-Net of 36 million weights at 32x32 (Ho et al. 2020) before a resnet110

`transmooth certify benchmarks.networks:resnet20 …` runs one of them.
"""

import math
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transmooth.models.build import Network, build
from transmooth.params.values import Norm
from transmooth.specs import NetworkSpec

SIGMA = 0.5
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """A basic block; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut = shortcut if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def cifar_resnet(depth: int) -> nn.Module:
    """The ResNet of 6n + 2 layers."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for out in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(Block(channels, out, 1 + (out != channels)))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def ours(norm: Norm, name: str = "resnet18") -> nn.Module:
    """A network of models/build.py."""
    spec = NetworkSpec(name=name, stem="cifar", norm=norm, groups=32, options={})
    return build(spec, 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Residual(nn.Module):
    """A block of the U-Net; `attention` over the pixels after it."""

    def __init__(self, channels: int, out: int, attention: bool = False) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(512, out)
        self.norm2, self.conv2 = nn.GroupNorm(32, out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.norm3 = nn.GroupNorm(32, out) if attention else None
        if attention:
            self.qkv, self.project = nn.Conv2d(out, 3 * out, 1), nn.Conv2d(out, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y))) + self.shortcut(x)
        if self.norm3 is None:
            return y  # type: ignore[no-any-return]
        q, k, v = self.qkv(self.norm3(y)).flatten(2).transpose(1, 2).chunk(3, 2)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return y + self.project(mixed.reshape(y.shape))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """The noise in images [B, 3, 32, 32]: DDPM's network for CIFAR-10, at one fixed time."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.stem, channels, skips = nn.Conv2d(3, width, 3, padding=1), width, [width]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, factor in enumerate((1, 2, 2, 2)):
            for _ in range(2):
                self.down.append(Residual(channels, factor * width, attention=level == 1))
                channels = factor * width
                skips.append(channels)
            if level < 3:
                self.down.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
        self.middle = nn.ModuleList([Residual(channels, channels, attention=True), Residual(channels, channels)])
        for level, factor in reversed(list(enumerate((1, 2, 2, 2)))):
            for _ in range(3):
                self.up.append(Residual(channels + skips.pop(), factor * width, attention=level == 1))
                channels = factor * width
            if level:
                self.up.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.norm, self.out = nn.GroupNorm(32, channels), nn.Conv2d(channels, 3, 3, padding=1)
        self.register_buffer("time", torch.randn(1, 512))

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.stem(x), []
        skips.append(x)
        for layer in self.down:
            x = layer(x, self.time) if isinstance(layer, Residual) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, self.time)
        for layer in self.up:
            if isinstance(layer, Residual):
                x = layer(torch.cat([x, skips.pop()], 1), self.time)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0))
        return self.out(F.silu(self.norm(x)))  # type: ignore[no-any-return]


class Denoised(nn.Module):
    """A classifier of what a U-Net leaves of noisy images."""

    def __init__(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.classifier = denoiser, classifier
        self.alpha = 1 / (1 + 4 * SIGMA**2)  # of the time with as much noise, on images in [-1, 1]

    def forward(self, images: Tensor) -> Tensor:
        x = math.sqrt(self.alpha) * (2 * images - 1)
        clean = (x - math.sqrt(1 - self.alpha) * self.denoiser(x)) / math.sqrt(self.alpha)
        return self.classifier((clean.clamp(-1, 1) + 1) / 2)  # type: ignore[no-any-return]


MAKERS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "resnet20": (32, lambda: cifar_resnet(20)),
    "resnet110": (32, lambda: cifar_resnet(110)),
    "batch": (32, lambda: ours("batch")),
    "layer": (32, lambda: ours("layer")),
    "group": (32, lambda: ours("group")),
    "instance": (32, lambda: ours("instance")),
    "resnet152": (32, lambda: ours("layer", "resnet152")),
    "resnet50": (224, lambda: Network(timm.create_model("resnet50"), *IMAGENET)),
    "vit": (224, lambda: Network(timm.create_model("vit_base_patch16_224"), *IMAGENET)),
    "denoised": (32, lambda: Denoised(UNet(), cifar_resnet(110))),
}


def make(name: str) -> nn.Module:
    """A network by its name, in eval mode, with running statistics of noisy images."""
    torch.manual_seed(0)
    size, maker = MAKERS[name]
    network = maker().train()
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        with torch.no_grad():
            for _ in range(3 if size > 32 else 10):
                noise = SIGMA * torch.randn(8 if size > 32 else 32, 3, size, size)
                network(torch.rand(noise.shape) + noise)
    return network.eval()


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name in MAKERS:
        return lambda: make(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
