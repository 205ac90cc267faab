"""Deploy a sample-wise classifier: any model, and regions that have one σ each (see smoothing/regions.py)."""

import secrets
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transmooth.params.values import Engine as EngineName
from transmooth.smoothing.bounds import Floats, check_sigma
from transmooth.smoothing.regions import Allocation
from transmooth.smoothing.smoothed import check_images, predict_at


class SamplewiseClassifier(nn.Module):
    """The classifier h(z) = G_S(z)(z): transductive, for S is frozen around the allocation's anchors.

    model, seed, dtype, engine, batch: as of `SmoothedClassifier`.  allocation: of `regions.allocate`, or of a study's
    records (`evaluation.samplewise.read_allocation`).  sigma: σ₀, which answers outside of every region; no certificate
    of an anchor reaches there.

        classes, sigmas = SamplewiseClassifier(model, allocation, sigma=0.5).predict(images)
    """

    def __init__(
        self,
        model: nn.Module,
        allocation: Allocation,
        sigma: float,
        *,
        seed: int | None = None,
        dtype: str = "fp32",
        engine: EngineName = "auto",
        batch: int | None = None,
    ) -> None:
        check_sigma(sigma)
        super().__init__()
        self.model, self.allocation, self.sigma, self.seed = model, allocation, sigma, seed
        self.run: dict[str, Any] = {"dtype": dtype, "engine": engine, "batch": batch}

    def forward(self, images: Tensor) -> Tensor:
        """Return the classes of `predict` with its defaults."""
        return self.predict(images)[0]

    def sigma_at(self, images: Tensor) -> Floats:
        """Return S at images [B, 3, H, W], float64 [B]: σ of the ball that an image lies in, else σ₀.

        Raises ValueError for images of another shape than the anchors'.
        """
        check_images(images)
        if (found := tuple(images.shape[1:])) != (asked := tuple(self.allocation.anchors.shape[1:])):
            raise ValueError(f"images must be of the anchors' shape, {list(asked)}, got {list(found)}")
        own = self.allocation.sigma_at(images.cpu().numpy())
        return np.where(np.isnan(own), self.sigma, own)

    def predict(self, images: Tensor, n: int = 1000, alpha: float = 0.001) -> tuple[Tensor, Tensor]:
        """Return the class of h for each image [B, 3, H, W], int64 [B], −1 where it abstains, and S, float64 [B].

        Raises ValueError as `SmoothedClassifier.predict`.
        """
        sigmas = self.sigma_at(images)
        seed = secrets.randbits(63) if self.seed is None else self.seed
        classes = torch.empty(len(images), dtype=torch.int64)
        for sigma in np.unique(sigmas).tolist():
            which = np.flatnonzero(sigmas == sigma)
            classes[which] = predict_at(self.model, images, which, sigma, seed, n, alpha, self.run)
        return classes, torch.from_numpy(sigmas)
