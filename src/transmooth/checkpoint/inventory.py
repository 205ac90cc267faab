"""What the checkpoints below a folder are, by their cards."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transmooth import files
from transmooth.checkpoint.card import CheckpointError, read_card


@dataclass(frozen=True)
class Found:
    """A checkpoint.

    path: as other commands take it.  what: the classes and the share of test images that are right without noise, or
    that it is a denoiser.  sigmas: of the noise that its last stage learned on, empty of clean images.  denoiser: the
    path of the one that it stands behind.  fault: what is wrong with its files; then nothing else is known.
    """

    path: str
    network: str = ""
    what: str = ""
    sigmas: tuple[float, ...] = ()
    denoiser: str = ""
    megabytes: float = 0.0
    sha256: str = ""
    fault: str = ""


def checkpoints(folder: Path) -> list[Found]:
    """Return every checkpoint below a folder, by path.  Raises FileNotFoundError if there is none."""
    found = [_read(each) for each in sorted(_folders(folder))]
    if not found:
        raise FileNotFoundError(f"{folder}: no checkpoint below it: a folder with model.json and model.safetensors")
    return found


def _folders(folder: Path) -> Iterator[Path]:
    for each, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if {"model.json", "model.safetensors"} <= {*names}:
            yield Path(each)


def _read(folder: Path) -> Found:
    try:
        card, weights = read_card(folder), folder / "model.safetensors"
        sha256 = files.sha256(weights)
        if sha256 != card["weights_sha256"]:
            return Found(str(folder), fault="damaged: the weights are not those that the card names")
        spec = card.get("spec", {})
        return Found(
            path=str(folder),
            network=card["network"]["name"],
            what=_what(card),
            sigmas=tuple(sigma for sigma in spec.get("sigmas", ()) if sigma > 0),
            denoiser=_below(folder, card.get("denoiser", {}).get("text", "")),
            megabytes=weights.stat().st_size / 1e6,
            sha256=sha256,
        )
    except CheckpointError as error:
        return Found(str(folder), fault=str(error))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        return Found(str(folder), fault=f"holds values that no training writes: {type(error).__name__}: {error}")


def _what(card: Mapping[str, Any]) -> str:
    test = card.get("test") or {}
    if "correct" in test:
        right = f", {100 * test['correct'] / test['images']:.1f} % of {test['images']} test images right"
        return f"{len(card['classes'])} classes at {card['size']} px{right}"
    kind = "a denoiser" if card.get("spec", {}).get("objective") == "denoise" else f"{len(card['classes'])} classes"
    return f"{kind} at {card['size']} px"


def _below(folder: Path, text: str) -> str:
    there = folder / text
    return os.path.normpath(there) if text and there.exists() else text
