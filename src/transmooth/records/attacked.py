"""Attack records: what was observed, one row per image, norm and epsilon, from which every number is derived.

    index, label, model, seed, dtype, seconds    as in records of a certification (see records/table.py)
    prediction    class of the image itself, -1 where a smoothed classifier abstains
    norm, epsilon the ball that was searched              steps       of each run
    sigma         of the noise, null without smoothing    restarts    random starts, keyed by (seed, index, restart)
    robust        right, and right after every run        losses      those of the runs from each start
    adversarial   class of the point that was found       batch       images that were attacked together
    distance      of that point, in the norm              evaluations forward passes spent on this row
    loss, restart the run that found it

What a point was not found for is null.  Files are sealed Parquet with metadata, as those of certifications.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transmooth.records import table as records
from transmooth.records.table import RecordError

# Common to both schemas.
HEAD = ("index", "label", "prediction", "seed", "dtype", "model", "seconds")
SCHEMA = pa.schema(
    [
        *(records.SCHEMA.field(name) for name in HEAD),
        ("norm", pa.string()),
        ("epsilon", pa.float64()),
        ("sigma", pa.float64()),
        ("robust", pa.bool_()),
        ("adversarial", pa.int64()),
        ("distance", pa.float64()),
        ("loss", pa.string()),
        ("restart", pa.int64()),
        ("losses", pa.string()),
        ("steps", pa.int64()),
        ("restarts", pa.int64()),
        ("batch", pa.int64()),
        ("evaluations", pa.int64()),
    ]
)
_FOUND = ("adversarial", "distance", "loss", "restart")
_KNOWN = [name for name in SCHEMA.names if name not in (*_FOUND, "sigma", "seconds")]
# A pixel in [0, 1] is rounded by up to 6e-8.
_ROUNDING = 1e-7


def read(path: Path) -> pa.Table:
    """Read one file of records; `.to_pandas()` makes it a DataFrame.

    Raises RecordError if it is none, is damaged, or holds what no attack gives: see `check`.
    """
    table = records.conform(records.unseal(path), SCHEMA, path)
    check(table, path)
    return table


def check(table: pa.Table, path: Path) -> None:
    """Raise RecordError, naming `path`, for rows from which no number should be derived.

    Those are gaps in the columns that every row has, an epsilon that is not positive, a robust image whose own
    prediction is not its label or for which a point was found, a point that is answered with the label, lies beyond
    epsilon or is known in part, an image that is there twice at one norm and epsilon, rows of several models, and
    evaluations and seconds that nothing takes.
    """
    records.check_known(table, _KNOWN, path)
    columns = {name: table[name].to_numpy() for name in ("label", "prediction", "epsilon", "robust")}
    label, prediction, epsilon, robust = columns.values()
    wrong = prediction != label
    found = ~np.stack([table[name].is_null().to_numpy() for name in _FOUND])
    distance = table["distance"].fill_null(0.0).to_numpy()
    adversarial = table["adversarial"].fill_null(-1).to_numpy()
    unsmoothed = table["sigma"].is_null().to_numpy()
    ball = np.isfinite(distance) & (distance >= 0) & (distance <= epsilon * (1 + 1e-5) + _ROUNDING)
    faults = {
        "an epsilon that is finite and > 0": ("epsilon", ~(np.isfinite(epsilon) & (epsilon > 0))),
        "a class >= 0, or -1 for abstained": ("prediction", (prediction < -1) | ((prediction == -1) & unsmoothed)),
        "its label as its prediction, to be robust": ("prediction", robust & wrong),
        "no point, to be robust": ("robust", robust & found[0]),
        "a point, or a wrong prediction, not to be robust": ("robust", ~(robust | wrong | found[0])),
        "class, distance, loss and restart of its point, or none of them": ("loss", found.any(0) & ~found.all(0)),
        "another class than its label at its point": ("adversarial", found[0] & (adversarial == label)),
        "a class >= 0 at its point": ("adversarial", found[0] & (adversarial < 0)),
        "its point within epsilon": ("distance", found[1] & ~ball),
    }
    records.check_faults(table, faults | records.spent_faults(table), path)
    counted = table.group_by(["norm", "epsilon", "index"]).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1)).sort_by("index")
    if len(doubled):
        norm, epsilon = doubled["norm"][0], doubled["epsilon"][0]
        raise RecordError(f"{path}: image {doubled['index'][0]} is there twice at {norm}, epsilon = {epsilon}")
    records.check_one(table, "model", path)


def pictures_hash(pictures: Mapping[int, str]) -> str:
    """Return the SHA-256 of the hashes of all attacked pictures, given by index."""
    return hashlib.sha256(json.dumps(sorted(pictures.items())).encode()).hexdigest()


def from_rows(rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> pa.Table:
    """Rows as a table that says what it was made with."""
    return records.with_metadata(pa.Table.from_pylist(list(rows), SCHEMA), made)


def write(table: pa.Table, path: Path) -> None:
    """Write records, sorted by norm, epsilon and index.  Raises RecordError as `check`."""
    table = table.sort_by([(name, "ascending") for name in ("norm", "epsilon", "index")])
    check(table, path)
    records.seal(table, path)


def complete(table: pa.Table, path: Path, indices: Iterable[int]) -> pa.Table:
    """The table itself.  Raises RecordError, naming `path`, if an image is missing or was not asked for."""
    expected, found = set(indices), set(table["index"].to_pylist())
    if found != expected:
        lost, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise RecordError(f"{path}: images lost: {lost or 'none'}; not asked for: {extra or 'none'}")
    return table


def merge(parts: Sequence[Path], out: Path, indices: Iterable[int]) -> None:
    """Join shards.  Raises RecordError unless they are of one spec, with every image exactly once, and nothing else."""
    table = pa.concat_tables([read(part) for part in parts])
    records.check_one_spec(parts)
    write(complete(table, out, indices), out)
