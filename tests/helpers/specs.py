"""Specs of small jobs."""

from typing import Any

from tests.conftest import NETWORK
from transmooth.specs import AttackSpec, CertifySpec, MultiSigmaSpec, ScheduleSpec, TrainSpec

# A sum in another order differs in its last bits, and training multiplies that: compare after few steps.
FEW_STEPS: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "batch": 512, "optimizer": "sgd", "lr": [0.01]}


def train_spec(**changes: Any) -> TrainSpec:
    """A short clean training of a small network.  changes: of the spec, or of its schedule."""
    schedule = {
        "epochs": 3,
        "warmup_epochs": 1,
        "batch": 64,
        "lr": [0.003],
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "precision": "fp32",
        "accumulate": 1,
        "processes": 1,
    }
    made = {
        "seed": 0,
        "network": NETWORK.dump(),
        "objective": "cross_entropy",
        "options": {},
        "sigmas": [0.0],
        "noise": "uniform",
        "views": 1,
        "trainable": "all",
        "augment": [],
    }
    schedule |= {key: changes.pop(key) for key in ScheduleSpec.model_fields if key in changes}
    return TrainSpec.of(made | {"schedule": schedule} | changes)


def certify_spec(**changes: Any) -> CertifySpec:
    """A short certification of 45 images at two sigmas."""
    made = {
        "sigmas": [0.25, 1.0],
        "images": 45,
        "method": "cohen",
        "n0": 20,
        "n": 130,
        "alpha": 0.01,
        "seed": 4,
        "dtype": "fp32",
    }
    return CertifySpec.of(made | changes)


def attack_spec(**changes: Any) -> AttackSpec:
    """A short attack of 45 images, in batches of 8."""
    made = {
        "norm": "l2",
        "epsilon": 0.6,
        "steps": 6,
        "losses": ["cross_entropy", "margin"],
        "restarts": 2,
        "images": 45,
        "batch": 8,
        "seed": 4,
    }
    return AttackSpec.of(made | changes)


def multi_sigma_spec(**changes: Any) -> MultiSigmaSpec:
    """A short certification of a cascade of two sigmas, of 45 images."""
    made: dict[str, Any] = {"method": "cascade", "sigmas": [1.0, 0.25], "thresholds": [0.05, 0.0], "images": 45}
    made |= {"n0": 20, "n": 130, "alpha": 0.01, "seed": 4, "dtype": "fp32"}
    return MultiSigmaSpec.of(made | changes)
