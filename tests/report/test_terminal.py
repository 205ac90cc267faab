import json
from pathlib import Path

from transmooth.report.terminal import shared_images


def test_test_images_that_are_training_images_are_told(tmp_path: Path) -> None:
    manifest = tmp_path / "digits" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"duplicates_across_splits": 3, "counts": {"test": 500}}))
    assert f"{manifest.parent}: 3 of 500 test images are training or validation images too" in str(
        shared_images(manifest)
    )
    manifest.write_text(json.dumps({"duplicates_across_splits": 0, "counts": {"test": 500}}))
    assert shared_images(manifest) is None
