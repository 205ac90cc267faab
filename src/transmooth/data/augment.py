"""Random augmentations of a whole batch, on its device, each image with its own draw."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ATTEMPTS = 10  # at a crop that fits, as torchvision does
STRENGTH = 0.5  # of `colour`: SimCLR's at 32x32
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def augment(images: Tensor, names: Sequence[str], size: int, generator: torch.Generator) -> Tensor:
    """The augmentations of AUGMENTATIONS named, in that order, then the centre crop if the images are still larger.

    images: [B, 3, S, S] with S >= size, uint8 or float in [0, 1]. Gives floats [B, 3, size, size] in [0, 1].
    Random numbers are drawn on the generator's device, so one seed is one batch wherever the images are.
    Raises ValueError for an unknown name.
    """
    if unknown := set(names) - set(AUGMENTATIONS):
        raise ValueError(f"unknown augmentations {sorted(unknown)}; there are {', '.join(AUGMENTATIONS)}")
    for name in names:
        images = AUGMENTATIONS[name](images, size, generator)
    return to_unit(centre_crop(images, size))


def flip(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Left to right, every second image."""
    heads = _uniform((len(images), 1, 1, 1), images, generator) < 0.5
    return torch.where(heads, images.flip(-1), images)


def crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return a random square of `size`; images of that very size are first padded by size // 8 zeros on each side."""
    if images.shape[-1] == size:
        images = F.pad(images, [size // 8] * 4)
    count, channels, side, _ = images.shape
    corner = (_uniform((2, count, 1), images, generator) * (side - size + 1)).long()
    rows, columns = corner + torch.arange(size, device=images.device)
    # Whole pixels are taken from one long list of them: three times faster than by image, row and column.
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    lines = rows + side * torch.arange(count, device=images.device)[:, None]
    taken = pixels.index_select(0, (side * lines[:, :, None] + columns[:, None, :]).flatten())
    return taken.view(count, size, size, channels).permute(0, 3, 1, 2)


def resized_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return a random rectangle of 8 to 100 % of the area and 3:4 to 4:3 in shape, resized to a square of `size`.

    Sampled bilinearly, without a low-pass: a rectangle shrinks at most by S / size, which ought to stay below 2.
    """
    area, shape, left, top = _uniform((4, len(images), ATTEMPTS), images, generator)
    ratio = torch.exp((2 * shape - 1) * math.log(4 / 3))
    width, height = torch.stack([ratio, 1 / ratio]).mul(0.08 + 0.92 * area).sqrt()
    # The first attempt that fits; where none does, the first of them, cut to the image.
    first = ((width <= 1) & (height <= 1)).to(torch.int8).argmax(1, keepdim=True)
    width, height, left, top = (
        each.gather(1, first)[:, 0] for each in (width.clamp(max=1), height.clamp(max=1), left, top)
    )
    return resample(images, width, height, (1 - width) * (2 * left - 1), (1 - height) * (2 * top - 1), size)


def colour(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Other colours (see `recolour`) with probability 0.8, as SimCLR has them (Chen et al. 2020, Appendix A).

    Factors of brightness, contrast and saturation are uniform within 0.8 STRENGTH of 1, the hue within 0.2 STRENGTH
    turns of its own.  Their order is always the same, where the authors draw it.
    """
    draws = _uniform((5, len(images), 1, 1, 1), images, generator)
    brightness, contrast, saturation = 1 + 0.8 * STRENGTH * (2 * draws[:3] - 1)
    turns = 0.2 * STRENGTH * (2 * draws[3] - 1)
    images = to_unit(images)
    return torch.where(draws[4] < 0.8, recolour(images, brightness, contrast, saturation, turns), images)


def grey(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Without colours, every fifth image."""
    images = to_unit(images)
    chosen = _uniform((len(images), 1, 1, 1), images, generator) < 0.2
    return torch.where(chosen, luminance(images), images)


def recolour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turns: Tensor) -> Tensor:
    """Change floats [B, 3, H, W] in [0, 1], each image by its own numbers, [B, 1, 1, 1].

    In this order, each clipped to [0, 1]: times `brightness`; away from the image's mean luminance by the factor
    `contrast`; away from the pixel's own by `saturation`; the hue by `turns`.
    """
    images = (images * brightness).clamp(0, 1)
    mean = luminance(images).mean((2, 3), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    own = luminance(images)
    return turn_hue((own + saturation * (images - own)).clamp(0, 1), turns)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of HSV, whose saturation and value stay; images [B, 3, H, W] in [0, 1], turns [B, 1, 1, 1].

    With h in sixths of a turn, channel c is max − (max − min) clip(min(k, 4 − k), 0, 1), k = (n_c + h) mod 6, where
    n_c is 5, 3, 1 for red, green, blue.
    """
    red, green, blue = images.chunk(3, 1)
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    span = high - low
    some = span.where(span > 0, 1)  # grey has no hue, and any will do
    hue = torch.where(high == green, 2 + (blue - red) / some, 4 + (red - green) / some)
    hue = torch.where(high == red, (green - blue) / some, hue)
    offset = torch.arange(5, 0, -2, device=images.device).view(3, 1, 1)
    k = (offset + hue + 6 * turns) % 6
    return high - span * torch.minimum(k, 4 - k).clamp(0, 1)


def luminance(images: Tensor) -> Tensor:
    """[B, 3, H, W] → [B, 1, H, W]."""
    red, green, blue = (share * channel for share, channel in zip(LUMINANCE, images.chunk(3, 1), strict=True))
    return red + green + blue


def resample(images: Tensor, width: Tensor, height: Tensor, x: Tensor, y: Tensor, size: int) -> Tensor:
    """Return the rectangle of each image as floats [B, 3, size, size].

    width, height: [B], shares of the image's sides; x, y: [B], the rectangle's centre, with the image from -1 to 1.
    """
    none = torch.zeros_like(width)
    affine = torch.stack([width, none, x, none, height, y], 1).view(-1, 2, 3)
    grid = F.affine_grid(affine, [len(images), images.shape[1], size, size], align_corners=False)
    # Pixels at an edge lean on what is beyond it: the edge itself, not black.
    sampled = F.grid_sample(to_unit(images), grid, padding_mode="border", align_corners=False)
    return sampled.clamp(0, 1)  # rounding may leave it by 1e-7


def enlarge(images: Tensor, side: int) -> Tensor:
    """[B, 3, S, S] → floats [B, 3, side, side] in [0, 1], by Pillow's bicubic filter: as if they were stored so."""
    return F.interpolate(to_unit(images), (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """[..., S, S] → [..., size, size]."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]


def to_unit(images: Tensor) -> Tensor:
    """uint8 → float32 in [0, 1], keeping the order in memory; floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "resized_crop": resized_crop,
    "colour": colour,
    "grey": grey,
}
