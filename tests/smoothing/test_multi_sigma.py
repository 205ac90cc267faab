"""Classifiers of several σ: no point within a radius has another answer, by brute force and exact probabilities."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from tests.helpers import planar
from tests.helpers.planar import Patchwork, bounds, neighbours
from tests.helpers.smoothing import coins
from transmooth.smoothing import cascade, cohen, margin
from transmooth.smoothing.bounds import Floats, Ints, radius, two_sided_radius
from transmooth.smoothing.decision import SELECTION
from transmooth.smoothing.multi_sigma import RULES, Stages, certify, choose, looks, score_bounds

ANSWERS: dict[str, Callable[[Floats, Floats], Ints]] = {
    "cascade": planar.cascade,
    "margin": planar.margin,
    "multiscale": planar.cascade,
    "dual_rs": planar.cascade,
}
SIGMAS = [0.12, 0.25, 0.5, 1.0]
seeds = st.integers(0, 2**32 - 1)
stages = st.permutations(SIGMAS).flatmap(lambda order: st.integers(1, 4).map(lambda count: np.array(order[:count])))


def thresholds_of(rng: np.random.Generator, sigmas: Floats) -> Floats:
    """None at all, or up to a half of σ."""
    return np.asarray(sigmas * rng.choice([0.0, 0.5]) * rng.random(len(sigmas)))


def exact_radius(rule: str, low: Floats, high: Floats, thresholds: Floats) -> Floats:
    """The radius of exact scores [B, m] of c and of the best other class."""
    return RULES[rule].radius(low, np.maximum(low, high) if RULES[rule].of_all else high, thresholds)


# ------------------------------------------------------------------------------------------------- the two theorems
@settings(max_examples=60)
@given(seeds, stages, st.sampled_from([*RULES]))
def test_no_point_within_the_radius_has_another_answer(seed: int, sigmas: Floats, rule: str) -> None:
    rng = np.random.default_rng(seed)
    scene, thresholds, answer = Patchwork(rng), thresholds_of(rng, sigmas), ANSWERS[rule]
    points = rng.uniform(-0.5, 1.5, (12, 2))
    scores = scene.scores(points, sigmas)
    answers = answer(scores, thresholds)
    radii = exact_radius(rule, *bounds(scores, answers), thresholds)
    for point, mine, r in zip(points, answers, radii, strict=True):
        if r > 0:
            near = scene.scores(neighbours(point, r, rng), sigmas)
            assert (answer(near, thresholds) == mine).all()
    for other in range(planar.CLASSES):  # of a class that is not the answer no radius is certified
        claimed = exact_radius(rule, *bounds(scores, np.full(12, other)), thresholds)
        assert (claimed[answers != other] <= 0).all()


def test_the_largest_radius_over_sigma_is_no_certificate() -> None:
    """What takes the σ of the largest radius is `margin` without thresholds, and that radius is too large for it."""
    sigmas, none, false = np.array(SIGMAS), np.zeros(4), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scene, point = Patchwork(rng), rng.uniform(-0.5, 1.5, (1, 2))
        scores = scene.scores(point, sigmas)
        (mine,), largest = planar.margin(scores, none), float(scores.max())
        if largest > 0:
            near = scene.scores(neighbours(point[0], largest, rng), sigmas)
            false += bool((planar.margin(near, none) != mine).any())
    assert false > 20


@settings(max_examples=100)
@given(seeds, st.integers(1, 4), st.sampled_from(["cascade", "margin"]))
def test_the_radius_is_the_distance_in_the_space_of_scores(seed: int, count: int, rule: str) -> None:
    """All scores may move by r, those of c down and one wrong class up at one stage or all: no answer changes below R.

    Beyond R one does, so R cannot be larger without a property that scores have beside their Lipschitz constant.
    """
    rng = np.random.default_rng(seed)
    thresholds = rng.choice([0.0, 0.4]) * rng.random(count)
    low = rng.uniform(-1, 2, count)
    high = np.minimum(rng.uniform(-2, 1, count), -low)  # p_b ≤ 1 − p_c
    r = float(RULES[rule].radius(low[None], high[None], thresholds)[0])
    if r <= 0:
        return

    def changes(by: float) -> bool:
        for raised in [*np.eye(count), np.ones(count), np.zeros(count)]:
            moved = np.stack([low - by, np.where(raised, high + by, -9.0)], 1)[None]
            if ANSWERS[rule](moved, thresholds)[0] != 0:
                return True
        return False

    assert not changes(r * (1 - 1e-9))
    assert changes(r * (1 + 1e-9) + 1e-9)


def test_radii_by_hand() -> None:
    """Two stages: the first is sure of c up to 0.3, and no other class reaches its threshold there before 0.6."""
    low, high, none = np.array([[0.3, 0.5]]), np.array([[-0.6, -0.5]]), np.zeros(2)
    assert cascade.radius(low, high, none).tolist() == [0.5]  # the second stage goes on where the first falls out
    assert cascade.published_radius(low, high, none).tolist() == [0.3]
    assert cascade.radius(low, np.array([[-0.4, -0.5]]), none).tolist() == [0.4]
    assert margin.radius(low, high, none).tolist() == [0.5]
    # The second stage answers: the first must stay silent, of c too where σ is to stay the same.
    low, high, top = np.array([[-0.2, 0.5]]), np.array([[-0.3, -0.5]]), np.array([[-0.1, 0.6]])
    assert cascade.radius(low, high, none).tolist() == [0.3]
    assert cascade.published_radius(low, high, none).tolist() == [0.3]
    assert cascade.published_radius(low, np.maximum(high, top), none).tolist() == [0.1]
    # A threshold keeps a wrong class away, and takes as much from the right one.
    assert cascade.radius(low, high, np.array([0.1, 0.1])).tolist() == pytest.approx([0.4])
    assert margin.radius(low, high, np.array([0.0, 0.4])).tolist() == pytest.approx([0.2])


@given(seeds)
def test_the_other_forms_of_a_cascade_never_certify_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1, 2, (1000, 3))
    top, thresholds = low + rng.random((1000, 3)), rng.choice([0.0, 0.3]) * rng.random(3)
    high = np.minimum(rng.uniform(-2, 1, (1000, 3)), -low)
    ours, published = (each(low, high, thresholds) for each in (cascade.radius, cascade.published_radius))
    assert (np.maximum(published, 0) <= np.maximum(ours, 0)).all()
    of_all = cascade.published_radius(low, np.maximum(high, top), thresholds)
    assert (of_all <= published).all()
    assert (of_all < published).any()
    assert (published < ours).any()


def test_a_stage_that_may_answer_c_too_ends_the_radius_of_the_selector() -> None:
    """The first stage says c to 48 %: it may answer it or not, which changes σ and not the class."""
    counts = np.array([[480, 950]]), np.array([[300, 20]]), np.array([[1000, 1000]])
    radii = {rule: float(Stages(rule, (1.0, 0.5), (0.0, 0.0)).radius(*counts, 0.001)[0]) for rule in RULES}
    assert radii["dual_rs"] == 0 < radii["multiscale"] == radii["cascade"]


# ------------------------------------------------------------------------------------------------------- from counts
@given(st.integers(10, 500), st.floats(0.001, 0.2), st.floats(0.1, 2), st.data())
def test_one_stage_is_cohen(n: int, alpha: float, sigma: float, data: st.DataObject) -> None:
    top = np.array([data.draw(st.integers(0, n))])
    second = np.array([data.draw(st.integers(0, n - int(top[0])))])
    counts = np.stack([second, top, n - top - second], 1)
    runner_up = counts[:, [0, 2]].max(1)
    one, two, *others = (Stages(rule, (sigma,), (0.0,)) for rule in RULES)
    shape = (top[:, None], runner_up[:, None], np.array([[n]]))
    assert one.radius(*shape, alpha) == radius(n - top, n, alpha, sigma)
    assert all(each.radius(*shape, alpha) == one.radius(*shape, alpha) for each in others)
    assert two.radius(*shape, alpha) == pytest.approx(two_sided_radius(counts, [1], alpha, sigma), abs=1e-12)


def test_one_stage_certifies_as_cohen_does() -> None:
    counts, images = coins(*[[p, 1 - p, 0] for p in np.linspace(0, 1, 30).tolist()]), np.arange(30)
    (ours,) = certify([counts], images, Stages("cascade", (0.5,), (0.0,)), n0=50, n=300, alpha=0.01)
    theirs = cohen.certify(counts, images, sigma=0.5, n0=50, n=300, alpha=0.01)
    for name in ("selected", "prediction", "radius", "n", "top_count", "runner_up", "evaluations"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()


@pytest.mark.parametrize("n", [10, 200])
def test_a_bound_fails_at_its_share_at_most_and_nearly_as_often(n: int) -> None:
    k, share = np.arange(n + 1), 0.02
    low, _ = score_bounds(k[:, None], k[:, None] * 0, np.full((n + 1, 1), n), (0.5,), share)
    _, high = score_bounds(k[:, None] * 0, k[:, None], np.full((n + 1, 1), n), (0.5,), share)
    failed = []
    for p in np.linspace(0.01, 0.99, 99):
        chances, score = binom.pmf(k, n, p), 0.5 * ndtri(p)
        failed += [chances[low[:, 0] > score].sum(), chances[high[:, 0] < score].sum()]
    assert max(failed) <= share * (1 + 1e-9)
    assert max(failed) > 0.8 * share
    nothing = np.zeros((1, 1), np.int64)
    unknown = score_bounds(nothing, nothing, nothing, (0.5,), share)
    assert [each.tolist() for each in unknown] == [[[-np.inf]], [[np.inf]]]


# Shares of the classes at each stage; class 0 is the answer, with the same score at each, and others are far.
EQUAL = [[p, *[(1 - p) / 3] * 3] for p in ndtr(0.2 / np.array([1.0, 0.5, 0.25])).tolist()]
THREE = [[0.55, 0.3, 0.1, 0.05], [0.8, 0.1, 0.06, 0.04], [0.9, 0.04, 0.03, 0.03]]


def true_radius(rule: str, scores: Floats) -> float:
    """What no radius of class 0 should exceed, with scores [m, K] and no thresholds: that of the classifier itself."""
    exact = margin.radius if rule == "margin" else cascade.radius
    return float(exact(scores[None, :, 0], scores[None, :, 1:].max(2), np.zeros(len(scores)))[0])


@pytest.mark.parametrize("rule", RULES)
def test_a_radius_is_too_large_with_probability_alpha_at_most(rule: str) -> None:
    """At points where one bound decides, or several at once."""
    rng, alpha, n, images = np.random.default_rng(5), 0.05, 300, 20_000
    made = Stages(rule, (1.0, 0.5, 0.25), (0.0, 0.0, 0.0))
    worst = 0.0
    for shares in (EQUAL, THREE, THREE[::-1], [THREE[1]] * 3, [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], THREE[2]]):
        p = np.array(shares)
        scores = np.array(made.sigmas)[:, None] * ndtri(p)
        exact = true_radius(rule, scores)
        drawn = np.stack([rng.multinomial(n, each, images) for each in p], 1)
        found = made.radius(drawn[:, :, 0], drawn[:, :, 1:].max(2), np.full((images, 3), n), alpha)
        worst = max(worst, float((found > max(exact, 0)).mean()))
    assert worst <= alpha
    if rule == "cascade":  # any of three bounds may be too large; a margin takes two that err at once
        assert worst > 0.3 * alpha


def test_what_every_stage_is_asked_for_is_what_could_change_the_radius() -> None:
    rng = np.random.default_rng(1)
    shares = [rng.dirichlet([0.15] * 4, 300).tolist() for _ in range(3)]
    counts, images = [coins(*each, seed=k) for k, each in enumerate(shares)], np.arange(300)
    for rule in RULES:
        made = Stages(rule, (1.0, 0.5, 0.25), (0.0, 0.05, 0.0))
        decisions = certify(counts, images, made, n0=50, n=400, alpha=0.01)
        asked = np.stack([each.n for each in decisions], 1)
        assert set(asked.ravel().tolist()) == {0, 400}
        every = np.zeros(300, int)
        drawn = np.stack([each(1, images, every, every + 400) for each in counts], 1)
        top = np.take_along_axis(drawn, decisions[0].selected[:, None, None], 2)[:, :, 0]
        np.put_along_axis(drawn, decisions[0].selected[:, None, None], -1, 2)
        whole = made.radius(top, drawn.max(2), np.full((300, 3), 400), 0.01)
        assert decisions[0].radius.tolist() == whole.tolist()
        assert (whole > 0).sum() > 50
        assert asked[:, 0].all()
        assert all((each.evaluations == 50 + each.n).all() for each in decisions)
        assert all((each.prediction == np.where(whole > 0, each.selected, -1)).all() for each in decisions)
    # A cascade often knows after its first stage; a margin needs all bounds on other classes, but where it is lost.
    first = [certify(counts, images, Stages(r, (1.0, 0.5, 0.25), (0.0,) * 3), n0=50, n=400, alpha=0.01) for r in RULES]
    assert np.mean([each.n.mean() for each in first[0]]) < 0.8 * np.mean([each.n.mean() for each in first[1]])


# ------------------------------------------------------------------------------------------------------- in looks
RADII = (0.0, 0.1, 0.2, 0.3, 0.4)


def test_an_image_is_looked_at_four_times_at_most_and_once_without_radii() -> None:
    assert looks(10_000, None) == [10_000]
    assert looks(10_000, RADII) == [157, 625, 2500, 10_000]
    assert looks(4 * 64, RADII) == [64, 256]
    assert looks(4 * 63, RADII) == [252]


@pytest.mark.parametrize("rule", ["cascade", "margin"])
def test_a_radius_of_the_look_at_which_an_image_ends_is_too_large_with_probability_alpha_at_most(rule: str) -> None:
    """At points where one bound decides, or several at once; also where the radius is the largest of all looks."""
    rng, alpha, sizes, images = np.random.default_rng(6), 0.05, looks(1200, RADII), 5000
    assert len(sizes) == 3
    made = Stages(rule, (1.0, 0.5), (0.0, 0.0))
    worst = 0.0
    for shares in ([EQUAL[0], EQUAL[1]], THREE[:2], THREE[1::-1], [THREE[1], THREE[1]]):
        p = np.array(shares)
        scores = np.array(made.sigmas)[:, None] * ndtri(p)
        exact = true_radius(rule, scores)
        drawn, largest = np.zeros((images, 2, 4), int), np.zeros(images)
        for before, size in zip([0, *sizes], sizes, strict=False):
            drawn += np.stack([rng.multinomial(size - before, each, images) for each in p], 1)
            n = np.full((images, 2), size)
            found = made.radius(drawn[:, :, 0], drawn[:, :, 1:].max(2), n, alpha, looks=len(sizes))
            largest = np.maximum(largest, found)
        worst = max(worst, float((largest > max(exact, 0)).mean()))
    assert worst <= alpha
    assert worst > 0.1 * alpha or rule == "margin"


@pytest.mark.parametrize("rule", RULES)
def test_looks_reach_nearly_the_same_radii_with_a_fraction_of_the_samples(rule: str) -> None:
    rng, images = np.random.default_rng(2), np.arange(300)
    shares = [rng.dirichlet([0.15] * 4, 300).tolist() for _ in range(3)]
    counts, made = [coins(*each, seed=k) for k, each in enumerate(shares)], Stages(rule, (1.0, 0.5, 0.25), (0.0,) * 3)
    fixed, early = (certify(counts, images, made, n0=50, n=10_000, alpha=0.001, radii=radii) for radii in (None, RADII))
    asked = np.stack([each.n for each in early], 1)
    assert set(asked.ravel().tolist()) <= {0, *looks(10_000, RADII)}
    assert asked.sum() < 0.6 * sum(each.n.sum() for each in fixed)
    reached = [(each[0].radius[:, None] >= np.array(RADII)) & (each[0].radius[:, None] > 0) for each in (fixed, early)]
    assert reached[0].sum() > 200
    assert abs(int(reached[0].sum()) - int(reached[1].sum())) <= 0.02 * reached[0].sum()
    # The radius is that of the counts, whichever look they are of.
    top, second = (np.stack([getattr(each, name) for each in early], 1) for name in ("top_count", "runner_up"))
    assert early[0].radius.tolist() == made.radius(top, second, asked, 0.001, looks=4).tolist()
    assert all((each.evaluations == 50 + each.n).all() for each in early)


def test_samples_of_a_look_are_the_first_of_those_of_the_next() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        if stream != SELECTION:
            asked.append((start.tolist(), n.tolist()))
        return np.stack([n - n // 10, n // 10], 1)

    made = Stages("cascade", (1.0,), (0.0,))
    (found,) = certify([counts], np.arange(1), made, n0=10, n=1200, alpha=0.01, radii=(0.0, 1.25))
    assert asked == [([0], [75]), ([75], [225]), ([300], [900])]
    assert found.n.tolist() == [1200]  # Φ⁻¹(0.9) = 1.28: only many samples tell it from 1.25


def test_the_class_is_of_the_selection_samples_and_a_wrong_one_ends_there() -> None:
    asked: list[tuple[int, list[int]]] = []

    def counts(stream: int, images: Ints, start: Ints, n: Ints) -> Ints:
        asked.append((stream, images.tolist()))
        share = [0.9, 0.1, 0.0] if stream == SELECTION else [0.0, 0.1, 0.9]
        return np.array([[round(m * each) for each in share] for m in n.tolist()])

    made = Stages("cascade", (1.0, 0.5), (0.0, 0.0))
    first, second = certify([counts, counts], np.arange(3), made, n0=10, n=100, alpha=0.01, labels=np.array([0, 2, 1]))
    assert first.selected.tolist() == second.selected.tolist() == [0, 0, 0]
    assert first.prediction.tolist() == [-1, -1, -1]
    assert asked == [(SELECTION, [0, 1, 2]), (SELECTION, [0, 1, 2]), (1, [0])]  # 90 of another class: it is decided
    assert (first.n.tolist(), second.n.tolist()) == ([100, 0, 0], [0, 0, 0])
    assert (first.top_count[0], first.runner_up[0]) == (0, 90)


@pytest.mark.parametrize(
    ("seen", "rule", "thresholds", "expected"),
    [
        ([[9, 1, 0], [0, 9, 1]], "cascade", (0.0, 0.0), 0),  # the first stage answers
        ([[4, 3, 3], [0, 9, 1]], "cascade", (0.0, 0.0), 1),  # it is silent
        ([[6, 4, 0], [0, 10, 0]], "margin", (0.0, 0.0), 1),
        ([[6, 4, 0], [0, 10, 0]], "margin", (0.0, 0.8), 0),
        ([[5, 5, 0], [5, 5, 0]], "cascade", (0.0, 0.0), 0),  # ties: the lowest class
    ],
)
def test_the_class_that_is_certified(seen: Any, rule: str, thresholds: tuple[float, float], expected: int) -> None:
    assert Stages(rule, (1.0, 0.5), thresholds).select(np.array([seen])).tolist() == [expected]


def test_the_stages_that_are_chosen_are_the_best_of_all() -> None:
    rng = np.random.default_rng(3)
    p = np.stack([rng.dirichlet([6, 1, 1], 60), rng.dirichlet([3, 1, 1], 60), rng.dirichlet([1, 1, 1], 60)], 1)
    seen = rng.multinomial(400, p)
    labels, sigmas, alpha = np.zeros(60, int), (0.25, 0.5, 1.0), 0.01
    top, second, n = seen[:, :, 0], seen[:, :, 1:].max(2), np.full((60, 3), 400)
    for rule in RULES:
        for radius_ in (None, 0.0, 0.3):
            made, score = choose(seen, labels, sigmas, rule, alpha, radius=radius_)
            at = [sigmas.index(sigma) for sigma in made.sigmas]
            assert at == sorted(at)

            def score_of(stages: Stages, at: list[int], wanted: float | None = radius_) -> float:
                radii = stages.radius(top[:, at], second[:, at], n[:, at], alpha)
                return float(radii.mean() if wanted is None else ((radii >= wanted) & (radii > 0)).mean())

            assert score == score_of(made, at)
            for one in range(3):
                assert score >= score_of(Stages(rule, sigmas[one : one + 1], (0.0,)), [one])
            assert score >= score_of(Stages(rule, sigmas, (0.0,) * 3), [0, 1, 2])
            full, most = choose(seen, labels, sigmas, rule, alpha, radius=radius_, whole=True)
            assert full.sigmas == sigmas
            assert score_of(Stages(rule, sigmas, (0.0,) * 3), [0, 1, 2]) <= most == score_of(full, [0, 1, 2]) <= score
    # Where all say the same, one stage does, the first of the best.
    same = np.zeros((5, 2, 3), int)
    same[:, :, 2] = 400
    made, _ = choose(same, np.full(5, 2), (1.0, 0.5), "cascade", alpha)
    assert made == Stages("cascade", (1.0,), (0.0,))
    assert choose(same, np.full(5, 1), (1.0, 0.5), "cascade", alpha)[1] == 0  # of another class: nothing


@given(seeds)
def test_more_of_c_and_less_of_others_never_certifies_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.full((20, 2), 100)
    top, second = rng.integers(30, 90, (20, 2)), rng.integers(0, 10, (20, 2))
    for rule in ("cascade", "margin"):
        made = Stages(rule, (1.0, 0.5), (0.1, 0.0))
        base = made.radius(top, second, n, 0.01)
        assert (made.radius(top + rng.integers(0, 2, (20, 2)), second, n, 0.01) >= base).all()
        assert (made.radius(top, second + rng.integers(0, 2, (20, 2)), n, 0.01) <= base).all()
        assert (made.radius(top, second, n, 0.001) <= base).all()


def test_lipschitz_scores_are_what_the_planar_scenes_have() -> None:
    """The helper's probabilities are those of the Gaussian: a half plane's score is the distance to its edge."""
    scene = Patchwork(np.random.default_rng(0), patches=2)
    scene.classes = np.array([[0, 0], [1, 1]])
    points = np.random.default_rng(1).uniform(-1, 2, (50, 2))
    scores = scene.scores(points, np.array(SIGMAS))
    assert scores[:, 3, 1] == pytest.approx(points[:, 0] - scene.columns[0])
    assert ndtr(scores / np.array(SIGMAS)[:, None]).sum(2) == pytest.approx(np.ones((50, 4)))
