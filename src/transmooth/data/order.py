"""Which images are in which batch: a pure function of the step, so a run can stop and go on anywhere."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=1)
def epoch_order(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the n indices in the order of this epoch, read-only."""
    order = np.random.default_rng((seed, epoch)).permutation(n)
    order.flags.writeable = False  # the cache hands out the same array again
    return order


def batch_indices(n: int, batch: int, step: int, seed: int, rank: int = 0, world: int = 1) -> npt.NDArray[np.int64]:
    """This rank's part of the global batch of `step`, which counts over the whole run.

    An epoch is n // batch steps, and the remainder is dropped: each epoch shuffles anew. With n < batch, a batch is
    all n. The parts of ranks 0 to world - 1, one after the other, are the batch that one process would see.
    Raises ValueError for rank outside [0, world), or n or batch below 1.
    """
    if not 0 <= rank < world or min(n, batch) < 1:
        raise ValueError(f"need 0 <= rank < world and n, batch >= 1; got {rank=}, {world=}, {n=}, {batch=}")
    batch = min(batch, n)
    epoch, step = divmod(step, n // batch)
    start = step * batch
    order = epoch_order(n, seed, epoch)
    return order[start + rank * batch // world : start + (rank + 1) * batch // world]
