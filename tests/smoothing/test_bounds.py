import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from scipy.stats import norm as normal

from transmooth.smoothing.bounds import (
    certified_accuracy_lower,
    failure_upper,
    max_failures,
    max_radius,
    min_samples,
    radius,
    share_interval,
    two_sided_radius,
)

alphas = st.sampled_from([0.1, 0.05, 0.01, 0.001, 1e-6])


@given(st.integers(1, 5000), st.floats(0, 1), alphas)
def test_the_bound_is_where_the_binomial_tail_is_alpha(n: int, share: float, alpha: float) -> None:
    f = min(int(share * n), n - 1)
    assert binom.cdf(f, n, failure_upper(f, n, alpha)) == pytest.approx(alpha, rel=1e-8)


@pytest.mark.parametrize("q", [0.001, 0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 10, 300])
def test_exact_coverage(n: int, q: float) -> None:
    f = np.arange(n + 1)
    missed = failure_upper(f, n, 0.05) < q
    assert binom.pmf(f, n, q)[missed].sum() <= 0.05


def test_edges() -> None:
    assert failure_upper(0, 0, 0.01) == 1
    assert failure_upper(7, 7, 0.01) == 1
    # 1 - alpha^(1/n) in doubles would keep only four digits here.
    assert failure_upper(0, 10**12, 0.001) == pytest.approx(-math.log(0.001) / 1e12, rel=1e-10)


def test_published_saturated_radii() -> None:
    assert max_radius([10_000, 100_000], 0.001, 1.0) == pytest.approx([3.1986, 3.8115], abs=5e-5)


@given(st.integers(1, 20_000), st.floats(0, 0.45), alphas, st.sampled_from([0.12, 0.5, 2.0]))
def test_radius_is_cohens(n: int, share: float, alpha: float, sigma: float) -> None:
    f = int(share * n)
    p = 1 - float(failure_upper(f, n, alpha))
    assert radius(f, n, alpha, sigma) == pytest.approx(max(0.0, sigma * normal.ppf(p)), abs=1e-7)


@pytest.mark.parametrize("alpha", [0.6, 0.5, 0.05, 0.001, 2.0**-10, 1e-9])
def test_fewest_samples(alpha: float) -> None:
    n = min_samples(alpha)
    assert radius(0, n, alpha, 1.0) > 0
    assert n == 1 or radius(0, n - 1, alpha, 1.0) == 0


@given(st.integers(1, 50_000), st.floats(1e-4, 4.5), alphas)
def test_max_failures_inverts_radius(n: int, r: float, alpha: float) -> None:
    f = int(max_failures(r, n, alpha, 1.0))
    assert f == -1 or radius(f, n, alpha, 1.0) >= r
    assert radius(f + 1, n, alpha, 1.0) < r


def test_two_sided_closed_form() -> None:
    """500, 300 and 200 of 1000: Cohen abstains, the runner-up is beaten."""
    a, b = 1 - failure_upper(500, 1000, 0.0005), failure_upper(300, 1000, 0.0005)
    want = (normal.ppf(a) - normal.ppf(b)) / 2 * 0.5
    got = two_sided_radius([[500, 300, 200], [300, 500, 200], [0, 500, 500]], [0, 1, 0], 0.001, 0.5)
    assert got == pytest.approx([want, want, 0])
    assert radius(500, 1000, 0.001, 0.5) == 0


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6).filter(any))
def test_two_sided_is_never_below_one_sided_at_half_alpha(counts: list[int]) -> None:
    n = sum(counts)
    one = radius(n - counts[0], n, 0.0005, 1.0)
    assert two_sided_radius(counts, 0, 0.001, 1.0) >= one - 1e-12


@pytest.mark.parametrize("p", [[0.6, 0.4], [0.45, 0.35, 0.2], [0.3] + [0.07] * 10])
def test_two_sided_coverage(p: list[float]) -> None:
    """The last one has ten runners-up: the case that a union over the classes is meant for."""
    counts = np.random.default_rng(0).multinomial(400, p, 100_000)
    true = (normal.ppf(p[0]) - normal.ppf(p[1])) / 2
    failed = (two_sided_radius(counts, np.zeros(len(counts), int), 0.1, 1.0) > true).sum()
    assert failed <= binom.ppf(1 - 1e-6, len(counts), 0.1)
    assert failed > 0 or len(p) > 3
    # The bound on the runner-up alone, at α/2: the largest count stands for whichever class it is.
    missed = (failure_upper(counts[:, 1:].max(-1), 400, 0.05) < p[1]).sum()
    assert missed <= binom.ppf(1 - 1e-6, len(counts), 0.05)


def test_share_interval() -> None:
    low, high = share_interval([0, 5, 10], 10)
    assert low == pytest.approx([0, 0.1871, 0.6915], abs=5e-5)
    assert high == pytest.approx([0.3085, 0.8129, 1], abs=5e-5)


@pytest.mark.parametrize("true", [0, 40, 95, 100])
def test_certified_accuracy_lower_covers(true: int) -> None:
    """The images that are not truly certified are on the threshold: falsely counted at rate alpha."""
    false = np.arange(100 - true + 1)
    bound = np.array([certified_accuracy_lower(true + int(w), 100, 0.05, 0.1) for w in false])
    missed = binom.pmf(false, 100 - true, 0.05)[bound > true / 100].sum()
    assert missed <= 0.1
    assert bound[-1] > 0.9 or true == 0  # and it is not trivial


def test_certified_accuracy_lower_by_hand() -> None:
    # 10 of 10: T = 9 needs the tenth to be false (0.05 <= delta), so only T = 10 is left.
    assert certified_accuracy_lower(10, 10, 0.05, 0.1) == 1.0
    assert certified_accuracy_lower(10, 10, 0.05, 0.01) == 0.9
    assert certified_accuracy_lower(0, 10, 0.05, 0.1) == 0.0


def test_what_is_not_a_count_or_a_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        failure_upper(11, 10, 0.001)
    with pytest.raises(ValueError, match="alpha must be strictly between 0 and 1, got 1"):
        radius(0, 10, 1.0, 0.5)
    with pytest.raises(ValueError, match="sigma"):
        radius(0, 10, 0.001, math.nan)
    with pytest.raises(ValueError, match="K ≥ 2"):
        two_sided_radius([3], 0, 0.001, 1.0)
    with pytest.raises(ValueError, match="between 0 and n_images"):
        certified_accuracy_lower(11, 10, 0.001, 0.01)
    with pytest.raises(ValueError, match="radius > 0"):
        max_failures(0.0, 10, 0.001, 1.0)
