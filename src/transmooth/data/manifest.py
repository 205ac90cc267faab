"""What a prepared set says of itself: light, for jobs that read no image."""

import json
from pathlib import Path
from typing import Any


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared set: classes, counts, transform, checksum.  Raises FileNotFoundError."""
    if not (folder / "manifest.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"no prepared set in {folder} (no manifest.json; there is: {there or 'nothing'})")
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest
