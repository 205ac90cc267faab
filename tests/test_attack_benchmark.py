"""benchmarks/attack.py: exact on the linear network, and anyone else takes turns with us."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import attack


class Fake:
    """Stands where torchattacks' APGD does: moves every image to grey, whatever is asked."""

    asked: dict[str, Any]

    def __init__(self, network: nn.Module, **asked: Any) -> None:
        Fake.asked = asked

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return torch.full_like(images, 0.5)


def test_it_measures_what_is_missed_and_lets_others_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", SimpleNamespace(APGD=Fake))
    found = attack.measure(quick=True)
    assert len(found["linear"]) == 4
    for name, counts in found["linear"].items():
        assert 0 < counts["within"] < 60
        assert counts["beyond"] == 0
        assert counts["missed"] <= 6, name
        # Some lie behind a class that looks nearer at first; the margin misses no more than cross-entropy.
        assert counts["missed"] >= found["linear"][name.replace("cross_entropy,", "cross_entropy + margin,")]["missed"]
    contest = found["convolutions"]
    assert contest["robust, margin too"] <= contest["robust"]["transmooth"] < contest["clean"]
    assert Fake.asked == {"norm": "L2", "eps": 1.0, "steps": 15, "n_restarts": 1, "seed": 0, "loss": "ce"}
    assert contest["robust"]["torchattacks"] < 0.4  # one class for all
    assert contest["time relative to transmooth"]["transmooth"] == 1
    assert contest["time relative to transmooth"]["torchattacks"] < 1


def test_alone_it_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    assert list(attack.contestants(nn.Flatten(), 5)) == ["transmooth"]
