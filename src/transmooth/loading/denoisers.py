"""Denoisers, by one line of text, and the checkpoints of classifiers that were trained behind one.

A checkpoint folder of a denoiser that transmooth trained; a folder of diffusers, or `diffusers:OWNER/NAME[@REVISION]`
on a hub, with weights in safetensors; OpenAI's `cifar10_uncond_50M_500K.pt` or `256x256_diffusion_uncond.pt` (see
`models.published`); `package.module:function`, which returns a module that cleans noisy images in [0, 1], for the one
sigma that it was made for.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.loading.functions import call, hash_of
from transmooth.models import published
from transmooth.models.denoiser import Denoised, Denoiser


class Fixed(nn.Module):
    """Anyone's denoiser: noisy images [B, 3, H, W] → clean ones, both on [0, 1], whatever the sigma."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def check(self, sigma: float, size: int | None = None) -> None:
        """Do nothing: what it can clean is not known here."""

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return the clean images; those whose sigma is 0 stay as they are."""
        return self.module(noisy).where(sigma.view(-1, 1, 1, 1) > 0, noisy)  # type: ignore[no-any-return]

    def at(self, sigma: float) -> nn.Module:
        """Return the module."""
        return self.module


@dataclass(frozen=True)
class LoadedDenoiser:
    """A denoiser in eval mode.  text: what it was loaded by; sha256: of its weights and its configuration."""

    module: Denoiser | Fixed
    text: str
    sha256: str

    def check(self, sigmas: Sequence[float], size: int) -> None:
        """Raise ValueError for a sigma, or a side of images, that it does not take."""
        for sigma in sigmas:
            try:
                self.module.check(sigma, size)
            except ValueError as error:
                raise ValueError(f"{self.text}: {error}") from error

    def named(self, folder: Path) -> dict[str, str | int]:
        """Return what the card of a checkpoint in `folder` says of it: a path starts at that folder."""
        there = Path(self.text)
        text = os.path.relpath(there.resolve(), folder.resolve()) if there.exists() else self.text
        return {
            "text": text,
            "sha256": self.sha256,
            "parameters": sum(each.numel() for each in self.module.parameters()),
        }


def load_denoiser(text: str) -> LoadedDenoiser:
    """Return the denoiser that `text` names (see above), on the CPU.

    Raises ValueError or FileNotFoundError, naming the file, for one that is missing, of another kind, class-conditional
    or that does not fit; transmooth.hub.HubError where the hub cannot be reached or refuses.
    """
    path = Path(text).expanduser()
    if (path / "model.json").is_file():
        network, card = weights.load_any(path)
        if not isinstance(network, Denoiser):
            raise CheckpointError(f"{text}: should be a denoiser, is a classifier of {len(card['classes'])} classes")
        return LoadedDenoiser(network, str(path), _hash(network, card["weights_sha256"]))
    if _is_function(text):
        module = call(text)
        return LoadedDenoiser(Fixed(module).eval(), text, hash_of(module))
    found = published.load(text)
    return LoadedDenoiser(found.module, found.name, _hash(found.module, found.sha256))


def _hash(denoiser: Denoiser, weights_sha256: str) -> str:
    """A hash of weights and configuration: with another schedule or prediction they are another denoiser."""
    assert denoiser.spec is not None
    return hashlib.sha256(f"{weights_sha256} {denoiser.spec.text}".encode()).hexdigest()


def _is_function(text: str) -> bool:
    return re.fullmatch(r"[\w.]+:\w+", text) is not None and not text.startswith(published.PREFIX)


def load_classifier(folder: Path, denoiser: str | None = None) -> tuple[nn.Module, dict[str, Any], str]:
    """Return what the checkpoint in `folder` certifies, its card, and a hash of all of its weights.

    It is a `Network`, or a `Denoised` with the denoiser that the card names, which must have the weights that the
    network was trained behind; `denoiser` says where else it is, or puts one before a network that was trained without.
    Raises CheckpointError for a checkpoint that is damaged or of a denoiser, for other weights of a denoiser, and for a
    function that the card names and `denoiser` does not: a checkpoint, anyone's, executes nothing.
    """
    network, card = weights.load(folder)
    named: dict[str, Any] = card.get("denoiser") or {}
    if not named and denoiser is None:
        return network, card, card["weights_sha256"]
    text = denoiser or _place(folder, named)
    if denoiser is None and _is_function(text):
        raise CheckpointError(f"{folder}: was trained behind {text}, which is code; --denoiser {text} runs it")
    try:
        cleaner = load_denoiser(text)
    except (OSError, ValueError) as error:
        if denoiser is not None:
            raise
        raise CheckpointError(
            f"{folder}: was trained behind a denoiser, {named['text']} (SHA-256 {named['sha256']}), and that cannot be "
            f"loaded: {error}; --denoiser says where it is"
        ) from error
    if named and cleaner.sha256 != named["sha256"]:
        raise CheckpointError(
            f"{folder}: was trained behind a denoiser with SHA-256 {named['sha256']}, {text} has {cleaner.sha256}"
        )
    return Denoised(cleaner.module, network).eval(), card, behind(cleaner, card["weights_sha256"])


def _place(folder: Path, named: dict[str, str]) -> str:
    """The text that names the denoiser of a checkpoint, from the working directory."""
    there = folder / named["text"]
    return os.path.normpath(there) if there.exists() else named["text"]


def finetuned_at(card: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the sigmas that the network of a card was finetuned for behind a denoiser; None where any will do."""
    spec = card.get("spec", {})
    return tuple(spec["sigmas"]) if "denoiser" in card and spec.get("schedule", {}).get("epochs") else None


def behind(denoiser: LoadedDenoiser, sha256: str) -> str:
    """Return the hash of a classifier, with hash `sha256`, and the denoiser before it."""
    return hashlib.sha256(f"{sha256} {denoiser.sha256}".encode()).hexdigest()
