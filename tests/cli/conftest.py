"""A small network that commands are about."""

from pathlib import Path

import pytest

from tests.helpers.specs import train_spec
from transmooth.training.loop import train


@pytest.fixture(scope="session")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, so that predictions and radii differ from image to image."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    train(train_spec(epochs=8, lr=[0.02]), digits, folder)
    return folder
