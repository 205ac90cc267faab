"""Certification records: what was observed, one row per image and sigma, from which every number is derived.

    index        position in the test split              method       how radius follows from the counts
    label        right class                             n0, n        selection and estimation samples
    prediction   certified class, -1 for abstain         top_count    estimation samples of class `selected`
    radius       certified l2 radius, 0 for abstain      alpha        failure probability of this row
    selected     class chosen by the selection samples   evaluations  forward passes spent on this row
    sigma        standard deviation of the noise         seed, dtype  of the noise, of the network
    runner_up    those of the most frequent other class  engine,batch how the network was run: see smoothing/engine.py
    seconds      time spent on this row                  model        SHA-256 of the weights
    stage        of a multi-sigma classifier, from 0     threshold    of this stage

A multi-sigma classifier has a row at each sigma: selected, prediction and radius are the classifier's, equal in all of
its rows; n, top_count and runner_up are of this sigma, 0 where the radius did not need it (see records/multi_sigma.py).
A label that nobody knows, and what an imported log or an older file does not tell, is null.

Files are Parquet; their metadata hold the spec, the versions, the commit and the SHA-256 of the file, without which a
flipped bit would be a wrong number.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transmooth import files

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("label", pa.int64()),
        ("prediction", pa.int64()),
        ("radius", pa.float64()),
        ("selected", pa.int64()),
        ("method", pa.string()),
        ("sigma", pa.float64()),
        ("alpha", pa.float64()),
        ("n0", pa.int64()),
        ("n", pa.int64()),
        ("top_count", pa.int64()),
        ("evaluations", pa.int64()),
        ("seed", pa.int64()),
        ("dtype", pa.string()),
        ("model", pa.string()),
        ("seconds", pa.float64()),
        ("runner_up", pa.int64()),
        ("engine", pa.string()),
        ("batch", pa.int64()),
        ("stage", pa.int64()),
        ("threshold", pa.float64()),
    ]
)
_NEW = ("runner_up", "engine", "batch", "stage", "threshold")  # not in files before 0.2
# The last key of the metadata.  Its value is the SHA-256 of the file with this one in its place.
_SEAL = "transmooth.seal"
_UNSEALED = b"sha256=" + b"0" * 64


class RecordError(ValueError):
    """Records that are damaged, incomplete, doubled or of different models.  The message names the file."""


def read(path: Path) -> pa.Table:
    """Read one file of records; `.to_pandas()` makes it a DataFrame.

    Raises RecordError if it is none, is damaged, or holds what no certification gives: see `check`.
    """
    table = unseal(path)
    for name in _NEW:
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    if missing := set(SCHEMA.names) - set(table.schema.names):
        raise RecordError(f"{path}: not records: the columns {', '.join(sorted(missing))} are missing")
    try:
        records = table.select(SCHEMA.names).cast(SCHEMA.with_metadata(table.schema.metadata))
    except pa.ArrowException as error:
        raise RecordError(f"{path}: not records: a column is of another type: {error}") from None
    check(records, path)
    return records


# What every row has.  The others may be null: an imported log does not tell them.
_KNOWN = ("index", "prediction", "radius", "method", "sigma", "alpha", "n")


def check(table: pa.Table, path: Path) -> None:
    """Raise RecordError, naming `path`, for rows from which no number should be derived.

    Those are gaps in the columns that every row has, a radius that is negative or not finite, an abstention with a
    radius, a class below -1, a sigma that is not positive, an alpha outside (0, 1), an image that is there twice at one
    sigma, and rows of several models.
    """
    for name in _KNOWN:
        if gaps := table[name].null_count:
            raise RecordError(f"{path}: the column {name} should have no gaps, {gaps} of {len(table)} rows have none")
    radius, sigma, alpha, prediction = (table[name].to_numpy() for name in ("radius", "sigma", "alpha", "prediction"))
    faults = {
        "a radius that is finite and >= 0": ("radius", ~(np.isfinite(radius) & (radius >= 0))),
        "a sigma that is finite and > 0": ("sigma", ~(np.isfinite(sigma) & (sigma > 0))),
        "an alpha between 0 and 1": ("alpha", ~((alpha > 0) & (alpha < 1))),
        "a class >= 0, or -1 for abstained": ("prediction", prediction < -1),
        "the radius 0 where it abstained": ("radius", (prediction == -1) & (radius > 0)),
    }
    for wanted, (name, bad) in faults.items():
        if bad.any():
            first = int(bad.argmax())
            raise RecordError(
                f"{path}: image {table['index'][first]} should have {wanted}, found {table[name][first]}; "
                f"so have {int(bad.sum())} of {len(table)} rows"
            )
    counted = table.group_by(["sigma", "index"]).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1)).sort_by("index")
    if len(doubled):
        raise RecordError(f"{path}: image {doubled['index'][0]} is there twice at sigma = {doubled['sigma'][0]}")
    if len(models := table["model"].unique().to_pylist()) > 1:
        raise RecordError(f"{path}: records of {len(models)} models: {', '.join(map(str, models))}")


def unseal(path: Path) -> pa.Table:
    """Read any Parquet file; one with a seal must fit it before anything in it is believed.  Raises RecordError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    *_, seal = (None, *re.finditer(rb"sha256=([0-9a-f]{64})", content))
    if seal and hashlib.sha256(_with(content, seal.start(), _UNSEALED)).hexdigest() != seal[1].decode():
        raise RecordError(
            f"{path}: damaged: it is not what its checksum says; remove it, and the same command redoes it"
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable Parquet file: {error}") from None
    if not seal and _SEAL.encode() in (file.metadata.metadata or {}):
        raise RecordError(f"{path}: damaged: its checksum is not one; remove it, and the same command redoes it")
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != _SEAL.encode()}
    return table.replace_schema_metadata(kept)


def _with(content: bytes, start: int, part: bytes) -> bytes:
    return content[:start] + part + content[start + len(part) :]


def write(table: pa.Table, path: Path) -> None:
    """Write records, sorted by sigma and index.  Raises RecordError as `check`."""
    table = table.sort_by([("sigma", "ascending"), ("index", "ascending")])
    check(table, path)
    seal(table, path)


def seal(table: pa.Table, path: Path) -> None:
    """Write a table with the SHA-256 of its file, whole or not at all."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_SEAL: _UNSEALED.decode()})
    content = sink.getvalue().to_pybytes()
    digest = b"sha256=" + hashlib.sha256(content).hexdigest().encode()
    files.write_bytes(path, _with(content, content.rindex(_UNSEALED), digest))


def metadata(path: Path) -> dict[str, Any]:
    """What the file says it was made with: the spec, the versions, the commit; empty if it does not say.

    Raises RecordError for a file that cannot be read or says it in no JSON object.
    """
    text = (unseal(path).schema.metadata or {}).get(b"transmooth", b"{}")
    try:
        made = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{path}: what it was made with should be JSON: {error}") from None
    if not (isinstance(made, dict) and isinstance(made.get("spec", {}), dict)):
        raise RecordError(f"{path}: what it was made with should be a JSON object with a spec that is one")
    return made


def from_rows(rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> pa.Table:
    """Rows as a table that says what it was made with."""
    return with_metadata(pa.Table.from_pylist(list(rows), SCHEMA), made)


def with_metadata(table: pa.Table, made: Mapping[str, Any]) -> pa.Table:
    """Return the table with what it was made with, for `metadata`."""
    return table.replace_schema_metadata({"transmooth": json.dumps(made, sort_keys=True)})


def merge(parts: Sequence[Path], out: Path, indices: Iterable[int], sigmas: Iterable[float]) -> None:
    """Join shards.

    Raises RecordError unless they are of one spec, with every image exactly once at every sigma, and nothing else.
    """
    tables = [read(part) for part in parts]
    specs = [metadata(part).get("spec") for part in parts]
    if other := next((part for part, spec in zip(parts, specs, strict=True) if spec != specs[0]), None):
        raise RecordError(f"{other}: certified by another spec than {parts[0]}")
    table = pa.concat_tables(tables)
    write(complete(table, out, indices, sigmas), out)


def complete(table: pa.Table, path: Path, indices: Iterable[int], sigmas: Iterable[float]) -> pa.Table:
    """The table itself.  Raises RecordError, naming `path`, if an image is missing at a sigma or was not asked for."""
    expected = set(product(sigmas, indices))
    found = set(zip(table["sigma"].to_pylist(), table["index"].to_pylist(), strict=True))
    if found != expected:
        lost, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise RecordError(f"{path}: (sigma, image) pairs lost: {lost or 'none'}; not asked for: {extra or 'none'}")
    return table
