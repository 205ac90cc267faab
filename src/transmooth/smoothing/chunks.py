"""Certify many images, some at a time: rows of records, in the order in which they are finished."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from transmooth.smoothing.engine import Engine
from transmooth.smoothing.methods import METHODS, Settings
from transmooth.smoothing.sampler import Sampler

CHUNK = 16
FULL = 64  # batches; the last one of a chunk is padded, on average half of it


def images_per_chunk(method: str, n: int, batch: int) -> int:
    """As many images as keep the batches full: what a killed run loses is one chunk.

    A fixed n needs few, at n = 100 000 just one. A sequential or adaptive image is soon done: one in twenty takes
    half of the evaluations, and those few must fill the batches of the late looks by themselves.
    """
    if method in ("sequential", "adaptive"):
        return max(CHUNK, batch // 8)
    return min(CHUNK, -(-FULL * batch // n))


def certify_chunks(
    engines: Mapping[float, Engine],
    fetch: Callable[[int], Tensor],
    todo: Sequence[tuple[float, int, int | None]],
    settings: Settings,
) -> Iterator[list[dict[str, Any]]]:
    """Certify (sigma, index, label) triples, grouped by sigma; yield the rows of one chunk of images at a time.

    engines: of each sigma.  todo: labels are None, all of them, where nobody knows them.  Rows have every column of a
    record but `model`, and do not depend on the chunks.
    """
    method = METHODS[settings.method]
    for sigma in dict.fromkeys(sigma for sigma, _, _ in todo):
        engine = engines[sigma]
        size = images_per_chunk(settings.method, settings.n, engine.batch)
        sampler = Sampler(engine, fetch, sigma, settings.seed)
        mine = [(index, label) for at, index, label in todo if at == sigma]
        for first in range(0, len(mine), size):
            indices, labels = zip(*mine[first : first + size], strict=True)
            known = None if None in labels else np.array(labels)
            started = time.perf_counter()
            decisions = method(sampler, np.array(indices), known, sigma, settings)
            seconds = time.perf_counter() - started
            share = decisions.evaluations / decisions.evaluations.sum()
            columns = asdict(decisions) | {"seconds": seconds * share}
            common = {name: getattr(settings, name) for name in ("method", "alpha", "n0", "seed")}
            common |= {"sigma": sigma, "dtype": engine.dtype, "engine": engine.name, "batch": engine.batch}
            values = (column.tolist() for column in columns.values())
            rows = zip(indices, labels, *values, strict=True)
            yield [dict(zip(("index", "label", *columns), row, strict=True)) | common for row in rows]
