"""Whether the file that a command is to go on with is of the job that it is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transmooth.loading.images import ImageSet

# What a file says of where model and images were, and how many of them: not what the job is.
NAMED = frozenset(("images", "model.model", "data.images", "data.split", "data.checksum"))


def same_job(found: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError, naming what differs, unless the file at `path` is of the job that is asked for."""
    there, ours = (
        dict(job.get("spec", {}))
        | {f"{part}.{key}": value for part in ("model", "data") for key, value in dict(job.get(part) or {}).items()}
        for job in (found, asked)
    )
    if differing := sorted(key for key in (there.keys() | ours.keys()) - NAMED if there.get(key) != ours.get(key)):
        shown = "; ".join(
            f"{key}: {str(there.get(key))[:100]} there, {str(ours.get(key))[:100]} asked for" for key in differing
        )
        raise ValueError(f"{path}: is of another job ({shown}); remove it or choose another --out")


def same_pictures(
    rows: Sequence[Mapping[str, Any]], images: "ImageSet", pictures: Mapping[int, str], path: Path
) -> None:
    """Raise ValueError, naming the first, unless rows are of these images; pictures: those that are known already."""
    others = sorted({row["index"] for row in rows} - pictures.keys())
    if beyond := [index for index in others if index >= len(images)]:
        raise ValueError(f"{path}: has image {beyond[0]}, {images.description} has {len(images)}; choose another --out")
    known = {**pictures, **images.pictures(others)}
    for row in sorted(rows, key=lambda row: row["index"]):
        index = row["index"]
        if row["picture"] != known[index] or row["label"] != images.labels[index]:
            what = "picture" if row["picture"] != known[index] else "label"
            name = f" ({row['file']})" if row["file"] else ""
            raise ValueError(
                f"{path}: is of another job: image {index}{name} had another {what}; remove it or choose another --out"
            )
