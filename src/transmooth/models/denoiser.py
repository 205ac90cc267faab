"""Denoise images in one step of a diffusion model, so that a classifier of clean images can be smoothed.

A diffusion model knows images u in [-1, 1] at times t = 0, 1, …, T - 1, each with its share of signal ᾱ_t:

    u_t = √ᾱ_t u + √(1 − ᾱ_t) e,   e ~ N(0, I)

An image z = x + N(0, σ²I), x in [0, 1], times √ᾱ_t after 2z − 1, is such a u_t where √((1 − ᾱ_t)/ᾱ_t) = 2σ: twice σ,
because [-1, 1] is twice as long as [0, 1].  The first time t* ≥ 1 with at least as much noise is taken, and the model's
estimate of u at t*, clipped, is the denoised image (Carlini et al. 2023, "(Certified!!) Adversarial Robustness for
Free!", Algorithm 1).  The noise itself is exactly σ: t* only tells the model how much to expect.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from transmooth.params.values import Head, Prediction
from transmooth.specs import NetworkSpec

# What a model predicts: (u, e, √ᾱ, √(1 − ᾱ)) → the target, and (u_t, prediction, √ᾱ, √(1 − ᾱ)) → the estimate of u.
PREDICTIONS: dict[Prediction, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "epsilon": (lambda u, e, a, b: e, lambda noisy, output, a, b: (noisy - b * output) / a),
    "v_prediction": (lambda u, e, a, b: a * e - b * u, lambda noisy, output, a, b: a * noisy - b * output),
    "sample": (lambda u, e, a, b: u, lambda noisy, output, a, b: output),
}
# The name of a network that is a U-Net of diffusers; its options are `unet`, `schedule` and `timestep_scale`.
UNET = "unet2d"
NEEDS = "needs the package diffusers: install transmooth with the extra `denoise`"


class Denoiser(nn.Module):
    """A diffusion model: images [B, 3, H, W] in its own [-1, 1] and times [B] → what it predicts, [B, 3, H, W].

    unet: such a module of diffusers, whose output may have 3 more channels, the learned variance, which is dropped.
    alphas: ᾱ_t, float64 [T].  prediction: of the noise e, of v = √ᾱ_t e − √(1 − ᾱ_t) u, or of the image u (`sample`).
    timestep_scale: what the U-Net is given at time t is t times this.
    """

    mean: Tensor
    std: Tensor
    signal: Tensor
    noise: Tensor
    sigmas: Tensor
    spec: NetworkSpec | None = None

    def __init__(self, unet: nn.Module, alphas: Tensor, prediction: Prediction, timestep_scale: float = 1.0) -> None:
        super().__init__()
        self.unet, self.prediction, self.timestep_scale = unet, prediction, timestep_scale
        # Of images in [0, 1]: what makes them those of [-1, 1].
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5), persistent=False)
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.5), persistent=False)
        # Made from the schedule, which the spec has; sigmas: of noise on [0, 1].
        self.register_buffer("signal", alphas.sqrt(), persistent=False)
        self.register_buffer("noise", (1 - alphas).sqrt(), persistent=False)
        self.register_buffer("sigmas", ((1 - alphas) / alphas).sqrt() / 2, persistent=False)

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        output = self.unet(noisy, times * self.timestep_scale)
        return getattr(output, "sample", output)[:, :3]  # type: ignore[no-any-return]

    def times(self, sigma: Tensor) -> Tensor:
        """Return t* of each sigma [B] > 0: int64 [B], the first t ≥ 1 whose noise on [0, 1] is at least sigma."""
        return torch.searchsorted(self.sigmas[1:], sigma.to(self.sigmas)) + 1

    def check(self, sigma: float, size: int | None = None) -> None:
        """Raise ValueError for noise beyond the schedule, and for images whose side the U-Net cannot halve."""
        if sigma > (last := float(self.sigmas[-1])):
            raise ValueError(f"sigma {sigma:g} is beyond the denoiser's schedule, which ends at {last:.4g}")
        unet: Any = self.unet
        factor = 2 ** (len(unet.config.block_out_channels) - 1) if hasattr(unet, "config") else 1
        if size is not None and size % factor:
            raise ValueError(f"the denoiser takes images whose side is a multiple of {factor}, found {size}")

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return the estimate of images from noisy ones [B, 3, H, W], both on [0, 1], at the sigma [B] of each.

        Images whose sigma is 0 stay as they are.
        """
        times = self.times(sigma)
        signal, noise = (table[times].to(noisy.dtype).view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        scaled = signal * (2 * noisy - 1)
        estimate = self.estimate(scaled, times, signal, noise)
        return torch.where(sigma.view(-1, 1, 1, 1) > 0, estimate, noisy)

    def estimate(self, scaled: Tensor, times: Tensor, signal: Tensor | float, noise: Tensor | float) -> Tensor:
        """Return the images on [0, 1] that u_t, `scaled`, [B, 3, H, W] comes from."""
        output = self(scaled, times).to(scaled.dtype)
        clean = PREDICTIONS[self.prediction][1](scaled, output, signal, noise)
        return (clean.clamp(-1, 1) + 1) / 2

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return u_t of clean images u in [-1, 1] with noise e ~ N(0, I) at times [B], and what is to be predicted."""
        a, b = (table[times].to(clean.dtype).view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        return a * clean + b * noise, PREDICTIONS[self.prediction][0](clean, noise, a, b)

    def at(self, sigma: float) -> "OneShot":
        """Return the denoiser for one sigma > 0.  Raises ValueError for one beyond the schedule."""
        self.check(sigma)
        return OneShot(self, sigma).train(self.training)

    def reset_head(self, classes: int, head: Head | None = None) -> None:
        """Do nothing: what images are of does not matter to it.  Raises ValueError for a head of another kind."""
        if head is not None:
            raise ValueError(f"head: {head} is not for a denoiser")


class OneShot(nn.Module):
    """The denoiser at one sigma: noisy images [B, 3, H, W] → their estimate, both on [0, 1].

    Its numbers are constants of the program, which no change of the module's dtype rounds.
    """

    def __init__(self, denoiser: Denoiser, sigma: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.time = int(denoiser.times(torch.tensor([sigma], dtype=torch.float64))[0])
        self.signal, self.noise = float(denoiser.signal[self.time]), float(denoiser.noise[self.time])

    def forward(self, noisy: Tensor) -> Tensor:
        scaled = self.signal * (2 * noisy - 1)
        times = torch.full((len(noisy),), self.time, device=noisy.device)
        return self.denoiser.estimate(scaled, times, self.signal, self.noise)


class Denoised(nn.Module):
    """A classifier of what a denoiser leaves of noisy images: `at(sigma)` is the base classifier at one sigma.

    Itself it is the classifier alone, of clean images.  denoiser: has `at(sigma)` → module, noisy → clean on [0, 1].
    """

    def __init__(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.classifier = denoiser, classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)  # type: ignore[no-any-return]

    def at(self, sigma: float) -> nn.Module:
        """Return images [B, 3, H, W] with noise of sigma → logits."""
        denoiser: Any = self.denoiser
        return nn.Sequential(denoiser.at(sigma), self.classifier).train(self.training)

    def check(self, sigma: float, size: int) -> None:
        """Raise ValueError for a sigma, or a side of images, that the denoiser does not take."""
        denoiser: Any = self.denoiser
        denoiser.check(sigma, size)


def build_denoiser(network: NetworkSpec) -> Denoiser:
    """Return a diffusion model of random weights.

    network.options: `unet`, keywords of diffusers' UNet2DModel, without attention where they name no types of blocks;
    `schedule`, keywords of its DDPMScheduler, by default
    linear with T = 1000; `timestep_scale`.  Raises ValueError for a class-conditional U-Net, which would know the
    class, for images that are not of 3 channels, and where diffusers is missing.
    """
    if unknown := network.options.keys() - {"unet", "schedule", "timestep_scale"}:
        raise ValueError(f"options.{min(unknown)}: a {UNET} has unet, schedule and timestep_scale")
    given: dict[str, Any] = dict(network.options)
    return of_config(given.get("unet") or {}, given.get("schedule") or {}, float(given.get("timestep_scale", 1.0)))


def of_config(unet: dict[str, Any], schedule: dict[str, Any], timestep_scale: float = 1.0) -> Denoiser:
    """Return a diffusion model of random weights from the configurations that diffusers writes (see above)."""
    try:
        diffusers: Any = import_module("diffusers")  # it takes seconds, and few need it
    except ImportError as error:
        raise ValueError(f"a {UNET} {NEEDS}") from error
    for key in ("num_class_embeds", "class_embed_type"):
        if unet.get(key) is not None:
            raise ValueError(f"unet.{key}: a class-conditional model is no denoiser: it would know the class")
    defaults: dict[str, Any] = {"in_channels": 3, "out_channels": 3}
    if (channels := unet.get("in_channels", 3)) != 3 or unet.get("out_channels", 3) not in (3, 6):
        raise ValueError(f"unet.in_channels: should be 3, and out_channels 3 or 6, found {channels} in")
    if (widths := unet.get("block_out_channels")) is not None:  # its own defaults are of four levels
        defaults |= {"down_block_types": ["DownBlock2D"] * len(widths), "up_block_types": ["UpBlock2D"] * len(widths)}
    network = diffusers.UNet2DModel(**defaults | unet)
    with torch.device("cpu"):  # of which the numbers are needed where the network itself takes no memory
        scheduler = diffusers.DDPMScheduler(**schedule)
        alphas = torch.cumprod(1 - scheduler.betas.double(), 0)
    if (prediction := scheduler.config.prediction_type) not in PREDICTIONS:
        raise ValueError(f"schedule.prediction_type: should be one of {', '.join(PREDICTIONS)}, found {prediction!r}")
    denoiser = Denoiser(network, alphas, prediction, timestep_scale)
    options: dict[str, Any] = {"unet": unet, "schedule": schedule}
    options |= {"timestep_scale": timestep_scale} if timestep_scale != 1 else {}
    denoiser.spec = NetworkSpec(name=UNET, stem="imagenet", norm="group", groups=1, options=options)
    return denoiser
