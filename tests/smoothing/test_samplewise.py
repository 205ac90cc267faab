"""A deployed sample-wise classifier answers with the σ of the region that the query is in."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.smoothing import Linear
from transmooth.smoothing import samplewise
from transmooth.smoothing.regions import Allocation
from transmooth.smoothing.samplewise import SamplewiseClassifier
from transmooth.smoothing.smoothed import SmoothedClassifier

ANCHORS = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4), np.uint8)
ALLOCATION = Allocation(ANCHORS, np.array([0.25, 1.0, 0.25]), np.array([0.2, 0.3, 0.1]))


def queries() -> Tensor:
    """The anchors, points beside them within and beyond their regions, and one far from all."""
    anchors = torch.from_numpy(ANCHORS).float() / 255
    shift = torch.full_like(anchors[0], 1 / 48**0.5) * torch.where(anchors.mean(0) > 0.5, -1, 1)
    return torch.cat([anchors, (anchors + 0.09 * shift).clamp(0, 1), (anchors + 0.4 * shift).clamp(0, 1)])


# Its boundary is among the queries.
MODEL = Linear(float((queries().flatten(1) @ Linear(0.0).weight.detach()).median())).eval()


def test_a_query_has_the_sigma_of_its_region_and_else_the_default() -> None:
    deployed = SamplewiseClassifier(MODEL, ALLOCATION, 0.5, seed=3)
    assert deployed.sigma_at(queries()).tolist() == [0.25, 1.0, 0.25, 0.25, 1.0, 0.25, 0.5, 0.5, 0.5]


def test_each_is_answered_as_by_the_smoothed_classifier_at_that_sigma() -> None:
    """On the same noise: that of the seed and of the query's position."""
    images = queries()
    classes, sigmas = SamplewiseClassifier(MODEL, ALLOCATION, 0.5, seed=3).predict(images, n=200)
    assert sigmas.tolist() == [0.25, 1.0, 0.25, 0.25, 1.0, 0.25, 0.5, 0.5, 0.5]
    alone = {s: SmoothedClassifier(MODEL, s, seed=3).predict(images, n=200) for s in (0.25, 0.5, 1.0)}
    assert classes.tolist() == [int(alone[s][i]) for i, s in enumerate(sigmas.tolist())]
    assert len({*classes.tolist()}) > 1
    assert (SamplewiseClassifier(MODEL, ALLOCATION, 0.5)(images[:3]) == classes[:3]).all()


def test_without_a_seed_each_call_draws_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def answer(*given: Any) -> Tensor:
        seen.append(given[4])
        return torch.zeros(1).long()

    monkeypatch.setattr(samplewise, "predict_at", answer)
    deployed = SamplewiseClassifier(MODEL, ALLOCATION, 0.5)
    for _ in range(2):
        deployed.predict(queries()[:1])
    assert seen[0] != seen[1]


def test_queries_of_another_shape_are_refused() -> None:
    deployed = SamplewiseClassifier(MODEL, ALLOCATION, 0.5)
    with pytest.raises(ValueError, match=r"of the anchors' shape, \[3, 4, 4\], got \[3, 4, 5\]"):
        deployed.predict(torch.rand(1, 3, 4, 5))
    with pytest.raises(ValueError, match="within"):
        deployed.predict(torch.full((1, 3, 4, 4), 2.0))
    with pytest.raises(ValueError, match="sigma must be"):
        SamplewiseClassifier(MODEL, ALLOCATION, 0.0)
