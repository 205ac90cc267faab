"""Regions, by brute force: no point within a returned radius has another class, of classifiers known exactly."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from transmooth.smoothing import regions
from transmooth.smoothing.bounds import SLACK, Floats, Ints, within
from transmooth.smoothing.regions import NEAR, Allocation, allocate, distances, one_sigma_for_near, room, same_pixels

SIGMAS = np.array([0.12, 0.25, 0.5, 1.0])
DEFAULT = 0.33  # σ₀
seeds = st.integers(0, 2**32 - 1)


class Strips:
    """f = 1 where the first coordinate is in one of some intervals, else 0: P[f(x + σδ) = 1] is a sum of Φ."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.low, self.high = np.sort(rng.uniform(-1, 2, 2 * rng.choice([1, 2, 3, 6]))).reshape(-1, 2).T

    def score(self, points: Floats, sigma: Floats | float) -> Floats:
        """u = σ Φ⁻¹(p), [N]: its sign tells G's class, its size the true radius up to the nearest other class."""
        s = np.broadcast_to(sigma, len(points))[:, None]
        a, b = ((edge - points[:, :1]) / s for edge in (self.low, self.high))
        a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)  # the lower tail has the digits
        p = (ndtr(b) - ndtr(a)).sum(1)
        return np.asarray(s[:, 0] * ndtri(np.clip(p, 1e-12, 1 - 1e-12)))


def scene(seed: int) -> tuple[np.random.Generator, Strips, Floats, Floats]:
    """A classifier, anchors [18, 2] of which a third are close together, and σ chosen as badly as one likes.

    It is the one with the largest true radius, or any one.
    """
    rng = np.random.default_rng(seed)
    f, x = Strips(rng), rng.random((18, 2))
    x[1:6] = np.clip(x[0] + rng.normal(size=(5, 2)) * rng.choice([0, 1e-6, 3e-4, 0.02, 0.1]), 0, 1)
    best = SIGMAS[np.abs([f.score(x, sigma) for sigma in SIGMAS]).argmax(0)]
    return rng, f, x, np.where(rng.random(18) < 0.3, rng.choice(SIGMAS, 18), best)


def around(point: Floats, radius: float, towards: Floats, rng: np.random.Generator) -> Floats:
    """Points of the open ball: the rim, the inside, and the way to each of the others."""
    v = rng.normal(size=(50, 2))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    w = towards - point
    w = w[np.linalg.norm(w, axis=1) > 0]
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    lines = (w[:, None] * np.linspace(0.1, 1, 10)[None, :, None]).reshape(-1, 2)
    return np.asarray(point + 0.999999 * radius * np.concatenate([v, v * rng.random((50, 1)) ** 0.5, lines]))


def answer(f: Strips, allocation: Allocation, points: Floats) -> Ints:
    """The class of h(z) = G_S(z)(z)."""
    own = allocation.sigma_at(points)
    return (f.score(points, np.where(np.isnan(own), DEFAULT, own)) > 0).astype(np.int64)


# ------------------------------------------------------------------------------------------------------- soundness
@settings(max_examples=30)
@given(seeds, st.sampled_from([1.0, 3.0, np.inf]))
def test_no_point_within_the_radius_has_another_class(seed: int, reach: float) -> None:
    rng, f, x, wanted = scene(seed)
    allocation = allocate(x, wanted, reach)
    u = f.score(x, allocation.sigmas)
    radius = within(np.abs(u), allocation.regions)
    assert (radius > 0).sum() >= 15  # the balls leave most of them something
    for i in np.flatnonzero(radius > 0):
        near = np.concatenate([x[i : i + 1], around(x[i], radius[i], x, rng)])
        assert (answer(f, allocation, near) == (u[i] > 0)).all()


def test_the_largest_radius_over_sigma_is_no_certificate() -> None:
    """Of x ↦ G of the σ with the largest radius at x: what the balls are for."""
    violated = 0
    for seed in range(150):
        rng, f, x, _ = scene(seed)

        def best(points: Floats, f: Strips = f) -> Floats:
            u = np.stack([f.score(points, sigma) for sigma in SIGMAS])
            return np.asarray(np.take_along_axis(u, np.abs(u).argmax(0)[None], 0)[0])

        (u,) = best(x[17:])
        violated += bool(((best(around(x[17], abs(u), x[:0], rng)) > 0) != (u > 0)).any())
    assert violated >= 5


# --------------------------------------------------------------------------------------------------------- geometry
@settings(max_examples=25)
@given(seeds)
def test_balls_of_other_sigma_are_apart_and_have_no_order(seed: int) -> None:
    rng, _, x, wanted = scene(seed)
    found = allocate(x, wanted)
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    other = found.sigmas[:, None] != found.sigmas[None]
    assert (found.regions[:, None] + found.regions[None] <= d)[other].all()
    assert (found.regions > SLACK).all()  # nobody is left without one
    if other.any():  # nor with less than there is
        nearest = np.where(other, d, np.inf).min(1)
        np.testing.assert_allclose(found.regions[np.isfinite(nearest)], nearest[np.isfinite(nearest)] / 2, atol=1e-7)
    order = rng.permutation(len(x))
    again = allocate(x[order], wanted[order])
    assert (again.sigmas == found.sigmas[order]).all()
    np.testing.assert_allclose(again.regions, found.regions[order], rtol=0, atol=1e-9)


def test_a_ball_is_no_larger_than_its_image_can_use() -> None:
    x = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0]])
    found = allocate(x, [0.25, 0.25, 0.5], reach=1.5)
    assert found.regions[:2].tolist() == [0.25 * 1.5 + SLACK] * 2  # balls of one σ overlap
    assert found.regions[2] == pytest.approx(0.45, abs=1e-9)  # half of 0.9, not 0.5 · 1.5


def test_what_a_region_leaves() -> None:
    left = within([0.3, 0.3, 0.3, 0.0, 0.3, np.inf], [1.0, 0.2, SLACK, 1.0, 0.0, 0.5])
    assert left.tolist() == [0.3, 0.2 - SLACK, 0.0, 0.0, 0.0, 0.5 - SLACK]


@pytest.mark.parametrize("kind", [np.float64, np.uint8])
def test_near_images_get_the_smallest_sigma_of_their_chain(kind: type) -> None:
    step = 0.9 * NEAR if kind is np.float64 else 0
    apart = 1.2 * NEAR if kind is np.float64 else 1  # 1/255 is farther than NEAR
    x: NDArray[Any] = np.array([[0], [step], [2 * step], [2 * step + apart]], kind)
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3, 1, 2, 0]):
        sigmas = np.array([1.0, 0.5, 0.25, 0.12])
        assert (
            one_sigma_for_near(x[order], sigmas[order]).tolist() == np.array([0.25, 0.25, 0.25, 0.12])[order].tolist()
        )


def test_images_of_the_same_pixels_have_one_number() -> None:
    x = np.array([[1, 2], [3, 4], [1, 2], [1, 3]], np.uint8)
    group = same_pixels(x).tolist()
    assert group[0] == group[2]
    assert len(set(group)) == 3


def test_the_room_of_an_image_is_half_the_distance_to_another_kind() -> None:
    x = np.array([[0.0], [0.2], [0.5], [0.9]])
    np.testing.assert_allclose(room(x, np.array([1, 1, 2, 2]), 0.3), [0.25, 0.15, 0.15, 0.3], atol=1e-12)
    assert room(x, np.zeros(4), 7.0).tolist() == [7.0] * 4


def test_nothing_depends_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 3, 2, 2), np.uint8)
    x[3] = x[17]
    wanted = rng.choice(SIGMAS, 20)
    whole = allocate(x, wanted)
    floats = allocate(x / 255, wanted)
    monkeypatch.setattr(regions, "ROWS", 3)
    assert allocate(x, wanted).sha256 == whole.sha256
    np.testing.assert_allclose(allocate(x / 255, wanted).regions, floats.regions, atol=1e-12)
    points = np.concatenate([x[:5], x[10:12]]) / 255
    assert (
        allocate(x, wanted).sigma_at(points).tolist()
        == whole.sigma_at(points).tolist()
        == whole.sigmas[[*range(5), 10, 11]].tolist()
    )
    monkeypatch.setattr(regions, "BLOCK_BYTES", 8 * 12 * 2)  # two images
    assert [block.stop - block.start for block in regions._blocks(x)] == [2] * 10


# -------------------------------------------------------------------------------------------------------- distances
@settings(max_examples=25)
@given(seeds, st.integers(1, 300))
def test_distances_of_bytes_are_exact_but_for_rounding_down(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (4, d), np.uint8), rng.integers(0, 256, (3, d), np.uint8)
    a[0], b[0], b[1] = 255, 0, a[1]
    whole = ((a[:, None].astype(int) - b[None].astype(int)) ** 2).sum(-1)
    for (i, j), r in np.ndenumerate(distances(a, b)):
        assert Fraction(float(r)) ** 2 * 255**2 <= int(whole[i, j])
        assert r >= np.sqrt(whole[i, j]) / 255 * (1 - 1e-15)


@settings(max_examples=15)
@given(seeds, st.floats(1e-9, 1))
def test_distances_of_floats_are_lower_bounds(seed: int, apart: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random((3, 40))
    b = np.clip(a + apart * rng.normal(size=a.shape), 0, 1)
    for (i, j), r in np.ndenumerate(distances(a, b)):
        true = sum((Fraction(float(p)) - Fraction(float(q))) ** 2 for p, q in zip(a[i], b[j], strict=True))
        assert Fraction(float(r)) ** 2 <= true
        assert float(r) >= float(true) ** 0.5 - 1e-6


# -------------------------------------------------------------------------------------------------------- deployment
def test_a_point_has_the_sigma_of_the_ball_that_it_is_in() -> None:
    anchors = np.array([[0, 0], [255, 0]], np.uint8)
    found = Allocation(anchors, np.array([0.25, 0.5]), np.array([0.25, 0.5]))
    points = np.array([[0, 0], [0.2, 0], [0.25, 0], [0.5, 0], [0.5000001, 0], [1, 0.49], [0.5, 0.5]])
    np.testing.assert_array_equal(found.sigma_at(points), [0.25, 0.25, np.nan, np.nan, 0.5, 0.5, np.nan])


def test_the_hash_is_of_all_that_makes_it() -> None:
    anchors, sigmas, room = np.zeros((2, 3, 1, 1), np.uint8), np.array([0.25, 0.5]), np.array([0.1, 0.2])
    other, smaller, less = anchors.copy(), sigmas.copy(), room.copy()
    other[1, 2, 0, 0], smaller[0], less[1] = 1, 0.12, np.nextafter(0.2, 0)
    made = [(anchors, sigmas, room), (other, sigmas, room), (anchors, smaller, room), (anchors, sigmas, less)]
    made += [(anchors.astype(np.float64), sigmas, room), (anchors.reshape(2, 1, 3, 1), sigmas, room)]
    assert len({Allocation(*each).sha256 for each in made}) == len(made)
    assert Allocation(anchors[::-1], sigmas, room).sha256 == Allocation(anchors[::-1].copy(), sigmas, room).sha256


def test_a_sigma_for_each_image_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"one sigma for each image, got shape \(2,\) for 3 images"):
        allocate(np.zeros((3, 2)), [0.25, 0.5])
