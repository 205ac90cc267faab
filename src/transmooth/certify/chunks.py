"""Certify many images, some at a time: rows of records, in the order in which they are finished."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor, nn

from transmooth.certify import cohen
from transmooth.certify.sampler import Sampler

# As many images together as fill the batches; the smaller, the less a killed run loses.
CHUNK = 16


def certify_chunks(
    model: nn.Module,
    fetch: Callable[[int], Tensor],
    todo: Sequence[tuple[float, int, int]],
    spec: dict[str, Any],
    batch: int,
) -> Iterator[list[dict[str, Any]]]:
    """Certify (sigma, index, label) triples, grouped by sigma; yield the rows of up to CHUNK images at a time.

    spec: `method`, `n0`, `n`, `alpha`, `seed`, `dtype`.  Rows have every column of a record but `model`.
    """
    for sigma in dict.fromkeys(sigma for sigma, _, _ in todo):
        sampler = Sampler(model, fetch, sigma, seed=spec["seed"], batch=batch, dtype=spec["dtype"])
        mine = [(index, label) for at, index, label in todo if at == sigma]
        for first in range(0, len(mine), CHUNK):
            indices, labels = (np.array(column) for column in zip(*mine[first : first + CHUNK], strict=True))
            started = time.perf_counter()
            decisions = cohen.certify(sampler, indices, sigma=sigma, n0=spec["n0"], n=spec["n"], alpha=spec["alpha"])
            seconds = time.perf_counter() - started
            share = decisions.evaluations / decisions.evaluations.sum()
            columns = {"index": indices, "label": labels, **asdict(decisions), "seconds": seconds * share}
            common = {name: spec[name] for name in ("method", "alpha", "n0", "seed", "dtype")} | {"sigma": sigma}
            values = (column.tolist() for column in columns.values())
            yield [dict(zip(columns, row, strict=True)) | common for row in zip(*values, strict=True)]
