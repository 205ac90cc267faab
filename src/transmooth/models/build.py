"""Build a base classifier: resize -> normalise -> timm backbone, with the paper's norm layer, stem and head."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.models.denoiser import UNET, Denoiser, build_denoiser
from transmooth.models.norms import create_norm
from transmooth.models.published import load, source
from transmooth.params.values import Head, Stem
from transmooth.specs import NetworkSpec


class Network(nn.Module):
    """Images [B, 3, H, W] in [0, 1] -> logits [B, classes].

    The normalisation lives inside, so noise that a caller adds is noise in the [0, 1] image, where radii are measured.
    Its mean and std are those of the set the network was first trained on, and stay with the weights on transfer.
    size: the side that images are resized to, inside too: noise is added, and removed, at their own.
    """

    mean: Tensor
    std: Tensor
    spec: NetworkSpec | None = None  # what it was built from, where `build` did

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float], size: int | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.size = backbone, size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone((resize(images, self.size) - self.mean) / self.std)
        return logits

    @property
    def head(self) -> nn.Module:
        """The last fully connected layer, or one of HEADS: what transfer replaces and fixed features train."""
        head = self.backbone.get_classifier()  # type: ignore[operator]
        assert isinstance(head, nn.Linear | Projection)
        return head

    def reset_head(self, classes: int, head: Head | None = None) -> None:
        """Drop the head, and put a new random one in its place.

        It is a fully connected layer for `classes` classes, or one of HEADS.  What the network says that it was built
        from has it too.
        """
        self.backbone.reset_classifier(classes)  # type: ignore[operator]
        if head is not None:
            HEADS[head](self.backbone)
        if self.spec is not None:
            self.spec = self.spec.model_copy(update={"head": head})


class Projection(nn.Sequential):
    """Features [B, F] -> F, rectified -> PROJECTED, where SimCLR compares them (Chen et al. 2020, Section 4.2)."""

    def __init__(self, features: int) -> None:
        super().__init__(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, PROJECTED))


def resize(images: Tensor, size: int | None) -> Tensor:
    """Return images [B, 3, size, size], bicubic and without aliases, or as they are where there is no size."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    # In fp32 also inside a network of 16 bits, for which torch has no such filter on a CPU.
    resized = functional.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return resized.to(images.dtype)


def create(network: NetworkSpec, classes: int, mean: Sequence[float], std: Sequence[float]) -> Network | Denoiser:
    """Return the classifier, or the denoiser, that a spec describes.

    A denoiser with `published` weights is read from what its option `from` names (see `published`), and the spec that
    it has then is its configuration.
    """
    if network.name != UNET:
        return build(network, classes, mean, std)
    if network.head is not None:
        raise ValueError(f"head: {network.head} is not for a denoiser")
    return build_denoiser(network) if network.weights == "random" else load(source(network)).module


def build(network: NetworkSpec, classes: int, mean: Sequence[float], std: Sequence[float]) -> Network:
    """Return a network of random weights, or of the published ones.

    network: `name` (of timm: a ResNet, or any network with its own norms), `stem` (`cifar`: 3x3 convolution of stride 1
    and no max-pool, for 32x32 and smaller; `imagenet`: timm's own), `norm` (see `norms`), `groups` (of the `group`
    norm), `options` (further keywords of the timm model), `weights` (`published`: those that timm serves, or
    those of the .safetensors file, with timm's names, that the option `from` names; mean and std are then timm's, and
    the head is new if `classes` is another number than theirs), `size` (that images are resized to inside the
    network), `head` (see HEADS, in place of the layer for `classes`).
    Seed torch before the call: initial weights come from the global generator.
    """
    options = {name: value for name, value in network.options.items() if name != "from"}
    # Its own keywords say where weights come from: a card could have it open any file.
    if own := options.keys() & inspect.signature(timm.create_model).parameters.keys():
        raise ValueError(f"options.{min(own)}: is not of a network, but of how timm makes one")
    layer = create_norm(network.norm, network.groups)
    norm = {} if layer is None else {"norm_layer": layer}
    # A layer that makes room for another head is as small as can be: a card may not describe more than there is.
    outputs = classes if network.head is None else 1
    published = network.weights == "published"
    found = _weights(network.name, network.options["from"]) if published and "from" in network.options else None
    backbone: Any = timm.create_model(
        network.name, pretrained=published, pretrained_cfg_overlay=found, num_classes=outputs, **norm, **options
    )
    STEMS[network.stem](backbone)
    if published and backbone.pretrained_cfg["num_classes"] != outputs:
        backbone.reset_classifier(outputs)  # as on transfer; timm's own is many times larger in some
    if network.head is not None:
        HEADS[network.head](backbone)
    if network.weights == "published":
        mean, std = backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]
    built = Network(backbone, mean, std, network.size)
    built.spec = network
    return built


def _weights(name: str, text: Any) -> dict[str, Any]:
    """What timm should take for its own weights of a network, of a file; its head where it has as many classes."""
    path = Path(str(text)).expanduser()
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"options.from: should be a .safetensors file of timm's, {path} is none: {error}") from error
    head = weights.get(f"{timm.get_pretrained_cfg(name).classifier}.weight")
    return {"state_dict": weights} | ({} if head is None else {"num_classes": len(head)})


def _cifar_stem(backbone: nn.Module) -> None:
    """Keep the resolution: the ImageNet stem would shrink a 32x32 image to 8x8 before the first block."""
    if not (hasattr(backbone, "conv1") and hasattr(backbone, "maxpool")):
        raise ValueError(f"stem: cifar fits ResNets; {type(backbone).__name__} has no conv1 and maxpool to replace")
    width = int(backbone.get_parameter("bn1.weight").shape[0])
    backbone.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    backbone.maxpool = nn.Identity()


def _project(backbone: Any) -> None:
    """Put a `Projection` where the last layer is."""
    last = backbone.get_classifier()
    (name,) = (name for name, module in backbone.named_modules() if module is last)
    backbone.set_submodule(name, Projection(last.in_features))


PROJECTED = 64
HEADS: dict[Head, Callable[[nn.Module], None]] = {"projection": _project}
STEMS: dict[Stem, Callable[[nn.Module], None]] = {"cifar": _cifar_stem, "imagenet": lambda backbone: None}
