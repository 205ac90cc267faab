"""The choice of σ for each image: exact, by noise of its own, and a guarantee that it does not spend."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from tests.helpers.smoothing import coins
from transmooth.noise import block_key
from transmooth.smoothing import choice
from transmooth.smoothing.bounds import Ints, radius
from transmooth.smoothing.choice import OWN_SIGMA, choose
from transmooth.smoothing.decision import CHOICE, ESTIMATION, PILOT, SELECTION, Counts


def fixed(*rows: list[int], asked: list[tuple[int, list[int], list[int]]] | None = None) -> Counts:
    """Counts of these numbers, one row per image, whatever the noise; asked: stream, start and n of each call."""

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        if asked is not None:
            asked.append((stream, start.tolist(), n.tolist()))
        return np.array([rows[i] for i in images], np.int64)

    return counts


def test_the_largest_lower_bound_of_the_radius_chooses() -> None:
    n0, alpha = 100, 0.001
    seen = {0.25: [[100, 0], [1, 99], [60, 40], [2, 98]], 1.0: [[70, 30], [0, 100], [99, 1], [80, 20]]}
    bounds = {s: radius(n0 - np.max(rows, 1), n0, alpha, s) for s, rows in seen.items()}
    expected = [0.25 if bounds[0.25][i] >= bounds[1.0][i] else 1.0 for i in range(4)]
    assert set(expected) == {0.25, 1.0}
    counts = {s: fixed(*seen[s]) for s in (1.0, 0.25)}  # in any order
    assert choose(counts, np.arange(4), n0, alpha).tolist() == expected
    assert bounds[0.25][2] == 0 < bounds[1.0][2]  # a larger σ may be all that there is
    assert bounds[1.0][0] > 0


def test_the_smallest_sigma_where_no_bound_exceeds_one_half() -> None:
    counts = {1.0: fixed([30, 20]), 0.12: fixed([26, 24]), 0.5: fixed([20, 30])}
    assert choose(counts, np.array([0]), 50, 0.001).tolist() == [0.12]


def test_labels_count_in_the_place_of_the_most_frequent_class() -> None:
    counts = {0.25: fixed([45, 5], [45, 5]), 1.0: fixed([2, 48], [2, 48])}
    assert choose(counts, np.array([0, 1]), 50, 0.001).tolist() == [1.0, 1.0]
    assert choose(counts, np.array([0, 1]), 50, 0.001, np.array([0, 1])).tolist() == [0.25, 1.0]


def test_it_asks_once_for_n0_samples_of_a_stream_that_nothing_else_has() -> None:
    asked: list[tuple[int, list[int], list[int]]] = []
    choose({0.5: fixed([20, 0], asked=asked)}, np.array([0]), 20, 0.001)
    assert asked == [(OWN_SIGMA, [0], [20])]
    streams = [SELECTION, ESTIMATION, PILOT, CHOICE + SELECTION, CHOICE + ESTIMATION, OWN_SIGMA]
    assert len({*streams}) == 6
    assert OWN_SIGMA < 8  # of `block_key`
    keys = {block_key(0, 5, stream, block) % 2**32 for stream in streams for block in range(300)}
    assert len(keys) == 6 * 300


@pytest.mark.parametrize("size", [1, 3, 7])
def test_nothing_depends_on_the_chunks(size: int) -> None:
    rng = np.random.default_rng(0)
    shares = [rng.dirichlet([3, 1, 0.5]).tolist() for _ in range(7)]
    counts = {s: coins(*shares, seed=k) for k, s in enumerate((0.25, 0.5, 1.0))}
    labels = rng.integers(0, 3, 7)
    whole = [choose(counts, np.arange(7), 40, 0.01, each) for each in (None, labels)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "CHUNK", size)
        for each, expected in zip((None, labels), whole, strict=True):
            assert choose(counts, np.arange(7), 40, 0.01, each).tolist() == expected.tolist()
    assert len(choose(counts, np.zeros(0, np.int64), 40, 0.01)) == 0


@pytest.mark.parametrize("several", [2, 4])
def test_choosing_on_the_samples_that_certify_would_void_alpha(several: int) -> None:
    """f of the same true radius at every σ: the largest of m bounds is too large nearly m times as often."""
    n, alpha, true = 1000, 0.01, 0.2
    wrong = []
    for sigma in (1.0, 0.5, 0.25, 0.12)[:several]:
        failures = np.arange(n + 1)
        wrong.append(binom.pmf(failures, n, ndtr(-true / sigma))[radius(failures, n, alpha, sigma) > true].sum())
    assert max(wrong) <= alpha  # each by itself is right
    assert 1 - np.prod(1 - np.array(wrong)) > 0.8 * several * alpha > alpha
