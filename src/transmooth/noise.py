"""Gaussian noise: sigmas drawn for training images, the noise itself, and the keyed generator of certification.

Images are float32 in [0, 1]; noise is drawn and added in float32, before the model's own normalisation.
"""

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def draw_sigmas(sigmas: Sequence[float], count: int, generator: torch.Generator) -> Tensor:
    """Draw one sigma per image, uniformly from the set S (mixed-noise paper, Section 3.2).

    `[0.0]` trains on clean images, `[0.25]` with one fixed noise, `[0.0, 0.25, 0.5, 1.0]` on the mixture.
    Returns float32 [count], on the generator's device.
    """
    choice = torch.randint(len(sigmas), (count,), generator=generator, device=generator.device)
    return _on_device(tuple(sigmas), generator.device)[choice]


@lru_cache(maxsize=16)
def _on_device(sigmas: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the sigmas as float32, copied once: the processor waits for a GPU at each copy from a list."""
    return torch.tensor(sigmas, dtype=torch.float32, device=device)


def add_noise(images: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """x + sigma * delta with delta ~ N(0, I): float32 [B, 3, H, W] in, the same out, not clipped to [0, 1].

    sigma: [B].  Clipping would change the distribution that the certificate is about.  Each pixel's noise is the same
    in every order of memory.
    """
    # Normal numbers come 8 times slower into memory that is not in the order of the indices, as channels-last images
    # in [B, 3, H, W] are not: so they are drawn in [B, H, W, 3].
    count, channels, height, width = images.shape
    drawn = torch.empty(count, height, width, channels, device=generator.device).normal_(generator=generator)
    delta = drawn.permute(0, 3, 1, 2)
    return images + sigma.to(images.device)[:, None, None, None] * delta.to(images.device)


def block_key(seed: int, index: int, stream: int, block: int) -> int:
    """Return the generator seed of one block of one image's certification noise, in a stream below 8: a 64-bit integer.

    Blocks of the same image get distinct seeds even on the CPU, whose generator reads the low 32 bits alone:
    (stream, block) are added to a hash of (seed, index), so they cannot collide for fewer than 2^28 blocks.
    """
    digest = hashlib.blake2b(struct.pack("<qq", seed, index), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + (stream << 28) + block) % 2**63


def training_key(*parts: int) -> int:
    """Return a 64-bit generator seed for one moment of training, e.g. (seed, step, rank)."""
    digest = hashlib.blake2b(struct.pack(f"<{len(parts)}q", *parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**63
