from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from transmooth.smoothing.adaptive import RadiusPlan, certify
from transmooth.smoothing.bounds import radius
from transmooth.smoothing.decision import ABSTAIN

Ints = NDArray[np.int64]


def drawn(rates: Any, requests: list[tuple[int, Ints, Ints]] | None = None) -> Any:
    """A counts function: image i fails at rates[i] in every stream, the same whoever asks with it."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        if requests is not None:
            requests.append((stream, images, n))
        failures = [
            np.random.default_rng([stream, i, s]).binomial(m, rates[i])
            for i, s, m in zip(images.tolist(), start.tolist(), n.tolist(), strict=True)
        ]
        return np.stack([n - failures, failures], 1)

    return counts


@pytest.mark.parametrize("q", [0.4, 0.2, 0.02, 0.001, 1e-5])
def test_coverage(q: float) -> None:
    """One draw for all the images: certified radius > true radius in at most alpha of them."""
    rng, images, plan = np.random.default_rng(0), np.arange(100_000), RadiusPlan(0.5, alpha=0.01)

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        failures = rng.binomial(n, q) if stream else np.zeros_like(n)
        return np.stack([n - failures, failures], 1)

    decided = certify(counts, images, plan)
    failed = int((decided.radius > -0.5 * ndtri(q)).sum())
    assert failed <= binom.ppf(1 - 1e-6, len(images), 0.01)
    assert failed > 0 or q == 1e-5


def test_linear_classifier() -> None:
    """At distance d from a linear boundary p = Φ(d/σ): the radius approaches d from below."""
    distance = np.array([0.3, 0.6, 1.2])
    decided = certify(drawn(ndtr(-distance / 0.5)), np.arange(3), RadiusPlan(0.5))
    assert (decided.radius <= distance).all()
    assert decided.radius == pytest.approx(distance, rel=0.08)
    assert decided.prediction.tolist() == [0, 0, 0]


def test_columns_agree_with_each_other_and_with_one_image_at_a_time() -> None:
    rates = np.array([0.0, 0.001, 0.1, 0.3, 0.48, 0.55, 0.95])
    plan, images = RadiusPlan(0.5), np.arange(len(rates))
    together = certify(drawn(rates), images, plan, labels=np.zeros(len(rates), int))
    for i in images:
        alone = certify(drawn(rates), [i], plan, labels=[0])
        for name in ("selected", "prediction", "radius", "n", "top_count", "evaluations"):
            assert getattr(alone, name)[0] == getattr(together, name)[i], (name, i)
    assert (together.radius == radius(together.n - together.top_count, together.n, 0.001, 0.5)).all()
    assert ((together.prediction == ABSTAIN) == (together.radius == 0)).all()
    # The last one is selected wrongly: it stops after the selection.
    assert together.selected[-1] == 1
    assert together.evaluations[-1] == 100
    assert together.prediction[-1] == ABSTAIN
    tried = together.selected == 0
    assert (together.evaluations[tried] == 100 + 1000 + together.n[tried]).all()
    assert together.n[tried].all()


def test_streams_are_kept_apart() -> None:
    requests: list[tuple[int, Ints, Ints]] = []
    certify(drawn([0.01, 0.2], requests), np.arange(2), RadiusPlan(0.5), n0=64)
    assert [(stream, n.tolist()) for stream, _, n in requests[:2]] == [(0, [64, 64]), (2, [1000, 1000])]
    assert [stream for stream, *_ in requests[2:]] == [1]


def test_a_higher_price_buys_fewer_samples() -> None:
    failures = [0, 3, 30, 200, 400]
    sizes = np.stack([RadiusPlan(0.5, gain=gain).samples(failures) for gain in (0, 0.0005, 0.002, 0.01)])
    assert (sizes[0] == 100_000).all()
    assert (np.diff(sizes, axis=0) <= 0).all()
    assert (sizes[-1] < 20_000).all()


def test_the_price_keeps_its_promise() -> None:
    """The radius given up is at most gain · σ per 1000 samples saved, in expectation."""
    gain, sigma = 0.002, 0.5
    for f in (0, 1, 10, 100, 300):
        q = np.random.default_rng(f).beta(f + 0.5, 1000 - f + 0.5, 20_000)
        n = int(RadiusPlan(sigma, gain=gain).samples([f])[0])
        lost = (radius(q * 100_000, 100_000, 0.001, sigma) - radius(q * n, n, 0.001, sigma)).mean()
        assert 0 < lost <= 1.02 * gain * sigma * (100_000 - n) / 1000
        # And not by buying everything: a quarter of them would lose more than it saves.
        fewer = radius(q * (n // 4), n // 4, 0.001, sigma).mean()
        assert radius(q * n, n, 0.001, sigma).mean() - fewer > gain * sigma * (n - n // 4) / 1000


def test_samples_follow_the_radius_scale() -> None:
    """The price is in sigmas: the same choice at every sigma."""
    failures = np.arange(0, 600, 50)
    assert (RadiusPlan(0.25).samples(failures) == RadiusPlan(1.0).samples(failures)).all()


def test_hopeless_pilot_abstains() -> None:
    decided = certify(drawn([0.7]), [0], RadiusPlan(0.5), labels=None)
    assert decided.selected[0] == 1  # at 0.7 it is the other class that wins
    assert RadiusPlan(0.5).samples([500, 700, 1000]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n_max", [1, 100, 700])
def test_small_budgets(n_max: int) -> None:
    menu = RadiusPlan(0.5, n_max=n_max).menu
    assert menu[-1] == n_max
    assert (np.diff(menu) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": -1.0}, "sigma"),
        ({"alpha": 0.0}, "alpha"),
        ({"n_max": 0}, "n_max"),
        ({"pilot": 0}, "pilot"),
        ({"gain": -0.1}, "gain"),
    ],
)
def test_an_impossible_plan_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RadiusPlan(**({"sigma": 0.5} | change))
