import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from tests.helpers.denoisers import TINY
from transmooth import certify
from transmooth.models.build import create
from transmooth.models.check import check
from transmooth.models.denoiser import Denoised, Denoiser, of_config
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.engine import base_classifier, prepare
from transmooth.smoothing.sampler import Sampler
from transmooth.specs import NetworkSpec

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear 1000": {"num_train_timesteps": 1000, "beta_schedule": "linear"},
    "linear 4000": {"num_train_timesteps": 4000, "beta_start": 2.5e-5, "beta_end": 0.005},
    "cosine 1000": {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"},
    "cosine 4000": {"num_train_timesteps": 4000, "beta_schedule": "squaredcos_cap_v2"},
}


def denoiser(schedule: str, unet: nn.Module | None = None) -> Denoiser:
    made = of_config(TINY, SCHEDULES[schedule])
    made.unet = made.unet if unet is None else unet
    return made.eval()


# Spec of FT-CADIS, from the schedules themselves: t* at sigma 0.12, 0.25, 0.5, 1; sigma and √ᾱ at the last three.
@pytest.mark.parametrize(
    ("schedule", "times", "sigmas", "signal"),
    [
        ("linear 1000", [70, 145, 259, 396], [0.251581, 0.502392, 1.000241], [0.893294, 0.705417, 0.447127]),
        ("linear 4000", [281, 579, 1035, 1588], [0.250189, 0.500017, 1.000595], [0.894292, 0.707094, 0.447001]),
        ("cosine 1000", [143, 289, 496, 702], [0.250362, 0.501483, 1.001965], [0.894168, 0.706059, 0.446511]),
        ("cosine 4000", [573, 1158, 1984, 2809], [0.250119, 0.500312, 1.000014], [0.894342, 0.706886, 0.447209]),
    ],
)
def test_the_time_is_the_first_with_at_least_twice_the_noise(
    schedule: str, times: list[int], sigmas: list[float], signal: list[float]
) -> None:
    made = denoiser(schedule)
    found = made.times(torch.tensor([0.12, 0.25, 0.5, 1.0]))
    assert found.tolist() == times
    assert made.sigmas[found[1:]].tolist() == pytest.approx(sigmas, abs=2e-6)
    assert made.signal[found[1:]].tolist() == pytest.approx(signal, abs=2e-6)
    assert made.at(0.25).time == times[1]
    assert made.times(torch.tensor([1e-6])).tolist() == [1]


class Prior(nn.Module):
    """The best answer about images x ~ N(0.5, 0.2² I) on [0, 1]: which noise is in u_t = √ᾱ u + √(1 − ᾱ) e."""

    def __init__(self, made: Denoiser, prediction: str) -> None:
        super().__init__()
        self.signal, self.noise, self.prediction = made.signal, made.noise, prediction
        self.given: list[Tensor] = []

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        self.given.append(times)
        a, b = (table[times.long()].float().view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        variance = 0.4**2  # of u, whose mean is 0
        clean = a * variance / (a**2 * variance + b**2) * noisy
        e = (noisy - a * clean) / b
        found = {"epsilon": e, "v_prediction": a * e - b * clean, "sample": clean}[self.prediction]
        return torch.cat([found, torch.full_like(found, torch.nan)], 1)  # a learned variance, which is dropped


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    ("schedule", "sigma", "share"),
    [
        ("cosine 4000", 0.25, 0.390018),
        ("cosine 4000", 0.5, 0.137783),
        ("linear 1000", 0.25, 0.387247),
        ("linear 1000", 0.5, 0.136800),
    ],
)
def test_a_gaussian_prior_is_denoised_by_its_posterior_mean(
    schedule: str, sigma: float, share: float, prediction: Any
) -> None:
    made = denoiser(schedule)
    made.prediction, made.unet = prediction, Prior(made, prediction)
    noisy = torch.tensor([0.3, 0.5, 0.7]).view(1, 3, 1, 1)
    expected = 0.5 + share * (noisy - 0.5)
    torch.testing.assert_close(made.at(sigma)(noisy), expected, atol=2e-6, rtol=0)
    # Each image at its own sigma; without noise it stays.
    both = made.denoise(noisy.expand(2, -1, -1, -1), torch.tensor([sigma, 0.0]))
    torch.testing.assert_close(both, torch.cat([expected, noisy]), atol=2e-6, rtol=0)


def test_estimates_are_clipped_to_images() -> None:
    made = denoiser("linear 1000", nn.Module())
    made.prediction = "sample"
    made.unet.forward = lambda noisy, times: torch.full_like(noisy, 3.0)
    assert made.at(0.5)(torch.zeros(1, 3, 2, 2)).unique().tolist() == [1.0]


def test_the_unet_is_given_scaled_times() -> None:
    made = of_config(TINY, SCHEDULES["cosine 4000"], timestep_scale=0.25)
    made.unet = Prior(made, "epsilon")
    with pytest.raises(RuntimeError, match="size"):  # of the images, after the times were given
        made.at(0.25)(torch.rand(2, 5, 1, 1))
    assert made.unet.given[0].tolist() == [289.5, 289.5]


def test_the_smoothed_linear_classifier_of_a_gaussian_prior_has_its_known_radius() -> None:
    # p = Φ(m / (κ σ ‖w‖)), m = w·(μ + κ (x − μ)) − c: radius m / (κ ‖w‖), whatever sigma.
    class Linear(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            score = (images[:, :, 0, 0] * torch.tensor([1.0, 2.0, 2.0])).sum(1) - 2.6
            return torch.stack([-score, score], 1)

    made = denoiser("cosine 4000")
    made.unet = Prior(made, "epsilon")
    model = Denoised(made, Linear()).eval()
    x, sigma, share = torch.tensor([0.6, 0.7, 0.5]).view(1, 3, 1, 1), 0.25, 0.390018
    margin = float((0.5 + share * (x.flatten() - 0.5)) @ torch.tensor([1.0, 2.0, 2.0])) - 2.6
    p = norm.cdf(margin / (share * sigma * 3))
    assert p == pytest.approx(0.627329, abs=1e-5)
    assert sigma * norm.ppf(p) == pytest.approx(0.081197, abs=1e-5)
    n = 100_000
    sampler = Sampler(prepare(base_classifier(model, sigma), x, sigma, 0, engine="eager"), x.__getitem__, sigma)
    counts = sampler(ESTIMATION, np.array([0]), np.array([0]), np.array([n]))
    assert counts[0, 1] / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    # Alone it is the classifier of clean images.
    assert torch.equal(model(x), Linear()(x))


def test_certify_smooths_behind_the_denoiser_of_its_sigma() -> None:
    torch.manual_seed(0)
    made = denoiser("linear 1000")
    asked: list[float] = []

    class Spy(Denoised):
        def at(self, sigma: float) -> nn.Module:
            asked.append(sigma)
            return super().at(sigma)

    head = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    frame = certify(Spy(made, head).eval(), torch.rand(2, 3, 8, 8), sigma=0.5, n0=10, n=100, engine="eager")
    assert set(asked) == {0.5}
    assert len(frame) == 2


def test_counts_behind_a_small_unet_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(768, 4, bias=False))
    model = Denoised(denoiser("linear 1000"), head).eval()
    images = torch.rand(2, 3, 16, 16)
    found = []
    for batch in (8, 32, 100):
        engine = prepare(model.at(0.5), images, 0.5, 0, engine="eager", batch=batch)
        ask = (ESTIMATION, np.array([0, 1]), np.array([0, 0]), np.array([200, 200]))
        found.append(Sampler(engine, images.__getitem__, 0.5)(*ask).tolist())
    assert found[0] == found[1] == found[2]


def test_what_is_no_denoiser_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unet\.num_class_embeds: a class-conditional model is no denoiser"):
        of_config(TINY | {"num_class_embeds": 10}, {})
    with pytest.raises(ValueError, match=r"unet\.in_channels: should be 3"):
        of_config(TINY | {"in_channels": 1}, {})
    made = denoiser("linear 1000")
    with pytest.raises(ValueError, match=r"sigma 79 is beyond the denoiser's schedule, which ends at 78\.7"):
        made.at(79)
    with pytest.raises(ValueError, match=r"whose side is a multiple of 2, found 15"):
        made.check(0.5, 15)
    made.check(0.5, 16)


def test_a_spec_describes_it_and_is_checked_before_work(tmp_path: Path) -> None:
    made = of_config(TINY, SCHEDULES["cosine 4000"] | {"prediction_type": "v_prediction"}, 0.25)
    assert made.spec is not None
    again = create(made.spec, 10, (0.0,) * 3, (1.0,) * 3)
    assert isinstance(again, Denoiser)
    again.load_state_dict(made.state_dict())
    images, sigma = torch.rand(2, 3, 8, 8), torch.tensor([0.25, 1.0])
    assert torch.equal(again.eval().denoise(images, sigma), made.eval().denoise(images, sigma))
    assert (again.prediction, again.timestep_scale) == ("v_prediction", 0.25)
    check(made.spec)
    faults: list[tuple[dict[str, Any], str]] = [
        ({"unets": {}}, r"options\.unets: a unet2d has unet, schedule and timestep_scale"),
        ({"unet": TINY | {"block_out_channels": [7, 16]}}, r"num_channels \(7\) must be divisible by num_groups \(4\)"),
        ({"unet": TINY, "schedule": {"beta_schedule": "steep"}}, "steep"),
    ]
    for options, message in faults:
        with pytest.raises(ValueError, match=message):
            check(NetworkSpec(name="unet2d", stem="imagenet", norm="batch", groups=1, options=options))
