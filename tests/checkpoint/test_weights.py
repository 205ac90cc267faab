import json
from pathlib import Path

import pytest
import torch

from tests.helpers.checkpoints import CARD
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.models.build import Network


def test_round_trip_gives_the_same_logits(network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path, network, CARD)
    loaded, card = weights.load(tmp_path)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(loaded(images), network(images))
    assert not loaded.training
    assert card["classes"] == CARD["classes"]


def test_a_flipped_bit_is_found(network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path, network, CARD)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        weights.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path, network, CARD | {"classes": ["only", "two"]})
    with pytest.raises(CheckpointError, match="does not fit resnet18"):
        weights.load(tmp_path)


@pytest.mark.parametrize(("content", "message"), [(None, "no such card"), ("{", "not a card")])
def test_a_missing_or_broken_card_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        weights.load(tmp_path)


def test_the_card_is_readable_json(network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path, network, CARD)
    assert json.loads((tmp_path / "model.json").read_text())["network"]["norm"] == "layer"
