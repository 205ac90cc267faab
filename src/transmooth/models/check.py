"""Whether a network can be built: on the meta device, where it takes no memory and next to no time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from transmooth.models.build import Network, create
from transmooth.models.denoiser import UNET, Denoiser
from transmooth.models.published import source
from transmooth.specs import NetworkSpec

MOST_TENSORS, MOST_VALUES = 5_000, 20_000_000_000  # no network of this field has as many
MOST_NUMBER = 100_000  # of an option: layers, channels, patches, the side of images
# What timm and torch raise for arguments that mean nothing to them.
FAULTS = (LookupError, TypeError, AttributeError, RuntimeError, ZeroDivisionError, AssertionError)


def check(network: NetworkSpec) -> None:
    """Raise ValueError, in one line, for a network that cannot be built or run, or an option that means nothing.

    Of a denoiser with published weights only the option is checked: its configuration is where they are.
    """
    if network.name == UNET and network.weights == "published":
        source(network)
        return
    built = planned(network, 10)
    _run(built, 10)
    for name, value in network.options.items():
        if isinstance(value, str) and name != "from":  # where weights are, not what is built
            others = {key: other for key, other in network.options.items() if key != name}
            if str(built) == str(planned(network.model_copy(update={"options": others}), 10)) and value:
                raise ValueError(f"options.{name}: {value!r} changes nothing of {network.name}; is it misspelt?")


def planned(
    network: NetworkSpec, classes: int, tensors: int = MOST_TENSORS, values: int = MOST_VALUES
) -> Network | Denoiser:
    """Return the network on the meta device.

    Raises ValueError, in one line, where it cannot be built or has more parameters than these: tensors, and values in
    all of them.
    """
    if (largest := max(_numbers(network.options), default=0)) > MOST_NUMBER:
        raise ValueError(f"options: {largest:g} is more than any network has of anything")
    # timm takes names of a hub and of local folders too, and would fetch what they name.
    if network.name != UNET and not timm.is_model(network.name):
        raise ValueError(f"name: timm has no {network.name!r}")
    random = network.model_copy(update={"weights": "random"})
    with _faults_in_one_line(), torch.device("meta"), _at_most(tensors, values):
        return create(random, classes, (0.5,) * 3, (0.5,) * 3)


def _numbers(value: Any) -> Iterator[float]:
    """Give the numbers in options: a billion layers would be counted before the first one is made."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield abs(value)


def _run(network: Network | Denoiser, classes: int) -> None:
    """Raise ValueError, in one line, unless a network on the meta device gives logits, or a denoiser an image."""
    with _faults_in_one_line(), torch.inference_mode():
        if isinstance(network, Denoiser):
            side = 2 ** len(network.unet.config.block_out_channels)  # type: ignore[union-attr, arg-type]
            noisy = torch.empty(2, 3, side, side, device="meta")
            if network.eval()(noisy, torch.empty(2, device="meta")).shape != noisy.shape:
                raise ValueError("it gives no image of the size of its input")
            return
        backbone: Any = network.backbone
        logits = network.eval()(torch.empty(2, *backbone.pretrained_cfg["input_size"], device="meta"))
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            raise ValueError("it gives no logits [images, classes]")


@contextmanager
def _faults_in_one_line() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except FAULTS as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


@contextmanager
def _at_most(tensors: int, values: int) -> Iterator[None]:
    """Raise ValueError once the modules that are made in the block have more parameters than these."""
    seen = [0, 0]

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            seen[0] += 1
            seen[1] += parameter.numel()
        if seen[0] > tensors or seen[1] > values:
            raise ValueError(f"it has more than {tensors} parameters, or {values} values in them")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
