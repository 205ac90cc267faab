from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from torch import Tensor

from tests.helpers.smoothing import Linear, coins, eager, image, sampler_of
from tests.helpers.specs import certify_spec
from transmooth.params.messages import ParamsError, validate
from transmooth.params.study import CertifyParams
from transmooth.params.values import Method, MultiSigma
from transmooth.smoothing import chunks, cohen
from transmooth.smoothing.bounds import two_sided_radius
from transmooth.smoothing.chunks import certify_chunks, images_per_chunk
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.methods import METHODS, Settings, check
from transmooth.smoothing.multi_sigma import RULES

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)


def asked_for(method: Method, n: int = 20_000) -> Settings:
    return Settings(method, n0=100, n=n, alpha=0.001, radii=RADII if method == "sequential" else None, seed=1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_certifies_up_to_the_exact_radius_and_close_to_it(method: Method) -> None:
    sigma, exact = 0.5, np.linspace(0.3, 1.5, 60)  # 100 votes select the right class
    counts = coins(*([q, 1 - q] for q in ndtr(-exact / sigma)))
    decisions = METHODS[method](counts, np.arange(60), None, sigma, asked_for(method, n=100_000))
    assert (decisions.radius <= exact).all()  # fails with probability 60 alpha at most; the seed is fixed
    assert (decisions.prediction[decisions.radius > 0] == 1).all()
    reachable = np.array(RADII)[np.searchsorted(RADII, exact - 0.06, side="right") - 1]
    assert (decisions.radius >= (reachable if method == "sequential" else 0.9 * exact - 0.05)).all()
    assert (decisions.evaluations <= 100 + 1000 + 100_000).all()
    if method in ("sequential", "adaptive"):
        assert decisions.evaluations.mean() < 0.75 * 100_100


def test_two_sided_names_its_own_bound_and_pays_without_a_majority() -> None:
    counts, asked = coins([0.45, 0.3, 0.25], [0.99, 0.01, 0.0]), asked_for("cohen_two_sided")
    decisions = METHODS["cohen_two_sided"](counts, np.arange(2), None, 0.5, asked)
    seen = counts(ESTIMATION, np.arange(2), np.zeros(2, int), np.full(2, 20_000))
    assert decisions.radius.tolist() == two_sided_radius(seen, decisions.selected, 0.001, 0.5).tolist()
    assert decisions.top_count.tolist() == [seen[0, 0], seen[1, 0]]
    one_sided = METHODS["cohen"](counts, np.arange(2), None, 0.5, asked_for("cohen"))
    assert one_sided.radius[0] == 0 < decisions.radius[0]
    assert one_sided.radius[1] > decisions.radius[1] > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_class_stops_the_methods_that_may_stop(method: Method) -> None:
    counts = coins([0.9, 0.1], [0.9, 0.1])
    decisions = METHODS[method](counts, np.arange(2), np.array([0, 1]), 0.5, asked_for(method))
    assert decisions.selected.tolist() == [0, 0]
    assert decisions.n[0] > 0
    if method in ("sequential", "adaptive"):
        assert (decisions.n[1], decisions.prediction[1], decisions.evaluations[1]) == (0, -1, 100)
    else:
        assert (decisions.n[1], decisions.prediction[1]) == (20_000, 0)


def rows(asked: Settings, batch: int, labels: bool = True) -> list[dict[str, Any]]:
    def fetch(index: int) -> Tensor:
        return image(index)

    engine = eager(Linear(-0.5).eval(), torch.stack([image(0), image(1)]), batch=batch)
    todo = [(0.5, index, index % 2 if labels else None) for index in range(40)]
    found = [
        row
        for chunk in certify_chunks(dict.fromkeys((sigma for sigma, _, _ in todo), engine), fetch, todo, asked)
        for row in chunk
    ]
    return [{key: value for key, value in row.items() if key not in ("seconds", "batch")} for row in found]


@pytest.mark.parametrize("method", METHODS)
def test_records_do_not_depend_on_chunks(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_for(method, n=1500)
    whole = rows(asked, 256)
    assert [row["index"] for row in whole] == list(range(40))
    assert len({row["radius"] for row in whole}) > 2
    monkeypatch.setattr(chunks, "images_per_chunk", lambda settings, batch: 7)
    assert rows(asked, 100) == whole


@pytest.mark.parametrize("radii", [None, (0.0, 0.1, 0.2, 0.4)])
@pytest.mark.parametrize("method", RULES)
def test_records_of_several_sigmas_do_not_depend_on_chunks(
    method: MultiSigma, radii: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_several(batch: int) -> list[dict[str, Any]]:
        engine = eager(Linear(-0.5).eval(), torch.stack([image(0), image(1)]), batch=batch)
        asked = Settings(method, 20, 300, 0.01, radii, seed=1, stages=((0.5, 0.1), (0.25, 0.0)))
        todo = [(0.5, index, index % 2) for index in range(20)]
        chunks_of = certify_chunks({0.5: engine, 0.25: engine}, image, todo, asked)
        made = [row for chunk in chunks_of for row in chunk]
        return sorted(
            ({key: value for key, value in row.items() if key not in ("seconds", "batch")} for row in made),
            key=lambda row: (row["stage"], row["index"]),
        )

    whole = of_several(256)
    assert [(row["stage"], row["sigma"], row["threshold"], row["index"]) for row in whole] == [
        *((0, 0.5, 0.1, index) for index in range(20)),
        *((1, 0.25, 0.0, index) for index in range(20)),
    ]
    assert [row["radius"] for row in whole[:20]] == [row["radius"] for row in whole[20:]]
    assert len({row["radius"] for row in whole}) > 2
    assert {row["looks"] for row in whole} == {1 if radii is None else 2}
    monkeypatch.setattr(chunks, "images_per_chunk", lambda settings, batch: 7)
    assert of_several(100) == whole


def test_the_rows_of_cohen_are_what_cohen_decides() -> None:
    decisions = cohen.certify(
        sampler_of(Linear(-0.5).eval(), image, 0.5, seed=1), np.arange(40), sigma=0.5, n0=100, n=1500, alpha=0.001
    )
    found = rows(asked_for("cohen", n=1500), 256, labels=False)
    assert [row["radius"] for row in found] == decisions.radius.tolist()
    assert [row["top_count"] for row in found] == decisions.top_count.tolist()
    assert {row["label"] for row in found} == {None}
    assert {(row["method"], row["sigma"], row["alpha"], row["n0"]) for row in found} == {("cohen", 0.5, 0.001, 100)}


@pytest.mark.parametrize("method", METHODS)
def test_the_runner_up_is_the_most_frequent_other_class(method: Method) -> None:
    def counts(stream: int, images: np.ndarray, start: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Classes 1, 3, 0 with 90, 7 and 3 % of the samples, as exactly as integers can."""
        until = [[(stop * share) // 100 for share in (3, 90, 0, 7)] for stop in (start + n).tolist()]
        before = [[(stop * share) // 100 for share in (3, 90, 0, 7)] for stop in start.tolist()]
        table = np.array(until) - np.array(before)
        table[:, 1] += n - table.sum(1)
        return table

    got = METHODS[method](counts, np.arange(2), None, 0.5, asked_for(method))
    assert (got.n > 0).all()
    assert got.runner_up.tolist() == [n * 7 // 100 for n in got.n.tolist()]


def test_who_tolerates_more_takes_fewer_samples() -> None:
    counts, images = coins(*[[p, 1 - p] for p in np.linspace(0.5, 1, 60).tolist()]), np.arange(60)
    taken = [
        METHODS["sequential"](counts, images, None, 0.5, replace(asked_for("sequential"), tolerance=tolerance)).n.sum()
        for tolerance in (0.05, None, 0.2, 1.0)
    ]
    assert taken == sorted(taken, reverse=True)
    assert taken[-1] < taken[0]


def test_a_chunk_fills_batches_and_a_killed_run_loses_little() -> None:
    assert images_per_chunk(asked_for("cohen", n=100_000), 256) == 1
    assert images_per_chunk(asked_for("cohen", n=500), 256) == 16
    assert images_per_chunk(asked_for("sequential", n=100_000), 256) == 32
    assert images_per_chunk(asked_for("sequential", n=100_000), 2048) == 256
    assert images_per_chunk(asked_for("adaptive", n=100_000), 256) == 32
    several = Settings("cascade", 20, 100_000, 0.01, stages=((0.5, 0.0), (0.25, 0.0)))
    assert images_per_chunk(several, 256) == 1
    assert images_per_chunk(replace(several, radii=(0.0, 0.5)), 256) == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "unknown method 'bayes'; there are cohen, .*, adaptive, cascade, margin"),
        (
            {"method": "margin"},
            "cascade, margin, multiscale, dual_rs, and no other method, take several sigmas; got margin with None",
        ),
        (
            {"stages": ((0.5, 0.0),)},
            "cascade, margin, multiscale, dual_rs, and no other method, take several sigmas; got cohen with",
        ),
        ({"n": 9}, "n = 9 samples can never certify at alpha = 0.001: cohen needs at least 10"),
        ({"method": "cohen_two_sided", "n": 10}, "cohen_two_sided needs at least 11"),
        ({"n0": 0}, "n0 .* at least 1, got 0"),
        ({"alpha": 1.0}, "alpha must be strictly between 0 and 1"),
        ({"radii": [0.5]}, "sequential, and no other method at one sigma, takes a grid of radii; got cohen"),
        ({"method": "sequential"}, "got sequential with radii None"),
        ({"tolerance": 0.2}, "sequential, and no other method, takes a tolerance; got cohen"),
        ({"method": "sequential", "radii": [0.5], "tolerance": -1.0}, "tolerance .* must be positive"),
        ({"method": "sequential", "radii": [0.5, 0.25]}, "increasing order"),
        (
            {"method": "sequential", "radii": [1.0], "n": 50},
            r"certify at most 0.5\d+ at sigma = 0.5; radii start at 1.0",
        ),
    ],
)
def test_what_could_never_certify_is_refused(changes: dict[str, Any], message: str) -> None:
    check(asked_for("cohen"), 0.5)
    with pytest.raises(ValueError, match=message):
        check(replace(asked_for("cohen"), **changes), 0.5)
    with pytest.raises(ValueError, match="sigma must be a positive"):
        check(asked_for("cohen"), 0.0)


@given(st.sampled_from(list(METHODS)), st.booleans())
def test_a_study_names_radii_for_the_sequential_method_and_only_there(method: Method, radii: bool) -> None:
    content: dict[str, Any] = {"method": method, "n0": 10, "n": 1000, "alpha": 0.001, "images": 1}
    content |= {"radii": list(RADII)} if radii else {}
    if radii == (method == "sequential"):
        params = validate(CertifyParams, content, "params/any.yaml")
        assert (params.method, params.radii) == (method, RADII if radii else None)
        # No null in a spec: those of the other methods stay as they were.
        dumped = certify_spec(method=method, radii=params.radii).dump()
        assert dumped.get("radii") == (list(RADII) if radii else None)
        assert ("radii" in dumped) == radii
    else:
        with pytest.raises(ParamsError, match=r"params/any.yaml: radii: (missing|only for method sequential)"):
            validate(CertifyParams, content, "params/any.yaml")
