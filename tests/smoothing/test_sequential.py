import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom

from transmooth.smoothing.crossing import crossing_probability
from transmooth.smoothing.decision import ABSTAIN
from transmooth.smoothing.sequential import GridPlan, certify

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
Ints = NDArray[np.int64]


class Stored:
    """Counts of stored predictions: class 0 with probability 1 − q of the image, else class 1 or 2."""

    def __init__(self, q: Any, size: int = 20_000) -> None:
        rng, rates = np.random.default_rng(0), np.asarray(q)
        self.classes = np.where(rng.random((3, len(rates), size)) < rates[:, None], 1, 0)
        self.classes += self.classes * rng.integers(0, 2, self.classes.shape)
        self.requests: list[tuple[int, list[int], list[int], list[int]]] = []

    def __call__(self, stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        self.requests.append((stream, images.tolist(), start.tolist(), n.tolist()))
        rows = [self.classes[stream, i, s : s + m] for i, s, m in zip(images, start, n, strict=True)]
        return np.stack([np.bincount(row, minlength=3) for row in rows])


def binomial(q: float, seed: int) -> Any:
    """A counts function that draws: every image fails at rate q. Selection always finds class 0."""
    rng = np.random.default_rng(seed)

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        failures = rng.binomial(n, q) if stream else np.zeros_like(n)
        return np.stack([n - failures, failures], 1)

    return counts


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_exact_level(sigma: float) -> None:
    plan = GridPlan(sigma, RADII)
    for most, fewest, q in zip(plan.certify_at, plan.give_up_at, plan.thresholds, strict=True):
        error = crossing_probability(plan.looks, most, fewest, q)[-1]
        assert error <= 0.001
        assert error > 0.00085 or most[-1] < 5  # hardly any slack, where the integers leave a choice
        assert crossing_probability(plan.looks, most, fewest, q * 1.01)[-1] <= error


def test_recursion_against_every_path() -> None:
    """Three looks of 4, small enough to sum over all paths; who was given up at the first may not come back."""
    looks, most, fewest, q = [4, 8, 12], [0, 1, 3], [2, 4, 4], 0.3
    step = binom.pmf(np.arange(5), 4, q)
    paths = [(a, a + b, a + b + c, step[a] * step[b] * step[c]) for a in range(5) for b in range(5) for c in range(5)]
    ends = [next(k for k in range(3) if f[k] <= most[k] or f[k] >= fewest[k]) for *f, _ in paths]
    want = [
        sum(p for (*f, p), end in zip(paths, ends, strict=True) if end <= k and f[end] <= most[end]) for k in range(3)
    ]
    assert crossing_probability(looks, most, fewest, q) == pytest.approx(want, rel=1e-12)


def test_one_look_is_clopper_pearson() -> None:
    plan = GridPlan(0.5, (0.25, 0.5), n_max=1000, batch=1000)
    assert plan.looks.tolist() == [1000]
    for bound, q in zip(plan.certify_at[:, 0], plan.thresholds, strict=True):
        assert binom.cdf(bound, 1000, q) <= 0.001 < binom.cdf(bound + 1, 1000, q)


def test_tables_are_nested() -> None:
    for sigma in (0.12, 0.25, 1.0):
        plan = GridPlan(sigma, RADII)
        assert (np.diff(plan.certify_at, axis=0) <= 0).all()
        assert (np.diff(plan.certify_at, axis=1) >= 0).all()
        assert (np.diff(plan.give_up_at, axis=0) <= 0).all()
        reachable = plan.certify_at[:, -1] >= 0
        assert (plan.give_up_at > plan.certify_at)[reachable].all()
        assert plan.looks[-1] == 100_000
        assert (np.diff(plan.looks) > 0).all()


@pytest.mark.parametrize("j", range(4))
@pytest.mark.parametrize("factor", [1.0, 1.002])
def test_simulated_failures(j: int, factor: float) -> None:
    """100 000 images whose true radius is (just below) r_j: how many get r_j or more?"""
    plan = GridPlan(0.5, RADII, n_max=20_000)
    images = np.arange(100_000)
    decided = certify(binomial(float(plan.thresholds[j]) * factor, j), images, plan)
    failed = int(((decided.prediction != ABSTAIN) & (decided.radius >= RADII[j])).sum())
    assert failed <= binom.ppf(1 - 1e-6, len(images), 0.001)
    if factor == 1:
        assert failed >= binom.ppf(1e-6, len(images), 0.0008)  # the test spends its alpha


def test_peeking_with_clopper_pearson_is_invalid() -> None:
    plan = GridPlan(0.5, RADII)
    q = float(plan.thresholds[2])
    naive = np.asarray(binom.ppf(0.001, plan.looks, q), np.int64) - 1
    assert np.all(binom.cdf(naive, plan.looks, q) <= 0.001)  # each look by itself is at level
    assert crossing_probability(plan.looks, naive, plan.looks + 1, q)[-1] > 0.005


def test_giving_up_binds() -> None:
    """An image that reached F comes back below C, while a smaller radius keeps it alive: it must not be certified."""

    def path(failures: int) -> Any:
        """So many failures among the first samples, then none."""

        def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
            bad = np.where((stream > 0) & (start == 0), failures, 0)
            return np.stack([n - bad, bad], 1)

        return counts

    plan = GridPlan(0.5, (0.0, 0.05), n_max=20_000, batch=1024)
    enough = int(plan.give_up_at[1, 0])
    assert plan.certify_at[0, 0] < enough - 1
    assert enough < plan.give_up_at[0, 0]
    given_up, not_given_up = (certify(path(failures), [0], plan) for failures in (enough, enough - 1))
    assert given_up.n[0] > 1024
    assert enough <= plan.certify_at[1, np.searchsorted(plan.looks, given_up.n[0])]  # it did come back below
    assert given_up.radius[0] == 0.0
    assert given_up.prediction[0] == 0
    assert not_given_up.radius[0] == 0.05


def test_together_equals_one_at_a_time() -> None:
    q = np.array([0.0, 0.001, 0.02, 0.1, 0.16, 0.29, 0.31, 0.45, 0.5, 0.6, 0.9])
    plan = GridPlan(0.5, RADII, n_max=20_000)
    images = np.arange(len(q))
    together = certify(Stored(q), images, plan, n0=50)
    for i in images:
        alone = certify(Stored(q), [i], plan, n0=50)
        for name in ("selected", "prediction", "radius", "n", "top_count", "evaluations"):
            assert getattr(alone, name)[0] == getattr(together, name)[i], (name, i)
    # Against the definition, one image and one radius at a time.
    stored = Stored(q)
    for i in images:
        wrong = np.cumsum(stored.classes[1, i] != together.selected[i])
        certified, alive = 0, np.ones(len(RADII), bool)
        for look, most, fewest in zip(plan.looks, plan.certify_at.T, plan.give_up_at.T, strict=True):
            while certified < len(RADII) and alive[certified] and wrong[look - 1] <= most[certified]:
                certified += 1
            alive &= wrong[look - 1] < fewest
            if look == together.n[i]:
                break
        assert together.top_count[i] == together.n[i] - wrong[together.n[i] - 1]
        assert together.radius[i] == (RADII[certified - 1] if certified else 0)
        assert together.prediction[i] == (together.selected[i] if certified else ABSTAIN)
    assert (together.evaluations == 50 + together.n).all()
    assert set(together.radius) >= {0.0, 0.25, 0.5, 1.0}
    assert ABSTAIN in together.prediction


def test_decisions_are_right_and_cheap() -> None:
    """Linear classifier: at distance d from its boundary, p = Φ(d/σ) and the true radius is d."""
    distance = np.array([-0.3, 0.12, 0.4, 0.6, 0.9, 1.5])
    counts = Stored(ndtr(-distance / 0.5), size=100_000)
    decided = certify(counts, np.arange(6), GridPlan(0.5, RADII), labels=np.zeros(6, int))
    assert decided.radius.tolist() == [0, 0, 0.25, 0.5, 0.75, 1.0]
    assert decided.prediction.tolist() == [ABSTAIN, 0, 0, 0, 0, 0]
    assert decided.selected[0] != 0
    assert decided.n[0] == 0
    assert decided.evaluations[0] == 100
    assert decided.n.max() < 10_000


def test_selection_samples_are_never_counted() -> None:
    counts = Stored(np.array([0.1, 0.3]))
    certify(counts, np.arange(2), GridPlan(0.5, RADII, n_max=20_000))
    (stream, *_), *rest = counts.requests
    assert stream == 0
    assert rest
    assert {request[0] for request in rest} == {1}
    for image in (0, 1):  # estimation samples follow one another from 0: none twice, none skipped
        at = 0
        for _, images, start, n in rest:
            if image in images:
                assert start[images.index(image)] == at
                at += n[images.index(image)]


def test_an_uncertifiable_radius_costs_nothing() -> None:
    decided = certify(Stored(np.array([0.0])), [0], GridPlan(0.25, (1.0,)))
    assert decided.n[0] == 0
    assert decided.evaluations[0] == 100
    assert decided.prediction[0] == ABSTAIN
    with_others = GridPlan(0.25, RADII)
    without = GridPlan(0.25, RADII[:4])
    rates = np.array([0.0, 0.01, 0.2])
    a, b = (certify(Stored(rates), np.arange(3), plan) for plan in (with_others, without))
    assert (a.n == b.n).all()
    assert (a.radius == b.radius).all()


def test_no_images() -> None:
    nothing = np.zeros((0, 2), np.int64)
    assert certify(lambda *_: nothing, np.array([], int), GridPlan(0.5, RADII)).radius.size == 0


def test_a_sampler_that_miscounts_is_caught() -> None:
    with pytest.raises(ValueError, match="adding up to n"):
        certify(lambda s, i, at, n: np.stack([n, n], 1), [0], GridPlan(0.5, RADII))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a positive"),
        ({"alpha": 1.0}, "alpha must be strictly between 0 and 1"),
        ({"radii": ()}, "increasing order, each once, got \\(\\)"),
        ({"radii": (-0.25, 0.5)}, "finite numbers ≥ 0"),
        ({"radii": (0.5, 0.25)}, "increasing order"),
        ({"radii": (0.5, 0.5)}, "each once"),
        ({"radii": (0.5, float("nan"))}, "finite"),
        ({"n_max": 0}, "n_max"),
        ({"batch": 0}, "batch"),
        ({"ratio": 0.9}, "ratio"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": math.inf}, "tolerance"),
    ],
)
def test_an_impossible_plan_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridPlan(**(dict[str, Any](sigma=0.5, radii=RADII) | change))


def test_no_selection_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="n0"):
        certify(Stored(np.array([0.0])), [0], GridPlan(0.5, RADII), n0=0)
