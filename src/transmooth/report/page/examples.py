"""Example images: the ones that a network certifies farthest and least far, as the network sees them."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from transmooth.noise import add_noise, training_key
from transmooth.report.accuracy import certified_radius

SIDE = 128  # larger images are shown by their centre: scaled down, the noise would look weaker than it is
LOSSLESS = 64

# (noisy images [B, 3, H, W], sigma [B]) → clean ones, on [0, 1] both.
Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Shot:
    """One noisy view: a data URI of the picture, the verdict in words and whether it is right.

    denoised: a data URI of what a denoiser leaves of it, which is what the network sees; None where there is none.
    """

    sigma: float
    picture: str
    denoised: str | None
    verdict: str
    radius: float
    right: bool


@dataclass(frozen=True)
class Example:
    """A test image: its position, its class, the clean picture as a data URI, and a shot for each sigma."""

    index: int
    label: str
    picture: str
    shots: tuple[Shot, ...]


def extremes(frame: pd.DataFrame, count: int) -> tuple[list[int], list[int]]:
    """Positions of the `count` most and the `count` least robust images, the extreme ones first.

    frame: records of one network.  An image's robustness is its certified radius, 0 where the prediction is wrong or
    abstains, averaged over sigma; of equals the first position comes first.  No image is in both.
    """
    radius = pd.Series(np.maximum(certified_radius(frame), 0), index=frame["index"].to_numpy())
    robust = radius.groupby(level=0).mean()
    most = robust.sort_values(ascending=False, kind="stable").index[:count].tolist()
    least = [index for index in robust.sort_values(kind="stable").index.tolist() if index not in most]
    return most, least[:count]


def examples(
    frame: pd.DataFrame,
    indices: Sequence[int],
    fetch: Callable[[int], Tensor],
    classes: Sequence[str],
    denoise: Denoise | None = None,
) -> list[Example]:
    """These images, clean and with one draw of noise, the same for each sigma of the records, scaled by it.

    frame: records of one network. fetch: position → image float32 [3, H, W] in [0, 1].  denoise: what the network has
    before it.
    """
    made = []
    for index in indices:
        image = _centre(fetch(index))
        shots = []
        rows = frame[frame["index"] == index].sort_values("sigma")
        for row in rows.to_dict("records"):
            generator = torch.Generator().manual_seed(training_key(index))
            sigma = torch.tensor([row["sigma"]], dtype=torch.float32)
            noisy = add_noise(image[None], sigma, generator)
            with torch.inference_mode():
                denoised = None if denoise is None else _uri(denoise(noisy, sigma)[0])
            right = row["prediction"] == row["label"] and row["prediction"] >= 0
            verdict = "abstains" if row["prediction"] < 0 else classes[int(row["prediction"])]
            shots.append(Shot(row["sigma"], _uri(noisy[0]), denoised, verdict, float(row["radius"]), bool(right)))
        made.append(Example(index, classes[int(rows["label"].iloc[0])], _uri(image), tuple(shots)))
    return made


def _centre(image: Tensor) -> Tensor:
    top, left = (max(0, (side - SIDE) // 2) for side in image.shape[1:])
    return image[:, top : top + SIDE, left : left + SIDE]


def _uri(image: Tensor) -> str:
    """A picture of an image [3, H, W] as a data URI; what noise drove out of [0, 1] is clipped, on screens only."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    kind, buffer = "png" if max(pixels.shape) <= LOSSLESS else "jpeg", io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 80}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
