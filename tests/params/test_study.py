import pytest
from hypothesis import given
from hypothesis import strategies as st

from transmooth.params.study import CertifyParams, Schedule


@given(st.floats(1e-6, 0.49), st.integers(1, 200))
def test_n_is_accepted_exactly_when_it_can_certify(alpha: float, n: int) -> None:
    content = {"n0": 10, "n": n, "alpha": alpha, "images": 1}
    if alpha ** (1 / n) > 0.5:
        assert CertifyParams.model_validate(content).n == n
    else:
        with pytest.raises(ValueError, match="can never certify"):
            CertifyParams.model_validate(content)


def test_a_two_sided_bound_needs_more_samples() -> None:
    content = {"n0": 10, "n": 10, "alpha": 0.0012}
    assert CertifyParams.model_validate(content).n == 10
    with pytest.raises(ValueError, match=r"10 samples can never certify at alpha = 0\.0012"):
        CertifyParams.model_validate(content | {"method": "cohen_two_sided"})


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_warm_up_ends_before_the_training_does(epochs: int, warmup: int) -> None:
    content = {"epochs": epochs, "warmup_epochs": warmup, "batch": 8, "lr": [0.1], "weight_decay": 0.0}
    if warmup < epochs or epochs == warmup == 0:
        assert Schedule.model_validate(content).warmup_epochs == warmup
    else:
        with pytest.raises(ValueError, match="should be below epochs"):
            Schedule.model_validate(content)


@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 9))
def test_a_batch_divides_into_processes_and_steps(batch: int, processes: int, accumulate: int) -> None:
    content = {"epochs": 1, "warmup_epochs": 0, "batch": batch, "lr": [0.1], "weight_decay": 0.0}
    content |= {"processes": processes, "accumulate": accumulate}
    if batch % (processes * accumulate) == 0:
        assert Schedule.model_validate(content).batch == batch
    else:
        with pytest.raises(ValueError, match="should be a multiple of processes x accumulate"):
            Schedule.model_validate(content)


def test_only_the_sequential_method_has_a_tolerance() -> None:
    content = {"n0": 10, "n": 100, "alpha": 0.001, "tolerance": 0.2}
    with pytest.raises(ValueError, match=r"tolerance: only for method sequential, found 0.2 with cohen"):
        CertifyParams.model_validate(content)
    assert CertifyParams.model_validate(content | {"method": "sequential", "radii": [0.5]}).tolerance == 0.2
