"""What a prepared set says of itself: light, for jobs that read no image."""

from pathlib import Path
from typing import Any

from transmooth import files


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared set: classes, counts, transform, checksum.  Raises OSError and ValueError."""
    if not (folder / "manifest.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"no prepared set in {folder} (no manifest.json; there is: {there or 'nothing'})")
    return files.read_json(folder / "manifest.json", "a manifest")
