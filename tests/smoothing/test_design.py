import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from scipy.stats import binom

from transmooth.smoothing import crossing, design
from transmooth.smoothing.bounds import Floats, Ints
from transmooth.smoothing.crossing import crossing_probability
from transmooth.smoothing.sequential import GridPlan

Design = tuple[Ints, Ints]


def made(plan: GridPlan) -> Design:
    """The design of a plan, from no file."""
    return design.design(plan.looks, plan.thresholds, plan.alpha, plan.n_max / plan.tolerance)


def crossed(looks: Ints, most: Ints, fewest: Ints, q: float) -> float:
    """P_q[certified], path by path: one sample at a time, by plain sums over a table of failures."""
    alive, certified, last = {0: 1.0}, 0.0, 0
    for look, c, f in zip(looks.tolist(), most.tolist(), fewest.tolist(), strict=True):
        for _ in range(look - last):
            grown: dict[int, float] = defaultdict(float)
            for failures, mass in alive.items():
                grown[failures] += mass * (1 - q)
                grown[failures + 1] += mass * q
            alive = grown
        certified += math.fsum(mass for failures, mass in alive.items() if failures <= c)
        alive, last = {failures: mass for failures, mass in alive.items() if c < failures < f}, look
    return certified


@pytest.mark.parametrize(("n", "batch"), [(7, 1), (60, 7), (150, 16), (300, 64)])
def test_the_error_by_an_independent_recursion(n: int, batch: int) -> None:
    plan = GridPlan(0.5, (0.0, 0.2, 0.5), alpha=0.02, n_max=n, batch=batch)
    for most, fewest, q in zip(*made(plan), plan.thresholds.tolist(), strict=True):
        error = crossed(plan.looks, most, fewest, q)
        assert error <= plan.alpha
        assert error == pytest.approx(crossing_probability(plan.looks, most, fewest, q)[-1], rel=1e-9, abs=1e-17)
        assert crossed(plan.looks, most, fewest, q * 1.05) <= error
        assert (error > 0) == (most[-1] >= 0)


@settings(max_examples=25)
@given(
    sigma=st.floats(0.05, 4),
    radii=st.lists(st.floats(0, 3), min_size=1, max_size=5, unique=True).map(sorted),
    alpha=st.one_of(st.sampled_from([1e-12, 1e-6, 0.001, 0.05, 0.5, 0.999]), st.floats(1e-9, 0.99)),
    n=st.integers(1, 1500),
    batch=st.sampled_from([1, 10, 64, 2000]),
    ratio=st.sampled_from([1.0, 1.1, 3.0]),
    tolerance=st.sampled_from([1e-6, 0.075, 0.3, 1e6]),
)
def test_every_design_holds(**fields: Any) -> None:
    fields["n_max"] = fields.pop("n")
    if fields["n_max"] / fields["batch"] > 100:
        fields["ratio"] = 1.3  # a thousand looks would take a second
    plan = GridPlan(**fields | {"radii": tuple(fields["radii"])})
    most, fewest = made(plan)
    assert design.holds(plan.looks, plan.thresholds, plan.alpha, most, fewest)  # shape, order and error
    sampled = most[:, -1] >= 0
    assert (fewest > most)[sampled].all()
    assert (fewest[sampled, -1] == most[sampled, -1] + 1).all()
    assert (fewest[~sampled] == 0).all()
    assert (most[~sampled] == -1).all()
    assert (most <= plan.looks).all()


@pytest.mark.parametrize(
    ("sigma", "n", "power", "before"),
    [
        (0.5, 500, 0.5, [0.504, 0.504, 0.502]),
        (0.5, 500, 0.99, [0.990, 0.990, 0.990]),
        (0.25, 5000, 0.5, [0.478, 0.501, 0.459]),
        (0.25, 5000, 0.9, [0.888, 0.900, 0.880]),
        (0.25, 100_000, 0.5, [0.473, 0.474, 0.472, 0.462]),
        (0.25, 100_000, 0.9, [0.881, 0.883, 0.884, 0.881]),
        (0.25, 100_000, 0.99, [0.981, 0.983, 0.986, 0.987]),
    ],
)
def test_power_is_that_of_boundaries_made_by_hand(sigma: float, n: int, power: float, before: list[float]) -> None:
    """At the rates where a test of n samples at once has this power; `before`: of plans before there were designs."""
    plan = GridPlan(sigma, (0.0, 0.25, 0.5, 0.75)[: len(before)], n_max=n)
    most = np.asarray(binom.ppf(plan.alpha, n, plan.thresholds), np.float64) - 1
    assert (powers(plan, rates_of(most, n, power)) >= np.array(before) - 0.02).all()


def rates_of(most: Floats, n: int, power: float) -> Floats:
    """The q with P[Bin(n, q) ≤ most] = power."""
    return np.asarray(betaincinv(most + 1, n - most, 1 - power), np.float64)


def powers(plan: GridPlan, rates: Floats) -> Floats:
    bounds = zip(plan.looks[None].repeat(len(rates), 0), plan.certify_at, plan.give_up_at, rates.tolist(), strict=True)
    return np.array([crossing_probability(*row)[-1] for row in bounds])


def test_a_tolerance_costs_power_and_saves_samples() -> None:
    patient, hasty = (GridPlan(0.5, (0.0, 0.5), n_max=20_000, tolerance=tolerance) for tolerance in (0.01, 0.5))
    rates = patient.thresholds * np.array([0.97, 0.93])
    assert (powers(patient, rates) > powers(hasty, rates) + 0.05).all()
    assert (hasty.give_up_at <= patient.give_up_at).mean() > 0.95


def test_other_last_bits_give_the_same_design(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another processor or library are a thousand times nearer than these."""
    plans = [GridPlan(0.25, (0.0, 0.25, 0.5), n_max=n) for n in (300, 500, 2000)]
    plans += [GridPlan(1.0, (0.25, 0.8, 1.5, 2.0), n_max=1000), GridPlan(0.5, (0.0, 0.1), alpha=0.01, n_max=3000)]
    want = [made(plan) for plan in plans]
    rng, binomial = np.random.default_rng(0), crossing.binomial

    def noisy(n: int, q: float, low: int, high: int) -> Floats:
        law = binomial(n, q, low, high)
        return np.asarray(law * (1 + 1e-12 * rng.standard_normal(law.size)))

    monkeypatch.setattr(crossing, "binomial", noisy)
    monkeypatch.setattr(design, "binomial", noisy)
    for plan, (most, fewest) in zip(plans, want, strict=True):
        for _ in range(2):
            again = made(plan)
            assert (again[0] == most).all()
            assert (again[1] == fewest).all()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, GridPlan]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = GridPlan(0.5, (0.0, 0.5), n_max=500)
    assert plan.certify_at.max() > 0
    (path,) = (tmp_path / "transmooth" / "designs").iterdir()
    return path, plan


def again(plan: GridPlan) -> GridPlan:
    return GridPlan(plan.sigma, plan.radii, plan.alpha, plan.n_max)


def test_a_kept_design_is_used(kept: tuple[Path, GridPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    _, plan = kept
    monkeypatch.setattr(design, "design", None)
    found = again(plan)
    assert (found.certify_at == plan.certify_at).all()
    assert (found.give_up_at == plan.give_up_at).all()
    assert found.certify_at.dtype == plan.certify_at.dtype
    with pytest.raises(TypeError):  # any other input has a file of its own
        _ = GridPlan(plan.sigma, plan.radii, plan.alpha, plan.n_max, tolerance=0.2).certify_at


def raised(bounds: list[list[int]]) -> list[list[int]]:
    return [[bound + 1 for bound in row] for row in bounds]


def lowered(bounds: list[list[int]]) -> list[list[int]]:
    return [[max(bound - 1, -1) for bound in row] for row in bounds]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("change", [raised, lowered, lambda bounds: bounds[:1], lambda bounds: [[0.5]], lambda _: None])
def test_a_changed_design_is_refused(kept: tuple[Path, GridPlan], change: Any, signed: bool) -> None:
    path, plan = kept
    written = path.read_text()
    content = json.loads(written)
    content["certify_at"] = change(content["certify_at"])
    if signed:  # by somebody who knows how
        content["digest"] = design._digest([content["certify_at"], content["give_up_at"]])
    path.write_text(json.dumps(content))
    found = again(plan)
    if signed and change is lowered:  # nothing is wrong with them: they hold
        assert (found.certify_at <= plan.certify_at).all()
    else:
        assert (found.certify_at == plan.certify_at).all()
        assert path.read_text() == written


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "{}", "\x00"])
def test_a_broken_file_is_made_anew(kept: tuple[Path, GridPlan], content: str) -> None:
    path, plan = kept
    path.write_text(content)
    assert (again(plan).certify_at == plan.certify_at).all()
    assert len(path.read_text()) > 100


def test_a_cache_that_cannot_be_written_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert GridPlan(0.5, (0.5,), n_max=200).certify_at.max() >= 0
