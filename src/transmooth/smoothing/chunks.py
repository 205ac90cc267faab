"""Certify many images, some at a time: rows of records, in the order in which they are finished."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from transmooth.smoothing.engine import Engine
from transmooth.smoothing.methods import Settings, decide
from transmooth.smoothing.multi_sigma import looks
from transmooth.smoothing.sampler import Sampler

CHUNK = 16
FULL = 64  # batches; the last one of a chunk is padded, on average half of it


def images_per_chunk(settings: Settings, batch: int) -> int:
    """As many images as keep the batches full: what a killed run loses is one chunk.

    A fixed n needs few, at n = 100 000 just one. An image that may end early is soon done: one in twenty takes
    half of the evaluations, and those few must fill the batches of the late looks by themselves.
    """
    if settings.early:
        return max(CHUNK, batch // 8)
    return min(CHUNK, -(-FULL * batch // settings.n))


def certify_chunks(
    engines: Mapping[float, Engine],
    fetch: Callable[[int], Tensor],
    todo: Sequence[tuple[float, int, int | None]],
    settings: Settings,
) -> Iterator[list[dict[str, Any]]]:
    """Certify (sigma, index, label) triples, grouped by sigma; yield the rows of one chunk of images at a time.

    engines: of each sigma.  todo: labels are all None where they are unknown.  Rows have every column of a
    record but `model`, and do not depend on the chunks.  A classifier of several sigmas has a row at each of them, of
    each image that is there at any.
    """
    for sigmas in settings.together(dict.fromkeys(sigma for sigma, _, _ in todo)):
        size = images_per_chunk(settings, engines[sigmas[0]].batch)
        samplers = [Sampler(engines[sigma], fetch, sigma, settings.seed) for sigma in sigmas]
        mine = list(dict.fromkeys((index, label) for at, index, label in todo if at in sigmas))
        for first in range(0, len(mine), size):
            indices, labels = zip(*mine[first : first + size], strict=True)
            known = None if None in labels else np.array(labels)
            started = time.perf_counter()
            decided = decide(samplers, np.array(indices), known, sigmas, settings)
            seconds = (time.perf_counter() - started) / sum(decisions.evaluations.sum() for decisions in decided)
            made = list[dict[str, Any]]()
            for stage, (sigma, decisions) in enumerate(zip(sigmas, decided, strict=True)):
                columns = asdict(decisions) | {"seconds": seconds * decisions.evaluations}
                common = {name: getattr(settings, name) for name in ("method", "alpha", "n0", "seed")}
                engine = engines[sigma]
                common |= {"sigma": sigma, "dtype": engine.dtype, "engine": engine.name, "batch": engine.batch}
                if settings.stages is not None:
                    common |= {"stage": stage, "threshold": settings.stages[stage][1]}
                    common |= {"looks": len(looks(settings.n, settings.radii))}
                values = (column.tolist() for column in columns.values())
                rows = zip(indices, labels, *values, strict=True)
                made += [dict(zip(("index", "label", *columns), row, strict=True)) | common for row in rows]
            yield made
