import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import transmooth
from tests.helpers.smoothing import Linear, coins, image
from transmooth.smoothing import smoothed
from transmooth.smoothing.bounds import max_radius
from transmooth.smoothing.sampler import Sampler
from transmooth.smoothing.smoothed import (
    SmoothedClassifier,
    as_images,
    check_model,
    choose_sigma,
    choose_stages,
    vote,
)

IMAGES = torch.stack([image(index) for index in range(12)])
MODEL = Linear(-0.5).eval()
MARGINS = (IMAGES.flatten(1) @ MODEL.weight - MODEL.bias).detach().numpy()
EXACT = np.abs(MARGINS) / MODEL.weight.norm().item()
RIGHT = (MARGINS > 0).astype(int)


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.function(images)
        return logits


# Where all pixels are 1/2, noise makes either class equally likely.
TIE = Function(lambda x: torch.stack([(x - 0.5).sum((1, 2, 3)), (0.5 - x).sum((1, 2, 3))], 1))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, transmooth, transmooth.plan; from transmooth.smoothing import bounds; "
    code += "assert bounds.min_samples(0.001) == 10; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_function_is_an_attribute_of_the_package() -> None:
    from transmooth import certify

    assert transmooth.certify is certify is smoothed.certify


def test_certify_is_sound_and_says_what_it_did() -> None:
    frame = transmooth.certify(MODEL, IMAGES, RIGHT, sigma=0.5, n=4000)
    assert list(frame["index"]) == list(range(12))
    assert (frame["radius"] <= EXACT).all()
    decided = frame["prediction"] >= 0
    assert decided.sum() >= 6
    assert (frame["prediction"] == RIGHT)[decided].all()
    assert frame["radius_linf"].tolist() == pytest.approx((frame["radius"] / np.sqrt(48)).tolist())
    assert set(frame["method"]) == {"cohen"}
    assert set(frame["evaluations"]) == {4100}
    assert "label" not in transmooth.certify(MODEL, IMAGES[:1], sigma=0.5, n=100)


def test_the_module_certifies_as_the_function_does() -> None:
    module = SmoothedClassifier(MODEL, 0.5, seed=3)
    assert isinstance(module, transmooth.SmoothedClassifier)
    settings: dict[str, Any] = {"method": "sequential", "radii": [0.0, 0.25, 0.5], "n": 2000}
    frame = module.certify(IMAGES, RIGHT, **settings)
    other = transmooth.certify(MODEL, IMAGES, RIGHT, sigma=0.5, seed=3, **settings)
    assert frame.drop(columns="seconds").equals(other.drop(columns="seconds"))
    assert set(frame["radius"]) <= {0.0, 0.25, 0.5}


def test_predict_gives_the_majority_or_abstains() -> None:
    module = SmoothedClassifier(MODEL, 0.5, seed=0)
    found = module(IMAGES).numpy()
    clear = EXACT > 0.1  # at n = 1000 a majority of 0.58 is told from 1/2 but for probability 1e-3
    assert (found[clear] == RIGHT[clear]).all()
    assert clear.sum() >= 8
    assert module.predict(IMAGES, n=1000).tolist() == found.tolist()
    assert module.predict(IMAGES, n=11).tolist() != found.tolist()
    # Between two classes that are equally likely there is no majority.
    assert SmoothedClassifier(TIE, 0.5, seed=0)(torch.full((3, 3, 4, 4), 0.5)).tolist() == [-1] * 3


def test_predict_draws_fresh_noise_unless_it_is_given_a_seed() -> None:
    def answers(seed: int | None = None) -> list[list[int]]:
        module = SmoothedClassifier(TIE, 0.5, seed=seed)
        return [module.predict(torch.full((200, 3, 4, 4), 0.5), n=11, alpha=0.9).tolist() for _ in range(2)]

    (first, second), (one, other) = answers(), answers(seed=7)
    assert first != second  # each of the 200 answers is the same with probability 0.35
    assert one == other
    records = [SmoothedClassifier(MODEL, 0.5, seed=seed).certify(IMAGES, n=100) for seed in (None, 0)]
    assert set(records[0]["seed"]) == {0}
    assert records[0].drop(columns="seconds").equals(records[1].drop(columns="seconds"))


def test_a_vote_is_wrong_with_probability_alpha_at_most() -> None:
    images = np.arange(4000)
    answers = vote(coins(*[[0.495, 0.505]] * 4000), images, 200, 0.05)
    assert (answers == 0).mean() < 0.05  # 0.018 expected
    assert (answers == -1).mean() > 0.9
    assert (vote(coins(*[[0.2, 0.8]] * 100), np.arange(100), 200, 0.001) == 1).all()
    # 2 * 2^-11 <= 0.001 < 2 * 2^-10
    assert vote(coins([0.0, 1.0]), np.arange(1), 11, 0.001).tolist() == [1]
    with pytest.raises(ValueError, match=r"n = 10 votes always abstain at alpha = 0.001: it takes at least 11"):
        vote(coins([0.0, 1.0]), np.arange(1), 10, 0.001)


def test_one_classifier_of_several_sigmas_is_certified_and_predicts() -> None:
    """Of a linear network every σ has the same radius, and so has the classifier that is made of them."""
    module = SmoothedClassifier(MODEL, [1.0, 0.25], method="cascade", seed=0)
    frame = module.certify(IMAGES, n=2000)
    assert frame["index"].tolist() == np.arange(12).repeat(2).tolist()
    assert frame["sigma"].tolist() == [1.0, 0.25] * 12
    same = frame.groupby("index")[["selected", "prediction", "radius"]].nunique()
    assert (same == 1).all(axis=None)
    answers = frame.drop_duplicates("index")
    assert (answers["radius"] <= EXACT).all()
    decided = answers["prediction"] >= 0
    assert decided.sum() >= 6
    assert (answers["prediction"] == RIGHT)[decided].all()
    other = transmooth.certify(MODEL, IMAGES, sigma=[1.0, 0.25], method="cascade", n=2000)
    assert frame.drop(columns="seconds").equals(other.drop(columns="seconds"))
    assert module.predict(IMAGES, n=2000).tolist() == answers["prediction"].tolist()
    assert SmoothedClassifier(MODEL, [1.0, 0.25], method="cascade")(IMAGES[:2]).shape == (2,)
    high = transmooth.certify(MODEL, IMAGES, sigma=[1.0, 0.25], method="cascade", thresholds=[9.0, 0.0], n=2000)
    alone = transmooth.certify(MODEL, IMAGES, sigma=0.25, n=2000, alpha=0.001 / 3)
    found = high[high["stage"] == 1].reset_index()
    tried = found["n"] > 0
    assert found["radius"][tried].tolist() == pytest.approx(alone["radius"][tried].tolist())  # the first never answers
    assert (found["radius"][tried] > 0).sum() >= 6


@pytest.mark.parametrize("sigma", [0.5, [0.5]])
def test_a_classifier_of_one_stage_predicts_what_it_certifies(sigma: Any) -> None:
    high = SmoothedClassifier(MODEL, sigma, method="cascade", thresholds=[3.0], seed=0)  # never this sure
    assert set(high.certify(IMAGES, n=1000)["prediction"]) == {-1}
    assert high.predict(IMAGES).tolist() == [-1] * 12
    low = SmoothedClassifier(MODEL, sigma, method="cascade", seed=0)
    assert low.predict(IMAGES).tolist() == low.certify(IMAGES, n=1000)["prediction"].tolist()
    assert max(low.predict(IMAGES).tolist()) >= 0


def test_the_stages_that_are_chosen_are_of_other_noise_and_deploy() -> None:
    stages, score = choose_stages(Brittle().eval(), IMAGES, [0] * 12, [1.0, 0.25, 0.1], n=200)
    assert stages.sigmas == (0.25,)  # at 1 it is always wrong, and 0.25 reaches farther than 0.1
    assert score == pytest.approx(float(max_radius(200, 0.001, 0.25)))
    module = SmoothedClassifier(MODEL, stages.sigmas, method="cascade", thresholds=stages.thresholds, seed=0)
    assert len(module(IMAGES)) == 12


@pytest.mark.parametrize(
    ("sigma", "settings", "message"),
    [
        (
            0.5,
            {"thresholds": [0.1]},
            "thresholds are for the methods cascade, margin, multiscale, dual_rs; got them with cohen",
        ),
        ([1.0, 0.5], {"thresholds": [0.1, 0]}, "thresholds are for the methods"),
        ([1.0, 1.0], {"method": "cascade"}, "each sigma should be one stage, got 1.0, 1.0"),
        ([1.0, 0.5], {"method": "margin", "thresholds": [0.1]}, "one threshold for each of 2 sigmas, got 1"),
        (
            [1.0, 0.5],
            {"method": "cascade", "thresholds": [-0.1, 0]},
            "thresholds should be ≥ 0 and finite, got -0.1, 0",
        ),
        ([1.0, 0.5], {"method": "cascade", "n": 10}, "n = 10 samples can never certify .* cascade needs at least 12"),
        (0.5, {"radii": [0.5]}, "sequential, and no other method at one sigma, takes a grid of radii"),
        ([1.0, 0.5], {"method": "cascade", "radii": [0.5, 0.25]}, "in increasing order"),
        ([1.0, 0.0], {"method": "cascade"}, "sigma must be a positive"),
    ],
)
def test_stages_that_do_not_fit_are_refused(sigma: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transmooth.certify(MODEL, IMAGES, sigma=sigma, **settings)


def test_several_sigmas_are_no_classifier_by_a_method_of_one() -> None:
    with pytest.raises(
        ValueError, match="several sigmas is for the methods cascade, margin, multiscale, dual_rs; got them with cohen"
    ):
        SmoothedClassifier(MODEL, [1.0, 0.5])


class Brittle(nn.Module):
    """Right for all images while their noise is small; above, it always says 1."""

    def forward(self, images: Tensor) -> Tensor:
        loud = images.flatten(1).std(1) > 0.6
        return torch.stack([1.0 - loud.float(), loud.float()], 1)


def test_sigma_is_chosen_on_held_out_images_by_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: set[int] = set()
    real = Sampler.__call__

    def noting(sampler: Sampler, stream: int, *rest: Any) -> Any:
        streams.add(stream)
        return real(sampler, stream, *rest)

    monkeypatch.setattr(Sampler, "__call__", noting)
    model, labels = Brittle().eval(), [0] * 12
    sigma, scores = choose_sigma(model, IMAGES, labels, [0.1, 0.25, 1.0])
    assert sigma == 0.25  # always right at 0.1 and 0.25, and the radius grows with sigma; never at 1
    assert list(scores) == [0.1, 0.25, 1.0]
    assert scores[1.0] == 0 < scores[0.1] < scores[0.25]
    chosen = set(streams)
    streams.clear()
    transmooth.certify(model, IMAGES[:1], sigma=sigma, n=100, method="adaptive")
    assert streams.isdisjoint(chosen)
    assert streams
    sigma, scores = choose_sigma(model, IMAGES, labels, [0.25, 0.1], radius=0.1)
    assert (sigma, scores) == (0.1, {0.25: 1.0, 0.1: 1.0})  # equals: the smaller one


def logits(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :5] * 10


def of_the_batch() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(48, 3)).eval()


def only_for_four(images: Tensor) -> Tensor:
    return logits(images.view(4, 3, 4, 4))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 3)), r"train mode \(Sequential, 0, 1\): .*call eval"),
        (of_the_batch(), "batch-dependent"),
        (Function(lambda x: logits(x - x.mean(0))), "batch-dependent"),
        (Function(lambda x: F.dropout(logits(x), 0.5)), "random"),
        (Function(lambda x: logits(x) * float("nan")), "NaN or infinite"),
        (Function(lambda x: logits(x)[:, :1]), r"logits \[B, K ≥ 2\], got \[4, 1\]"),
        (Function(lambda x: [logits(x), x]), r"got list for 4 images; wrap it .*`return self.model\(images\)\[0\]`"),
        (Function(only_for_four), r"fails on images \[4, 3, 4, 4\] or on one of them alone: shape"),
    ],
)
def test_a_model_that_cannot_be_smoothed_is_refused_with_the_reason(model: nn.Module, message: str) -> None:
    assert check_model(Function(logits), IMAGES[0]) == 5
    with pytest.raises(ValueError, match=message):
        check_model(model, IMAGES[0])
    with pytest.raises(ValueError, match=message):
        transmooth.certify(model, IMAGES, sigma=0.5)
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(model, 0.5).predict(IMAGES)


def test_images_labels_and_sigma_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be floats .* got torch.uint8"):
        transmooth.certify(MODEL, (IMAGES * 255).byte(), sigma=0.5)
    with pytest.raises(ValueError, match=r"images must be within \[0, 1\], got"):
        transmooth.certify(MODEL, IMAGES * 3, sigma=0.5, n=100)
    with pytest.raises(ValueError, match=r"one label per image, got shape \(3,\) for 12"):
        transmooth.certify(MODEL, IMAGES, [0, 1, 0], sigma=0.5)
    with pytest.raises(ValueError, match=r"labels must be integers in \[0, 2\).* got int64 from 0 to 7"):
        transmooth.certify(MODEL, IMAGES, [7] + [0] * 11, sigma=0.5)
    with pytest.raises(ValueError, match=r"labels must be integers in \[0, 2\).* got float64"):
        transmooth.choose_sigma(MODEL, IMAGES, [float("nan")] * 12, [0.5])
    for sigma in (0.0, -1.0):
        with pytest.raises(ValueError, match="sigma must be a positive"):
            SmoothedClassifier(MODEL, sigma)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": "0.25"}, "sigma must be a positive finite number .* or several, got '0.25'"),
        ({"sigma": None}, "or several, got None"),
        ({"sigma": True}, "or several, got True"),
        ({"sigma": {0.25}}, r"or several, got \{0.25\}"),
        ({"sigma": [[0.25]]}, "or several, got"),
        ({"sigma": [0.25, "x"]}, "or several, got"),
        ({"sigma": []}, "at least one sigma"),
        ({"sigma": [0.25, 0]}, "sigma must be a positive finite number .*, got 0.0"),
        ({"alpha": "0.1"}, "alpha must be a number strictly between 0 and 1, got '0.1'"),
        ({"batch": 0}, "batch must be a whole number of images from 1 on, or None, got 0"),
        ({"batch": "8"}, "batch must be a whole number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"batch": 8.0}, "batch must be a whole number"),
        ({"radii": 0.5, "method": "sequential"}, "radii must be a list of numbers, got 0.5"),
        ({"radii": ["a"], "method": "sequential"}, "radii must be a list of numbers"),
        ({"thresholds": 0.5, "method": "cascade"}, "thresholds must be a list of numbers, got 0.5"),
    ],
)
def test_a_setting_of_another_kind_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transmooth.certify(MODEL, IMAGES[:2], **{"sigma": 0.25, "n": 50} | settings)


@pytest.mark.parametrize(
    ("seed", "n", "message"),
    [
        (0, 11.5, r"n must be an integer from 0 to 2\^63 - 1, got 11.5"),
        (2**64, 20, "seed must be an integer .*, got 18446744073709551616"),
        (1.5, 20, "seed must be an integer .*, got 1.5"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"method": "cascade"}])
def test_numbers_that_are_no_integers_are_refused(seed: Any, n: Any, message: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(MODEL, 0.5, seed=seed, **settings).predict(IMAGES, n=n)


def test_there_must_be_a_sigma_to_choose_from() -> None:
    for choose in (choose_sigma, choose_stages):
        with pytest.raises(ValueError, match=f"{choose.__name__} needs at least one sigma to choose from, got none"):
            choose(MODEL, IMAGES, RIGHT, [])


@pytest.mark.parametrize(
    "sigma",
    [np.float32(0.25), torch.tensor(0.25), np.array(0.25), [0.25], (0.25,), np.array([0.25]), [np.float64(0.25)]],
)
def test_numbers_of_any_kind_are_a_sigma(sigma: Any) -> None:
    run: dict[str, Any] = {"engine": "eager", "batch": 64}
    one = transmooth.certify(MODEL, IMAGES[:2], sigma=0.25, n=50, n0=10, **run)
    frame = transmooth.certify(MODEL, IMAGES[:2], sigma=sigma, n=50, n0=10, **run)
    assert frame["sigma"].tolist() == [0.25, 0.25]
    assert frame["radius"].equals(one["radius"])
    if np.ndim(sigma) == 0:
        answers = [SmoothedClassifier(MODEL, each, seed=0, **run).predict(IMAGES[:2], 20) for each in (sigma, 0.25)]
        assert answers[0].equal(answers[1])
    assert choose_sigma(MODEL, IMAGES[:2], RIGHT[:2], sigma, n=20, n0=10, **run)[0] == 0.25


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arrays_and_tensors_are_lists_of_numbers(kind: Any) -> None:
    def answers(made: Any) -> list[Any]:
        several, radii = made([1.0, 0.5]), made([0.0, 0.25])
        module = SmoothedClassifier(MODEL, several, method="cascade", thresholds=made([0.5, 0.0]), seed=0, batch=64)
        frames = [
            module.certify(IMAGES[:2], n=100, n0=10, radii=radii),
            transmooth.certify(MODEL, IMAGES[:2], sigma=0.5, method="sequential", n=100, n0=10, radii=radii, batch=64),
        ]
        return [module.predict(IMAGES[:2], 100).tolist(), *(each["radius"].tolist() for each in frames)]

    assert answers(kind) == answers(list)


class Items(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


PIXELS = IMAGES.numpy()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS.astype(np.float64) * 255, r"within \[0, 1\], got .*; images of 0 to 255 become such by images / 255"),
        ((IMAGES - 0.5) / 0.25, r"within \[0, 1\], got -.*; where they are normalised, let the model do it"),
        (IMAGES * 2, r"within \[0, 1\], got [^;]*$"),
        (IMAGES * 0 + 1.000001, r"got 1.00000095 to 1.00000095$"),
        (PIXELS.astype(object), "images must be floats .*, got object"),
        (PIXELS.astype(complex), "images must be floats .*, got complex128"),
        (
            Items({"image": IMAGES[0]}),
            "each image must be a tensor .*, got dict; an item is an image, or an image and its",
        ),
        (Items((IMAGES[0], "cat")), "each label must be the number of a class, got str"),
        (Items((IMAGES[0], {"label": 1})), "each label must be the number of a class, got dict"),
    ],
)
def test_images_that_do_not_fit_say_what_would(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_images(images)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS.astype(np.float64),
        PIXELS.astype(">f4"),
        PIXELS.astype(np.longdouble),
        PIXELS[::-1][::-1],
        DataLoader(Items(*((each, 1, number) for number, each in enumerate(IMAGES))), 5),
        Items(*((each, 1, number) for number, each in enumerate(PIXELS))),
    ],
)
def test_images_of_any_kind_are_the_same(images: Any) -> None:
    found, labels = as_images(images)
    assert found.dtype == torch.float32
    assert found.equal(IMAGES)
    assert labels == (None if isinstance(images, np.ndarray) else [1] * 12)


def test_a_model_of_another_dtype_or_without_weights_says_so() -> None:
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(
            ValueError, match=rf"the model fails .*; it has weights of {dtype}, .* model.float\(\) takes"
        ):
            transmooth.certify(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval().to(dtype), IMAGES, sigma=0.5, n=100)
    with pytest.raises(ValueError, match="no weights: it is on the meta device"):
        transmooth.certify(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval().to("meta"), IMAGES, sigma=0.5, n=100)
