import numpy as np
import pytest

from transmooth.records import audit
from transmooth.smoothing.bounds import max_radius, radius


def printed(n: int, alpha: float, sigma: float, text: str) -> list[float]:
    """The radii of a run, as its log shows them: many images without a failure, the others spread out."""
    f = np.concatenate([np.zeros(50, int), np.unique(np.geomspace(1, 0.4 * n, 300).astype(int))])
    return [float(format(r, text)) for r in radius(f, n, alpha, sigma)]


@pytest.mark.parametrize("text", [".3", ".4f", ".6f"])
@pytest.mark.parametrize(("n", "alpha"), [(100_000, 0.001), (10_000, 0.001), (1000, 0.01), (500, 0.05)])
@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_audit_finds_the_run(text: str, n: int, alpha: float, sigma: float) -> None:
    verdicts = audit.audit(printed(n, alpha, sigma, text), sigma)
    best = verdicts.iloc[0]
    assert (best["alpha"], best["n"], best["verdict"]) == (alpha, n, "saturates")
    assert best["at_top"] == 50
    assert best["saturated"] == max_radius(n, alpha, sigma)
    smaller = verdicts[verdicts["saturated"] < best["saturated"] * 0.99]
    assert len(smaller)
    assert (smaller["verdict"] == "exceeded").all()
    assert (smaller["above"] >= 50).all()


def test_audit_sees_a_radius_between_attainable_ones() -> None:
    radii = printed(1000, 0.001, 0.5, ".6f")
    between = float(radius([0, 1], 1000, 0.001, 0.5).mean().round(6))
    verdicts = audit.audit([*radii, between], 0.5).set_index(["alpha", "n"])
    assert verdicts.loc[(0.001, 1000), "verdict"] == "unattainable"
    assert verdicts.loc[(0.001, 1000), "unattainable"] == 1


def test_audit_without_sigma_and_without_radii() -> None:
    best = audit.audit(printed(10_000, 0.001, 0.5, ".6f")).iloc[0]
    assert (best["alpha"], best["n"], best["sigma"]) == (0.001, 10_000, 0.5)
    with pytest.raises(ValueError, match="none of them positive"):
        audit.audit([0.0, 0.0])
