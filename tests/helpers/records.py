"""Rows and tables of records, and what a log reads as."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from transmooth.records.table import SCHEMA
from transmooth.smoothing.multi_sigma import Stages


def row(index: int, sigma: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A row that is right, with a radius of its own."""
    made = {
        "index": index,
        "label": 3,
        "prediction": 3,
        "radius": 0.1 + index / 3,
        "selected": 3,
        "method": "cohen",
        "sigma": sigma,
        "alpha": 0.001,
        "n0": 100,
        "n": 1000,
        "top_count": 900,
        "evaluations": 1100,
        "seed": 0,
        "dtype": "fp32",
        "model": "abc",
        "seconds": 0.5,
        "runner_up": 60,
        "engine": "eager",
        "batch": 256,
        "file": "a/0.png",
        "picture": f"{index:032x}",
        "region": None,
        "smoothed_radius": None,
        "allocation": None,
        "stage": None,
        "threshold": None,
        "looks": None,
    }
    if "top_count" not in changes and changes.get("n") is not None:
        made["top_count"] = min(900, changes["n"])
    return made | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    """Rows as a table of records."""
    return pa.Table.from_pylist(list(rows), SCHEMA)


def frame(radii: list[float], right: list[bool] | None = None) -> pd.DataFrame:
    """A log of images of class 1 with these radii; `right`: which of them are classified so, else all."""
    n = len(radii)
    prediction = np.where(np.ones(n, bool) if right is None else right, 1, 0)
    columns = {"index": range(n), "label": 1, "prediction": prediction, "radius": radii, "seconds": 0.5}
    return pd.DataFrame(columns).assign(correct=prediction == 1)


def attacked_row(index: int, **changes: Any) -> dict[str, Any]:
    """A row of an attack that left its image right."""
    made = {
        "index": index,
        "label": 3,
        "prediction": 3,
        "seed": 0,
        "dtype": "fp32",
        "model": "abc",
        "seconds": 0.5,
        "norm": "l2",
        "epsilon": 0.5,
        "sigma": None,
        "robust": True,
        "adversarial": None,
        "distance": None,
        "loss": None,
        "restart": None,
        "losses": "cross_entropy, margin",
        "steps": 20,
        "restarts": 1,
        "batch": 250,
        "evaluations": 45,
    }
    return made | changes


def multi_sigma_rows(images: int, thresholds: tuple[float, float] = (0.1, 0.0), **changes: Any) -> list[dict[str, Any]]:
    """Rows of a cascade of two sigmas, image by image, with the radii of their counts: the first image abstains.

    changes: of all rows; a `label` other than 3 makes them wrong.
    """
    made, sigmas = list[dict[str, Any]](), (1.0, 0.5)
    for index in range(images):
        top, second = np.array([[450 + 60 * index, 500 + 60 * index]]).clip(0, 1000), np.array([[30, 20]])
        second = np.minimum(second, 1000 - top)
        radius = float(Stages("cascade", sigmas, thresholds).radius(top, second, np.full((1, 2), 1000), 0.001)[0])
        for stage, sigma in enumerate(sigmas):
            counts = {"top_count": int(top[0, stage]), "runner_up": int(second[0, stage])}
            answer = {"radius": radius, "prediction": 3 if radius > 0 else -1, "method": "cascade"}
            made.append(
                row(index, sigma, stage=stage, threshold=thresholds[stage], **{"looks": 1} | counts | answer | changes)
            )
    return made
