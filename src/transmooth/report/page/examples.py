"""Example images: clean, with noise, as a denoiser leaves them, and attacked; with what a network answers to each."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from transmooth.attacks.auto_pgd import auto_pgd
from transmooth.attacks.ball import keyed_starts
from transmooth.attacks.robust import LOSSES, ORDERS, Settings
from transmooth.noise import add_noise, training_key
from transmooth.report.accuracy import certified_radius

SIDE = 128  # larger images are shown by their centre: scaled down, the noise would look weaker than it is
LOSSLESS = 64
STEPS = 20  # at most, of an attack: a page is made in seconds

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
class Perturbed:
    """What an attack made of an image, without noise: a data URI of it, and the classes before and after, in words.

    distance: from the image, in the norm of the attack: 0 where the image itself is answered wrongly and not attacked.
    robust: the answer is right before and after.
    """

    settings: Settings
    picture: str
    distance: float
    before: str
    after: str
    robust: bool


@dataclass(frozen=True)
class Example:
    """A test image: its position, its class, the clean picture as a data URI, a shot for each sigma, and attacks."""

    index: int
    label: str
    picture: str
    shots: tuple[Shot, ...] = ()
    attacks: tuple[Perturbed, ...] = ()


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


def broken_and_robust(frame: pd.DataFrame, count: int) -> tuple[list[int], list[int]]:
    """Return positions of `count` images that an attack broke, the nearest points first, and of `count` robust ones.

    frame: records of one attack.  Images that were wrong before are in neither; of equals the first position comes
    first.
    """
    broken = frame[frame["distance"].notna()].sort_values(["distance", "index"])
    robust = frame[frame["robust"]].sort_values("index")
    return broken["index"].tolist()[:count], robust["index"].tolist()[:count]


def examples(
    frame: pd.DataFrame,
    indices: Sequence[int],
    fetch: Callable[[int], Tensor],
    classes: Sequence[str],
    denoise: Denoise | None = None,
    network: nn.Module | None = None,
    attacks: Sequence[Settings] = (),
) -> list[Example]:
    """Return these images, clean, with noise for each sigma, and attacked.

    The noise of an image is one draw, scaled by sigma.

    frame: records of one network, of a certification or of an attack, which has no noise.
    fetch: position → image float32 [3, H, W] in [0, 1].  denoise: what the network has before it.
    network: the classifier without noise, images [B, 3, H, W] → logits, attacked in each of these ways.
    """
    made = []
    for index in indices:
        whole = fetch(index)
        image = _centre(whole)
        shots = []
        rows = frame[frame["index"] == index].sort_values("sigma")
        for row in rows[rows["sigma"].notna()].to_dict("records"):
            generator = torch.Generator().manual_seed(training_key(index))
            sigma = torch.tensor([row["sigma"]], dtype=torch.float32)
            noisy = add_noise(image[None], sigma, generator)
            with torch.inference_mode():
                denoised = None if denoise is None else _uri(denoise(noisy, sigma)[0])
            right = row["prediction"] == row["label"] and row["prediction"] >= 0
            verdict = "abstains" if row["prediction"] < 0 else classes[int(row["prediction"])]
            shots.append(Shot(row["sigma"], _uri(noisy[0]), denoised, verdict, float(row["radius"]), bool(right)))
        label = int(rows["label"].iloc[0])
        ways = () if network is None else (perturbed(network, whole, index, label, classes, each) for each in attacks)
        made.append(Example(index, classes[label], _uri(image), tuple(shots), tuple(ways)))
    return made


def perturbed(
    network: nn.Module, image: Tensor, index: int, label: int, classes: Sequence[str], settings: Settings
) -> Perturbed:
    """Return what AutoPGD makes of an image [3, H, W], by itself: the first point that is answered wrongly.

    It climbs the losses one after the other, from the first random start that its records have, in at most STEPS steps.
    Where no point is answered wrongly it is the last one.
    """
    images, right = image[None], torch.tensor([label])
    points, before = images, _answer(network, images)
    after = before
    for loss in settings.losses:
        if after != label:
            break
        start = keyed_starts(images, [index], settings.epsilon, settings.seed, settings.norm)
        points, _ = auto_pgd(
            network,
            images,
            right,
            start,
            epsilon=settings.epsilon,
            steps=min(settings.steps, STEPS),
            norm=settings.norm,
            loss=LOSSES[loss],
            leave=True,
        )
        after = _answer(network, points)
    distance = torch.linalg.vector_norm((points.double() - images.double()).flatten(), ORDERS[settings.norm])
    picture = _uri(_centre(points[0]))
    return Perturbed(settings, picture, float(distance), classes[before], classes[after], before == after == label)


def _answer(network: nn.Module, images: Tensor) -> int:
    with torch.inference_mode():
        return int(network(images).argmax(1))


def _centre(image: Tensor) -> Tensor:
    top, left = (max(0, (side - SIDE) // 2) for side in image.shape[1:])
    return image[:, top : top + SIDE, left : left + SIDE]


def _uri(image: Tensor) -> str:
    """A picture of an image [3, H, W] as a data URI; what noise drove out of [0, 1] is clipped, on screens only."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    kind, buffer = "png" if max(pixels.shape) <= LOSSLESS else "jpeg", io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 80}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
