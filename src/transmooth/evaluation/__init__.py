"""What looks at a trained run, one file a kind.  The file's name is the registry: an evaluation's `kind` names it.

    run(spec, data, checkpoint, start, out, shard, shards, batch)   one shard of the test images → records, `out`
    finish(spec, data, parts, out)                                  all shards → the records of the evaluation, `out`

data: a prepared dataset; checkpoint: of the run; start: of the run without its last stage, for kinds that compare the
two; shard counts from 0; batch: images in one forward pass where records do not depend on it, None where the job
chooses.  A kind whose `finish` reads images of the data says of which splits, FINISH_READS.
"""

from importlib import import_module
from typing import Any

import numpy as np


def load_evaluation(kind: str) -> Any:
    """Return the module `evaluation/<kind>.py`."""
    return import_module(f"transmooth.evaluation.{kind}")


def test_indices(total: int, images: int | str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the positions of all test images, or `images` evenly spaced ones: the same for every network."""
    count = total if images == "all" else min(int(images), total)
    return np.arange(count, dtype=np.int64) * total // count
