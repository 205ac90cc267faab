"""Denoisers by a line of text, and what a checkpoint says of the one that it was trained behind."""

from pathlib import Path

import pytest

from tests.helpers.specs import train_spec
from transmooth.checkpoint.card import read_card
from transmooth.loading.denoisers import load_classifier
from transmooth.training.loop import train

# Three channels in and out, 3 x 3, with a bias.
WEIGHTS = 3 * 3 * 3 * 3 + 3
MODULE = """
import torch

def smooth():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 3, 3, padding=1)
"""


def test_the_card_counts_the_weights_of_the_denoiser_apart(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs_smooth.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    train(train_spec(epochs=0, warmup_epochs=0, sigmas=[0.25]), digits, tmp_path / "alone")
    train(
        train_spec(epochs=0, warmup_epochs=0, sigmas=[0.25]),
        digits,
        tmp_path / "behind",
        denoiser="theirs_smooth:smooth",
    )
    alone, behind = (read_card(tmp_path / name) for name in ("alone", "behind"))
    assert "denoiser" not in alone
    assert behind["denoiser"] == {
        "text": "theirs_smooth:smooth",
        "sha256": behind["denoiser"]["sha256"],
        "parameters": WEIGHTS,
    }
    assert behind["parameters"] == alone["parameters"]
    load_classifier(tmp_path / "behind")  # what it says more is no other denoiser
