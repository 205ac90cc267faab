"""Several attacks in turn: exact on linear networks, each image by itself, and only what stands goes on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attacks import Spy, distances, linear, pictures
from transmooth.attacks import robust
from transmooth.attacks.ball import keyed_starts
from transmooth.attacks.robust import Settings, Target, attack_batches, base_target, cut, left
from transmooth.params.values import BallNorm

BOTH = Settings("l2", 0.1, 20, ("cross_entropy", "margin"), 1, 64, 0)


def attacked(network: nn.Module, images: Tensor, labels: Tensor, settings: Settings = BOTH) -> list[dict[str, Any]]:
    batches = cut(range(len(images)), settings.batch)
    known = dict(enumerate(labels.tolist()))
    rows = attack_batches(base_target(network), images.__getitem__, known, batches, settings)
    return [row for each in rows for row in each]


def column(rows: Sequence[dict[str, Any]], name: str) -> Tensor:
    return torch.tensor([row[name] for row in rows])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_network_is_robust_exactly_beyond_the_distance(norm: BallNorm, scale: float) -> None:
    """Of many classes cross-entropy alone misses some; at 1000 the probability of most images is 1 in float32."""
    network, images = linear(scale, classes=5, dtype=torch.float32), pictures(200, dtype=torch.float32)
    labels = network(images).argmax(1)
    labels[:20] = (labels[:20] + 1) % 5
    exact = distances(network, images, labels, norm)
    epsilon = float(exact[20:].quantile(0.6))
    rows = attacked(network, images, labels, replace(BOTH, norm=norm, epsilon=epsilon, steps=40))
    found, clear = column(rows, "robust"), (exact / epsilon - 1).abs() > 1e-3
    assert clear.sum() > 190
    assert torch.equal(found[clear], (exact > epsilon)[clear])
    assert 0.3 < (~found[20:]).float().mean() < 0.7
    for at, row in enumerate(rows):
        if row["adversarial"] is None:
            assert (row["distance"], row["loss"], row["restart"]) == (None, None, None)
            assert row["robust"] == (row["prediction"] == row["label"])
        else:
            assert row["adversarial"] != row["label"] == row["prediction"]
            assert exact[at] * 0.999 < row["distance"] <= epsilon * (1 + 1e-5) + 1e-7
    assert all(row["evaluations"] == 1 and not row["robust"] for row in rows[:20])  # wrong before any attack


def test_only_what_stands_is_attacked_by_the_next_run_and_each_start_is_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs that fool what they are made to: cross-entropy image 2, the margin image 4, its second start image 1."""
    images = torch.full((6, 3, 2, 2), 0.5)
    fools = {("cross_entropy", 0): 2, ("margin", 0): 4, ("margin", 1): 1}
    asked: list[tuple[str, list[int]]] = []
    names = {loss: name for name, loss in robust.LOSSES.items()}
    settings = replace(BOTH, restarts=2, epsilon=0.3, steps=7)

    def fake(network: Any, images: Tensor, labels: Tensor, begin: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        assert (options["epsilon"], options["steps"], options["norm"], options["leave"]) == (0.3, 7, "l2", False)
        name, restart = names[options["loss"]], len(asked) // 2
        expected = keyed_starts(images, network.indices, 0.3, 0, "l2", restart)
        assert torch.equal(begin, expected)
        asked.append((name, network.indices))
        made = images.clone()
        if (at := fools.get((name, restart))) is not None:
            made[network.indices.index(at), 0, 0, 0] = 0.75
        return made, torch.full_like(labels, 8)

    class Named(nn.Module):
        def __init__(self, indices: Sequence[int]) -> None:
            super().__init__()
            self.indices = list(indices)

    def decide(images: Tensor, indices: Sequence[int]) -> Tensor:
        answers = torch.where(images[:, 0, 0, 0] > 0.5, 3, 0)
        # Image 5 is wrong; of image 3 nothing can be told where it is attacked, which is no answer.
        for at, index in enumerate(indices):
            answers[at] = 7 if index == 5 else -1 if index == 3 and asked else answers[at]
        return answers

    monkeypatch.setattr(robust, "auto_pgd", fake)
    target = Target(Named, decide, 10, 100, False, "fp32", torch.device("cpu"), 0.25)
    (rows,) = attack_batches(target, images.__getitem__, dict.fromkeys(range(6), 0), [range(6)], settings)
    assert asked == [
        ("cross_entropy", [0, 1, 2, 3, 4]),
        ("margin", [0, 1, 3, 4]),
        ("cross_entropy", [0, 1, 3]),
        ("margin", [0, 1, 3]),
    ]
    assert [row["robust"] for row in rows] == [True, False, False, True, False, False]
    assert [(row["loss"], row["restart"], row["adversarial"], row["distance"]) for row in rows] == [
        (None, None, None, None),
        ("margin", 1, 3, 0.25),
        ("cross_entropy", 0, 3, 0.25),
        (None, None, None, None),
        ("margin", 0, 3, 0.25),
        (None, None, None, None),
    ]
    # 100 votes, and of each run 8 points of 10 passes and 100 votes.
    assert [row["evaluations"] for row in rows] == [100 + 180 * runs for runs in (4, 4, 1, 4, 2, 0)]
    assert {row["sigma"] for row in rows} == {0.25}
    seconds = [row["seconds"] / row["evaluations"] for row in rows]
    assert seconds == pytest.approx([seconds[0]] * 6)


def test_nothing_is_attacked_where_nothing_stands() -> None:
    network, images = linear(dtype=torch.float32), pictures(5, dtype=torch.float32)
    spy = Spy(network.eval())
    rows = attacked(spy, images, 1 - network(images).argmax(1))
    assert len(spy.seen) == 1
    assert not any(row["robust"] for row in rows)


def test_batches_are_cut_by_place_and_those_that_lack_an_image_are_left() -> None:
    batches = cut([0, 3, 6, 9, 12], 2)
    assert batches == [[0, 3], [6, 9], [12]]
    assert left(batches, []) == batches
    assert left(batches, [{"index": index} for index in (0, 3, 6)]) == [[6, 9], [12]]


def test_a_classifier_is_asked_in_eval_mode_and_its_dtype_is_named() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.99), nn.Linear(12, 3))
    target, images = base_target(network), pictures(8, dtype=torch.float32)
    assert torch.equal(target.decide(images, range(8)), target.decide(images, range(8)))
    assert network.training
    assert (target.dtype, base_target(network.double()).dtype) == ("fp32", "own")
    assert base_target(nn.Flatten()).device == torch.device("cpu")


def test_logits_that_are_no_numbers_are_told() -> None:
    broken = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.zeros(3, 3, 2, 2)
    images[1] = torch.inf
    with pytest.raises(ValueError, match="image 1: the model's logits are NaN or infinite"):
        attacked(broken, images, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: should be a number above 0, found 0.0"),
        ({"steps": 0}, "steps: should be a whole number from 1, found 0"),
        ({"norm": "l1"}, "norm: should be one of l2, linf, found 'l1'"),
        ({"losses": ()}, r"losses: should be some of cross_entropy, margin, each once, found \[\]"),
        ({"losses": ("margin", "margin")}, "losses: should be some of"),
        ({"losses": ("dlr",)}, r"losses: should be some of .* found \['dlr'\]"),
        ({"restarts": 0}, "restarts: should be a whole number from 1, found 0"),
        ({"batch": 0}, "batch: should be a whole number from 1, found 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    BOTH.check()
    with pytest.raises(ValueError, match=message):
        replace(BOTH, **change).check()
