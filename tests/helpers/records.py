"""Rows and tables of records."""

from typing import Any

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
    }
    return made | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    """Rows as a table of records."""
    return pa.Table.from_pylist(list(rows), SCHEMA)
