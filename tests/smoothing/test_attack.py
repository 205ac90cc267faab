"""Attacks of a classifier and of its smoothed version: exact on linear ones, whose smoothed version is the same."""

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import transmooth
from tests.helpers.attacks import distances, linear, pictures
from tests.helpers.records import attacked_row
from tests.helpers.smoothing import eager
from transmooth.attacks.gradients import log_odds
from transmooth.noise import block_key
from transmooth.records import attacked
from transmooth.smoothing.attack import (
    CLIMBED,
    Averaged,
    attack,
    contradictions,
    planned_votes,
    smoothed_target,
    usual_batch,
)
from transmooth.smoothing.decision import CHOICE


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return linear(classes=3, dtype=torch.float32).eval()


def test_a_classifier_is_robust_exactly_beyond_its_distances(network: nn.Sequential) -> None:
    images = pictures(60, dtype=torch.float32)
    labels = network(images).argmax(1)
    exact = distances(network, images, labels)
    epsilon = float(exact.quantile(0.5))
    frame = transmooth.attack(network, images, labels, epsilon=epsilon, steps=30, batch=16)
    clear = ((exact / epsilon - 1).abs() > 1e-3).numpy()
    assert clear.sum() > 55
    assert (frame["robust"] == (exact > epsilon).numpy())[clear].all()
    assert set(frame.columns) | {"model"} == set(attacked.SCHEMA.names)
    assert frame["index"].tolist() == list(range(60))
    assert (set(frame["batch"]), set(frame["restarts"]), set(frame["losses"])) == ({16}, {1}, {"cross_entropy, margin"})


def test_a_smoothed_linear_classifier_of_two_classes_is_robust_exactly_beyond_its_distances() -> None:
    """Its boundary is the one of the classifier: noise is as likely on both sides of it."""
    network = linear(classes=2, dtype=torch.float32).eval()
    images = pictures(16, dtype=torch.float32)
    labels = network(images).argmax(1)
    exact = distances(network, images, labels)
    epsilon = float(exact.quantile(0.6))
    # Near the boundary 1500 votes cannot tell the classes apart: 4 standard deviations of their share.
    clear = ((exact - epsilon).abs() > 4 * 0.05 / 1500**0.5) & (exact > 0.01)
    asked: dict[str, Any] = {"sigma": 0.05, "samples": 4, "n": 1500}
    frame = attack(network, images, labels, epsilon=epsilon, steps=6, losses=["margin"], **asked)
    assert clear.sum() > 9
    assert (frame["robust"].to_numpy() == (exact > epsilon).numpy())[clear.numpy()].all()
    assert 3 < frame["robust"].sum() < 11
    assert (frame["evaluations"] <= 1500 + 7 * 4 + 1500).all()
    assert set(frame["sigma"]) == {0.05}


def test_it_climbs_the_mean_probability_over_noise_of_its_own(network: nn.Sequential) -> None:
    images, labels = pictures(3, dtype=torch.float32), torch.tensor([0, 1, 2])
    averaged = Averaged(network, [4, 9, 2], 0.5, 3, seed=7)
    expected = []
    for image, index in zip(images, [4, 9, 2], strict=True):
        generator = torch.Generator().manual_seed(block_key(7, index, CLIMBED, 0))
        noise = torch.randn(3, *image.shape, generator=generator)
        expected.append(network(image + 0.5 * noise).softmax(1).mean(0))
    logs = averaged(images)
    torch.testing.assert_close(logs, torch.stack(expected).log())
    assert torch.equal(averaged(images), logs)  # the same noise in every step
    right = torch.stack(expected)[range(3), labels]
    torch.testing.assert_close(log_odds(logs, labels), ((1 - right) / right).log())


def test_a_probability_that_float32_rounds_to_1_can_be_climbed() -> None:
    images = pictures(2, dtype=torch.float32).requires_grad_()
    network = linear(3000, dtype=torch.float32)
    labels = network(images).argmax(1)
    losses = log_odds(Averaged(network, [0, 1], 0.001, 2, 0)(images), labels)
    (gradient,) = torch.autograd.grad(losses.sum(), images)
    assert (gradient.flatten(1).norm(dim=1) > 100).all()


def test_streams_of_noise_are_of_one_purpose_each() -> None:
    """Selection, estimation and pilot certify; so many more choose sigma; votes of a target are in their own."""
    seen: list[Tensor] = []

    class Keeps(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return images.flatten(1)[:, :2]

    model, image = Keeps().eval(), torch.full((3, 2, 2), 0.5)
    target = smoothed_target(model, eager(model, image[None], batch=64), 0.5, 1, 64, 0.001, 0)
    seen.clear()
    target.decide(image[None], [5])
    generator = torch.Generator().manual_seed(block_key(0, 5, 7, 0))
    noise = torch.empty(64, 2, 2, 3).normal_(generator=generator)
    torch.testing.assert_close(seen[0].permute(0, 2, 3, 1), 0.5 + 0.5 * noise)
    assert {0, 1, 2, CHOICE, CHOICE + 1, CHOICE + 2, CLIMBED, 7} == {*range(8)}


def test_a_decision_is_of_the_points_that_it_is_given(network: nn.Sequential) -> None:
    images = pictures(2, dtype=torch.float32)
    target = smoothed_target(network, eager(network, images), 0.001, 1, 100, 0.001, 0)
    first = target.decide(images, [0, 1])
    assert torch.equal(target.decide(images.flip(0), [0, 1]), first.flip(0))
    assert first.tolist() == network(images).argmax(1).tolist()
    assert first[0] != first[1] or torch.equal(first, network(images).argmax(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: should be a number above 0"),
        ({"sigma": 0.0}, "sigma must be a positive finite number"),
        ({"sigma": 0.5, "samples": 0}, "samples: should be a whole number from 1, found 0"),
        ({"sigma": 0.5, "n": 5}, "n = 5 votes always abstain at alpha = 0.001: it takes at least 11"),
        ({"sigma": 0.5, "alpha": 1.0}, "alpha must be strictly between 0 and 1"),
        ({"labels": [0, 3]}, r"labels must be integers in \[0, 3\)"),
        ({"images": torch.full((2, 3, 2, 2), 2.0)}, r"images must be within \[0, 1\]"),
    ],
)
def test_what_means_nothing_is_refused(network: nn.Sequential, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"images": pictures(2, dtype=torch.float32), "labels": [0, 1], "epsilon": 0.1} | change
    with pytest.raises(ValueError, match=message):
        attack(network, **given)


def test_a_model_in_train_mode_is_refused(network: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="the model is in train mode"):
        attack(linear(dtype=torch.float32).train(), pictures(2, dtype=torch.float32), [0, 1], epsilon=0.1)


def test_as_many_images_at_once_as_there_is_room_for_their_noise() -> None:
    assert [usual_batch(None, 16), usual_batch(0.5, 16), usual_batch(0.5, 1000)] == [256, 16, 1]


def test_votes_are_planned_for_the_images_and_each_run() -> None:
    settings = attack_settings(("margin",), 3)
    assert planned_votes(10, 100, settings) == 10 * 100 * 4


def attack_settings(losses: Any, restarts: int) -> Any:
    from transmooth.attacks.robust import Settings

    return Settings("l2", 0.5, 20, losses, restarts, 1, 0)


def test_a_point_of_another_class_below_a_radius_contradicts_it() -> None:
    def point(index: int, distance: float | None, adversarial: int | None = 5, **changes: Any) -> dict[str, Any]:
        found = {"robust": False, "adversarial": adversarial, "distance": distance, "loss": "margin", "restart": 0}
        return attacked_row(index, sigma=0.5, **(found if distance is not None else {})) | changes

    certified = pd.DataFrame(
        {
            "index": [0, 1, 2, 3, 4, 5, 6, 7],
            "prediction": [3, 3, 3, -1, 3, 4, 3, 3],
            "radius": [0.4, 0.4, 0.4, 0.0, 0.4, 0.2, 0.4, 0.1],
        }
    )
    frame = pd.DataFrame(
        [
            point(0, 0.39),
            point(1, 0.4),  # at the radius itself nothing is promised
            point(2, 0.5),
            point(3, 0.1),  # was not certified
            point(4, None),  # nothing was found
            point(5, None, prediction=3, robust=True),  # the vote at the image itself is another class
            point(6, None, prediction=-1, robust=False),  # an abstention is no answer
            point(9, 0.1),  # only attacked
        ]
    )
    found = contradictions(frame, certified)
    assert found[["index", "distance", "adversarial", "broken"]].to_numpy().tolist() == [
        [5, 0.0, 3, True],
        [0, 0.39, 5, True],
        [1, 0.4, 5, False],
        [2, 0.5, 5, False],
    ]
    assert found["radius"].tolist() == [0.2, 0.4, 0.4, 0.4]
    assert not contradictions(frame[frame["index"] == 4], certified)["broken"].any()
