"""Folders as diffusers writes them, with a tiny U-Net."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

# For images whose side is even.
TINY: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "add_attention": False,
}


def write(
    folder: Path, unet: Mapping[str, Any] | None = None, schedule: Mapping[str, Any] | None = None, seed: int = 0
) -> Any:
    """Write a U-Net of random weights and its scheduler as diffusers does, and return the U-Net, in eval mode."""
    torch.manual_seed(seed)
    made: Any = diffusers.UNet2DModel(**TINY | dict(unet or {}))  # type: ignore[no-untyped-call]
    made.eval().save_pretrained(folder)
    scheduler(**schedule or {}).save_pretrained(folder)
    return made


def scheduler(**options: Any) -> Any:
    """Return diffusers' scheduler."""
    return diffusers.DDPMScheduler(**options)  # type: ignore[no-untyped-call]


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `...` removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
