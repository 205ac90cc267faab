"""Confidence bounds and certified radii: pure functions of counts.

Everything is written in q = 1 - p_A, the probability that the base classifier does NOT return the selected
class under noise: near p_A = 1, where radii are largest, q keeps all its digits and 1 - p_A would lose them.

Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing" (2019); Clopper
and Pearson (1934).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, bdtrik, betainccinv, betaincinv, ndtr, ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What is left between a certified radius and the rim of a region: more than a deployed classifier errs by when it
# measures distances.  Its images are float32 of u / 255, which are off by 2 √d 2⁻²⁵ < 5e-5 up to d = 700 000, and its
# own arithmetic is in float64.
SLACK = 1e-4


def failure_upper(failures: ArrayLike, n: ArrayLike, alpha: float) -> Floats:
    """Upper Clopper–Pearson bound on a failure rate q: P[q > bound] ≤ α for every q.

        q_up = Beta⁻¹(1 − α; f + 1, n − f),   1 − α^(1/n) if f = 0,   1 if f = n

    0 ≤ failures ≤ n; n = 0 tells nothing and gives 1. Failures between two integers interpolate (for
    planning). Valid for ONE look at counts of fixed n. 1 of 100 at α = 0.001 gives about 0.089. Raises
    ValueError.
    """
    check_probability("alpha", alpha)
    f, m = np.broadcast_arrays(np.asarray(failures, np.float64), np.asarray(n, np.float64))
    if not np.all((f >= 0) & (f <= m)):
        raise ValueError(f"failures must be between 0 and n, got failures {failures!r} of n {n!r}")
    seen = np.maximum(m, 1)  # n = 0 is answered by f = n below
    some = np.asarray(betainccinv(f + 1, np.where(f < m, m - f, 1), alpha), np.float64)
    return np.where(f >= m, 1.0, np.where(f == 0, -np.expm1(math.log(alpha) / seen), some))


def radius(failures: ArrayLike, n: ArrayLike, alpha: float, sigma: float) -> Floats:
    """ℓ2 radius certified by one look at n fresh samples: R = max(0, −σ Φ⁻¹(q_up)); 0 means abstain.

    P[R > true radius] ≤ α, provided that the class was selected on other samples than these.
    No failure in 100 000 at α = 0.001, σ = 1 gives 3.8115. Raises ValueError.
    """
    check_sigma(sigma)
    return np.maximum(0.0, -sigma * ndtri(failure_upper(failures, n, alpha)))


def max_radius(n: ArrayLike, alpha: float, sigma: float) -> Floats:
    """Return the saturated radius: what n samples certify when none fails, σ Φ⁻¹(α^(1/n))."""
    return radius(0, n, alpha, sigma)


def min_samples(alpha: float) -> int:
    """Return the fewest samples that can certify anything: the smallest n with α^(1/n) > 1/2. 10 at α = 0.001."""
    check_probability("alpha", alpha)
    return math.floor(-math.log2(alpha)) + 1


def max_failures(radii: ArrayLike, n: int, alpha: float, sigma: float) -> Ints:
    """Return the most failures of n that still certify each radius r > 0: max {f : radius(f, n, α, σ) ≥ r}, or −1.

    The inverse of `radius`: by Clopper–Pearson, q_up(f) ≤ q exactly when P[Bin(n, q) ≤ f] ≤ α, with q =
    Φ(−r/σ).
    """
    wanted = np.asarray(radii, np.float64)
    if not np.all(wanted > 0):
        raise ValueError(f"only a radius > 0 has a largest number of failures, got {radii!r}")
    guess = np.nan_to_num(bdtrik(alpha, n, ndtr(-wanted / sigma)), nan=-1.0)
    most = np.clip(np.floor(guess) + 1, 0, n - 1)
    for _ in range(3):  # the continuous inverse is right to within one; radius() itself has the last word
        most = np.where((most >= 0) & (radius(np.maximum(most, 0), n, alpha, sigma) < wanted), most - 1, most)
    return np.asarray(most, np.int64)


def two_sided_radius(counts: ArrayLike, selected: ArrayLike, alpha: float, sigma: float) -> Floats:
    """ℓ2 radius from the runner-up too, for counts [.., K], selected [..].

        R = max(0, σ/2 (Φ⁻¹(p_A) − Φ⁻¹(p_B)))

    p_A is a lower bound at α/2; p_B an upper bound, at α/2, that holds for all other classes at once:

        p_B = min( U(max_{c≠A} k_c), 1 − p_A ),   U = upper Clopper–Pearson bound at α/2

    No union over the classes is needed. Let b be the class with the largest true probability
    besides A: a fixed class, since other samples selected A. U grows with the count, so U(max_c k_c) ≥
    U(k_b) ≥ p_b but for probability α/2; and p_b ≤ 1 − p_A whenever p_A holds, which costs nothing. It pays
    where no class has a clear majority; where one has, `radius` at full α is larger. Choose before seeing the
    counts. Raises ValueError.
    """
    check_sigma(sigma)
    k = np.asarray(counts)
    top = np.asarray(selected)[..., None]
    if k.ndim < 1 or k.shape[-1] < 2 or top.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"counts must be [.., K ≥ 2] and selected [..], got {k.shape} and {top.shape[:-1]}")
    n = k.sum(-1)
    others = k.copy()
    np.put_along_axis(others, top, -1, -1)
    not_a = failure_upper(n - np.take_along_axis(k, top, -1)[..., 0], n, alpha / 2)
    b = np.minimum(failure_upper(others.max(-1), n, alpha / 2), not_a)
    return np.maximum(0.0, sigma / 2 * (-ndtri(not_a) - ndtri(b)))


def share_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Two-sided Clopper–Pearson interval: covers the true share with probability ≥ level."""
    check_probability("level", level)
    tail = (1 - level) / 2
    high = failure_upper(successes, n, tail)
    k, m = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    low = np.where(k == 0, 0.0, betaincinv(np.maximum(k, 1), m - k + 1, tail))
    return low, high


def certified_accuracy_lower(certified: int, n_images: int, alpha: float, delta: float) -> float:
    """Return a lower bound on the TRUE certified accuracy of these images, right with probability ≥ 1 − δ.

    `certified` = m images of N were found right with radius ≥ r. Let T be how many truly are. Each of the
    remaining N − T is counted falsely with probability ≤ α, independently, for each image has its own noise.
    So m is stochastically at most T + Bin(N − T, α), which grows with T. Inverting that test gives

        T_low = min { T : P[T + Bin(N − T, α) ≥ m] > δ },   returned as T_low / N

    The randomness is the noise of certification: the images are fixed, and nothing is said about other images
    (that is `share_interval`). It replaces the Bernstein bound of Cohen et al. 2019, appendix B, by the exact
    tail. The false ones are not Bin(m, α): α is a rate per image tried, not per certificate issued. Raises
    ValueError.
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    if not 0 <= certified <= n_images or n_images < 1:
        raise ValueError(f"certified must be between 0 and n_images ≥ 1, got {certified} of {n_images}")
    true = np.arange(certified)
    excess = bdtrc((certified - true - 1).astype(np.float64), n_images - true, alpha)
    return int(np.append(excess > delta, True).argmax()) / n_images


def within(radius: ArrayLike, regions: ArrayLike) -> Floats:
    """Return what regions of radius ρ leave of certified radii: min(R, ρ − SLACK), 0 where that is nothing."""
    return np.maximum(0.0, np.minimum(radius, np.subtract(regions, SLACK)))


def check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be strictly between 0 and 1, got {value}")


def check_integer(name: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise ValueError(f"{name} must be an integer from 0 to 2^63 - 1, got {value!r}")


def check_sigma(sigma: float) -> None:
    if not 0 < sigma <= float(np.finfo(np.float32).max):  # noise is added in float32
        raise ValueError(f"sigma must be a positive finite number (noise on the [0, 1] image), got {sigma}")
