"""What a stage trains by: its objective, on the images, noise and denoiser that its recipe names."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from transmooth.data.augment import augment
from transmooth.noise import add_noise, draw_sigmas
from transmooth.objectives import View, load_objective
from transmooth.specs import TrainSpec


@dataclass(frozen=True)
class Task:
    """The loss of a stage.

    view: what its network sees.  keywords: of its objective, beside the recipe's options.  chosen: the sigma of each
    training image, float32 on the device; None where each batch draws its own.
    """

    spec: TrainSpec
    view: View = add_noise
    keywords: Mapping[str, Any] = field(default_factory=dict)
    chosen: Tensor | None = None

    def loss(
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        epoch: int = 0,
        trained: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics of a batch in an epoch, counted from 0, each image with a sigma of its own.

        trained: the positions of training images, int64 [B]; None for others, whose sigmas nothing has chosen.
        """
        spec = self.spec
        if self.chosen is None or trained is None:
            sigma = draw_sigmas(spec.sigmas, len(labels), generator)
        else:
            sigma = self.chosen[trained]
        options = {**spec.options, **self._later(epoch), **self.keywords}
        return load_objective(spec.objective)(classifier, self.view, images, labels, sigma, generator, **options)

    def images(self, pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return what the objective gets: [B, 3, H, W], or [views, B, 3, H, W] where there are several views."""
        views = [augment(pixels, self.spec.augment, size, generator) for _ in range(self.spec.views)]
        return views[0] if self.spec.views == 1 else torch.stack(views)

    def _later(self, epoch: int) -> dict[str, Any]:
        """Return the options of `options_from` that hold in an epoch: the latest of each."""
        stages = sorted((int(first), options) for first, options in (self.spec.options_from or {}).items())
        return {key: value for first, options in stages if first <= epoch for key, value in options.items()}


def task_of(
    accelerator: Accelerator,
    spec: TrainSpec,
    begin: Callable[[], nn.Module],
    denoiser: nn.Module | None,
    chosen: Tensor | None = None,
) -> Task:
    """Return the task of a stage, on the accelerator's device.

    begin: gives the network of its start, which an objective with a keyword `start` gets, frozen and in eval mode.
    denoiser: has `denoise(noisy, sigma)` → clean images; it learns nothing.
    """
    keywords: dict[str, Any] = {}
    if "start" in inspect.signature(load_objective(spec.objective)).parameters:
        keywords["start"] = begin().to(accelerator.device).eval().requires_grad_(False)
    view = add_noise if denoiser is None else _denoised(accelerator, denoiser)
    return Task(spec, view, keywords, None if chosen is None else chosen.float().to(accelerator.device))


def _denoised(accelerator: Accelerator, denoiser: Any) -> View:
    """Return the view of a network behind a denoiser."""
    denoiser.to(accelerator.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def view(images: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        noisy = add_noise(images, sigma, generator).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), accelerator.autocast():
            clean: Tensor = denoiser.denoise(noisy, sigma.to(noisy.device))
        return clean.float()

    return view
