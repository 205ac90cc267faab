"""Example images: which ones, and their pixels."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.helpers.page import SIGMAS
from tests.helpers.records import row
from transmooth.report.page.examples import examples, extremes


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
