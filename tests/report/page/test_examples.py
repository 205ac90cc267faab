"""Example images: which ones, their pixels, and what an attack makes of them."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.helpers.attacks import Spy, distances, linear
from tests.helpers.attacks import pictures as images_for_attacks
from tests.helpers.page import SIGMAS
from tests.helpers.records import attacked_row, row
from tests.helpers.report import left
from transmooth.attacks.ball import keyed_starts
from transmooth.attacks.robust import ORDERS, Settings
from transmooth.report.page.examples import STEPS, broken_and_robust, examples, extremes, perturbed


def test_extremes_are_by_the_mean_radius_and_never_both() -> None:
    shown = [(0, 0.5, 0.1), (1, 0.0, 0.9), (2, 0.2, 0.2), (3, 0.3, 0.3)]
    frame = pd.DataFrame([row(i, s, radius=r) for i, *both in shown for s, r in zip(SIGMAS, both, strict=True)])
    assert extremes(frame, 2) == ([1, 0], [2, 3])
    wrong = frame.assign(prediction=np.where(frame["index"] == 1, 9, frame["prediction"]))
    assert extremes(wrong, 2) == ([0, 3], [1, 2])
    assert extremes(frame, 3) == ([1, 0, 3], [2])


def pixels(uri: str) -> np.ndarray[Any, Any]:
    """The pixels of a picture in a page, 0 to 1."""
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255


def test_pictures_are_the_images_with_one_draw_of_noise_scaled_by_sigma() -> None:
    grey = torch.full((3, 32, 32), 0.5)
    frame = pd.DataFrame([row(4, 0.05, label=1, prediction=1, radius=0.03), row(4, 0.1, label=1, prediction=0)])
    (shown,) = examples(frame, [4], lambda index: grey, ["a", "b"])
    assert (shown.index, shown.label) == (4, "b")
    assert [(shot.verdict, shot.right) for shot in shown.shots] == [("b", True), ("a", False)]
    assert np.allclose(pixels(shown.picture), 0.5, atol=1 / 255)
    weak, strong = (pixels(shot.picture) - 0.5 for shot in shown.shots)
    assert weak.std() == pytest.approx(0.05, rel=0.05)
    assert np.abs(strong - 2 * weak).max() < 0.02
    large = examples(frame, [4], lambda index: torch.rand(3, 224, 200), ["a", "b"])[0].picture
    assert large.startswith("data:image/jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(large.partition(",")[2]))).size == (128, 128)


def test_what_a_denoiser_leaves_stands_beside_the_noisy_picture() -> None:
    asked: list[torch.Tensor] = []

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(noisy)
        return torch.full_like(noisy, float(sigma[0]))

    frame = pd.DataFrame([row(4, 0.25, label=1, prediction=1), row(4, 1.0, label=1, prediction=0)])
    (shown,) = examples(frame, [4], lambda index: torch.full((3, 32, 32), 0.5), ["a", "b"], denoise)
    for shot, noisy, sigma in zip(shown.shots, asked, (0.25, 1.0), strict=True):
        assert shot.denoised is not None
        assert np.allclose(pixels(shot.denoised), sigma, atol=1 / 255)
        assert np.allclose(pixels(shot.picture), noisy[0].clamp(0, 1).permute(1, 2, 0), atol=1 / 255)
    (without,) = examples(frame, [4], lambda index: torch.full((3, 32, 32), 0.5), ["a", "b"])
    assert [shot.denoised for shot in without.shots] == [None, None]


def settings(epsilon: float, **changes: Any) -> Settings:
    """Of a short attack on both losses."""
    given: dict[str, Any] = {
        "norm": "l2",
        "steps": 20,
        "losses": ("cross_entropy", "margin"),
        "restarts": 1,
        "batch": 5,
        "seed": 0,
    }
    return Settings(epsilon=epsilon, **(given | changes))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_an_image_is_broken_exactly_beyond_its_distance(norm: Any) -> None:
    network, far = linear(), list[float]()
    for index, image in enumerate(images_for_attacks(5)):
        label = int(network(image[None]).argmax(1))
        distance = float(distances(network, image[None], torch.tensor([label]), norm))
        held = perturbed(network, image, index, label, ["a", "b"], settings(0.95 * distance, norm=norm))
        broken = perturbed(network, image, index, label, ["a", "b"], settings(1.05 * distance, norm=norm))
        names = ["a", "b"][label], ["a", "b"][1 - label]
        assert (held.robust, held.before, held.after) == (True, names[0], names[0])
        assert (broken.robust, broken.before, broken.after) == (False, *names)
        assert 0 < held.distance <= 0.95 * distance * (1 + 1e-6)
        assert distance <= broken.distance <= 1.05 * distance * (1 + 1e-6)
        moved = np.linalg.norm((pixels(broken.picture) - image.permute(1, 2, 0).numpy()).ravel(), ORDERS[norm])
        assert moved == pytest.approx(broken.distance, abs=0.01)  # pixels are rounded
        far.append(broken.distance)
        assert broken == perturbed(network, image, index, label, ["a", "b"], settings(1.05 * distance, norm=norm))
    assert max(far) > 0.03


def test_an_attack_climbs_its_losses_from_the_keyed_start_of_its_norm() -> None:
    network, image = linear(classes=4), images_for_attacks(1)[0]
    label, last = int(network(image[None]).argmax(1)), []
    for losses in (("cross_entropy",), ("margin",)):
        spy = Spy(network)
        perturbed(spy, image, 7, label, list("abcd"), settings(0.01, norm="linf", losses=losses, seed=3))
        start = keyed_starts(image[None], [7], 0.01, 3, "linf")
        assert torch.allclose(spy.seen[1], image[None] + start)
        last.append(spy.seen[-1])
    assert not torch.equal(*last)


def test_an_image_that_is_wrong_is_not_attacked() -> None:
    network, image = linear(), images_for_attacks(1)[0]
    wrong = 1 - int(network(image[None]).argmax(1))
    spy = Spy(network)
    found = perturbed(spy, image, 0, wrong, ["a", "b"], settings(0.2))
    assert (found.robust, found.before, found.after, found.distance) == (False, *["ab"[1 - wrong]] * 2, 0.0)
    assert np.allclose(pixels(found.picture), image.permute(1, 2, 0), atol=1 / 255)
    assert len(spy.seen) == 1


def test_an_attack_takes_few_steps_whatever_its_records_took() -> None:
    network, image = linear(), images_for_attacks(1)[0]
    label = int(network(image[None]).argmax(1))
    for steps, taken in ((3, 3), (1000, STEPS)):
        spy = Spy(network)
        assert perturbed(spy, image, 0, label, ["a", "b"], settings(1e-3, steps=steps)).robust
        # The answer before, and on each loss the start, its steps and the answer after.
        assert len(spy.seen) == 1 + 2 * (1 + taken + 1)


def test_examples_of_an_attack_have_no_noise_and_those_of_a_certification_both() -> None:
    network, image = linear(dtype=torch.float32), images_for_attacks(1, dtype=torch.float32)[0]
    label, ways = int(network(image[None]).argmax(1)), [settings(0.01), settings(0.02, norm="linf")]
    for frame, noisy in (
        ([attacked_row(4, label=label)], 0),
        ([row(4, 0.5, label=label), row(4, 1.0, label=label)], 2),
    ):
        (shown,) = examples(pd.DataFrame(frame), [4], lambda index: image, list("abcd"), None, network, ways)
        assert len(shown.shots) == noisy
        assert [attack.settings for attack in shown.attacks] == ways
    (shown,) = examples(pd.DataFrame(frame), [4], lambda index: image, list("abcd"), None, None, ways)
    assert shown.attacks == ()


def test_of_an_attack_the_nearest_broken_images_and_the_first_robust_ones_are_shown() -> None:
    frame = pd.DataFrame(left("frwffr", 0.5))
    frame.loc[[0, 3, 4], "distance"] = [0.3, 0.1, 0.1]
    assert broken_and_robust(frame, 2) == ([3, 4], [1, 5])
    assert broken_and_robust(frame, 9) == ([3, 4, 0], [1, 5])
