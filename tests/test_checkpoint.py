import json
from pathlib import Path

import pytest
import torch

from tests.conftest import NETWORK
from transmooth import checkpoint
from transmooth.models import Network

CARD = {"network": NETWORK, "classes": [str(i) for i in range(10)], "mean": [0.5] * 3, "std": [0.25] * 3}


def test_round_trip_gives_the_same_logits(network: Network, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, network, CARD)
    loaded, card = checkpoint.load(tmp_path)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(loaded(images), network(images))
    assert not loaded.training
    assert card["classes"] == CARD["classes"]


def test_a_flipped_bit_is_found(network: Network, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, network, CARD)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=r"model\.safetensors: damaged"):
        checkpoint.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(network: Network, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, network, CARD | {"classes": ["only", "two"]})
    with pytest.raises(checkpoint.CheckpointError, match="does not fit resnet18"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(("content", "message"), [(None, "no such card"), ("{", "not a card")])
def test_a_missing_or_broken_card_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.load(tmp_path)


def test_state_of_another_spec_or_damaged_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, spec = tmp_path / "resume.pt", {"seed": 1}
    checkpoint.save_state(path, checkpoint.new_state(spec) | {"step": 7})
    state = checkpoint.load_state(path, spec)
    assert state is not None
    assert state["step"] == 7
    assert checkpoint.load_state(path, {"seed": 2}) is None
    path.write_bytes(path.read_bytes()[:100])
    assert checkpoint.load_state(path, spec) is None
    assert "damaged" in capsys.readouterr().out


def test_the_card_is_readable_json(network: Network, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, network, CARD)
    assert json.loads((tmp_path / "model.json").read_text())["network"]["norm"] == "layer"
