"""The card of a checkpoint: model.json, which says what the network is, how it was made and what it reaches.

Its `checksum` is the SHA-256 of all the rest: a flipped bit in the count of right answers would be a wrong number.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from transmooth import files

FORMAT = 2  # 1 had no checksum


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another kind.  The message names the file."""


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `folder`/model.json, with its format and checksum."""
    card = card | {"format": FORMAT}
    files.write_text(folder / "model.json", _canonical(card | {"checksum": _checksum(card)}))


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a checkpoint.  Raises CheckpointError when it is missing, not JSON, or not what its checksum says."""
    path = folder / "model.json"
    try:
        card = files.read_json(path, "a card")
        stated = card.pop("checksum", None)
        found = _checksum(card)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such card; a checkpoint is a folder with it and model.safetensors") from None
    except RecursionError:
        raise CheckpointError(f"{path}: not a card: nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    # What is read is compared, not the file: people may lay out a card anew.
    if (card.get("format") != 1 or stated is not None) and stated != found:
        raise CheckpointError(
            f"{path}: damaged: it is not what its checksum says; remove it, and the same command trains again"
        )
    return card


def _canonical(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _checksum(card: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(card).encode()).hexdigest()
