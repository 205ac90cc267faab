"""Train a denoiser: the mean squared error of a diffusion model's prediction (Ho et al. 2020; Salimans and Ho 2022)."""

import torch
from torch import Tensor, nn

from transmooth.models.denoiser import Denoiser
from transmooth.objectives import View, bare

CLASSIFIES = False


def loss(
    classifier: nn.Module, view: View, images: Tensor, labels: Tensor, sigma: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return mean ‖f(u_t, t) − target‖² / d, with its negative as the score.

    classifier: a `Denoiser`.  sigma: the largest noise on [0, 1]; t is uniform from 1 to t*(sigma), for each image.
    u = 2x − 1 and u_t are the diffusion model's; `view` and `labels` are not used.
    Raises ValueError for a network that is no denoiser.
    """
    denoiser = bare(classifier)
    if not isinstance(denoiser, Denoiser):
        raise ValueError(f"objective denoise: trains a denoiser, found {type(denoiser).__name__}")
    last = denoiser.times(sigma)
    uniform = torch.rand(len(images), generator=generator, device=generator.device, dtype=torch.float64)
    times = 1 + (uniform * last).long()
    noise = torch.empty(images.shape, device=generator.device).normal_(generator=generator)
    noisy, target = denoiser.target(2 * images - 1, noise, times)
    error = (classifier(noisy, times).float() - target).square().flatten(1).mean(1)
    return error.mean(), {"score": -error.detach().sum().double()}
