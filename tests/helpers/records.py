"""Rows and tables of records, and what a log reads as."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from transmooth.records.table import SCHEMA


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
        "stage": None,
        "threshold": None,
    }
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
