"""The choice of a sigma for each training image, by networks of which it is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.specs import train_spec
from transmooth.data.loader import Split, open_split
from transmooth.noises import load_noise

CPU = torch.device("cpu")


class Always(nn.Module):
    """Answers with one class, whatever it sees, and is never right of the others."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        return 10 * nn.functional.one_hot(torch.full((len(images),), self.answer), 10).float()


@pytest.fixture(scope="module")
def split(digits: Path) -> Split:
    whole = open_split(digits, "train")
    return Split(whole.images[:40], whole.labels[:40], whole.classes, whole.size, whole.mean, whole.std)


@pytest.mark.parametrize("sigmas", [[0.25, 0.5, 1.0], [1.0, 0.25, 0.5]])
def test_it_is_one_step_below_the_largest_bound_and_the_smallest_where_there_is_none(
    split: Split, sigmas: list[float]
) -> None:
    """Who is always right is right at the largest sigma; who never is has no bound above one half."""
    spec = train_spec(noise="samplewise", n0=20, sigmas=sigmas)
    chosen = load_noise("samplewise")(spec, split, lambda: Always(3).train(), CPU, slice(None))
    assert chosen is not None
    assert (split.labels == 3).any()
    assert chosen.tolist() == np.where(split.labels == 3, 0.5, 0.25).tolist()


def test_below_the_smallest_there_is_none(split: Split) -> None:
    spec = train_spec(noise="samplewise", n0=20, sigmas=[0.5])
    chosen = load_noise("samplewise")(spec, split, lambda: Always(3), CPU, slice(None))
    assert chosen is not None
    assert (chosen == 0.5).all()


def test_processes_choose_for_their_share(split: Split) -> None:
    spec = train_spec(noise="samplewise", n0=20, sigmas=[0.25, 0.5, 1.0])
    choose = load_noise("samplewise")
    whole, *parts = (
        choose(spec, split, lambda: Always(3), CPU, share)
        for share in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    first, second = parts
    assert whole is not None
    assert first is not None
    assert second is not None
    assert (first[1::2] == 0).all()
    assert np.array_equal(first + second, whole)


def test_uniform_chooses_nothing(split: Split) -> None:
    assert load_noise("uniform")(train_spec(), split, lambda: Always(3), CPU, slice(None)) is None
