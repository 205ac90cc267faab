"""Certification records: what was observed, one row per image and sigma, from which every number is derived.

    index        position in the test split              method       how radius follows from the counts
    label        right class                             n0, n        selection and estimation samples
    prediction   certified class, -1 for abstain         top_count    estimation samples of class `selected`
    radius       certified l2 radius, 0 for abstain      alpha        failure probability of this row
    selected     class chosen by the selection samples   evaluations  forward passes spent on this row
    sigma        standard deviation of the noise         seed, dtype  of the noise, of the network
    runner_up    those of the most frequent other class  engine,batch how the network was run: see smoothing/engine.py
    seconds      time spent on this row                  model        SHA-256 of the weights
    file         of the picture, below its folder        picture      hash of its pixels: see loading/images.py
    region       radius of the ball around the image that has this sigma alone (see smoothing/regions.py)
    smoothed_radius   what is certified at this sigma, of which `radius` is what the region leaves
    allocation   SHA-256 of all regions, which names the classifier
    stage        of a multi-sigma classifier, from 0     threshold    of this stage
    looks        that a stage had to end at, 1 where n was fixed

Region, smoothed_radius and allocation are of transductive evaluations, `samplewise` and `lookup`, and null in all
others.  A lookup adds no
noise and takes no samples: its method is `lookup`, its sigma, alpha and smoothed_radius are null.

A multi-sigma classifier has a row at each sigma: selected, prediction and radius are the classifier's, equal in all of
its rows; n, top_count and runner_up are of this sigma, 0 where the radius did not need it (see records/multi_sigma.py).
A label that nobody knows, and what an imported log or an older file does not tell, is null.

Files are Parquet; their metadata hold the spec, the versions, the commit and the SHA-256 of the file, without which a
flipped bit would be a wrong number.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from transmooth import files
from transmooth.params.messages import ParamsError, validate
from transmooth.smoothing.bounds import within

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
        ("file", pa.string()),
        ("picture", pa.string()),
        ("region", pa.float64()),
        ("smoothed_radius", pa.float64()),
        ("allocation", pa.string()),
        ("stage", pa.int64()),
        ("threshold", pa.float64()),
        ("looks", pa.int64()),
    ]
)
# Not in older files.
_NEW = (
    *("runner_up", "engine", "batch", "file", "picture"),
    *("region", "smoothed_radius", "allocation", "stage", "threshold", "looks"),
)
MOST, LONGEST = 10**15, 10**10  # evaluations of an image, and the seconds that they take
LOOKUP = "lookup"  # the method of records that no noise certified
# The last key of the metadata.  Its value is the SHA-256 of the file with this one in its place.
_SEAL = "transmooth.seal"
_UNSEALED = b"sha256=" + b"0" * 64


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Settings(_Told):
    n: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    radii: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    images: Annotated[int, Field(ge=0)] | Literal["all"] | None = None
    run: dict[str, Any] | None = None


class _Model(_Told):
    model: str | None = None


class _Data(_Told):
    classes: list[str] = []
    images: str | None = None
    split: str | None = None
    checksum: str | None = None


class _Made(_Told):
    """What a file says it was made with, as far as anything reads it."""

    spec: _Settings = _Settings()
    model: _Model | str | None = None  # of a shift it is the hash alone
    data: _Data | None = None
    versions: dict[str, str] = {}
    commit: str | None = None
    notes: list[str] = []


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
    records = conform(table, SCHEMA, path)
    check(records, path)
    return records


def conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Return the columns of a schema.  Raises RecordError where one is missing or of another type."""
    if missing := set(schema.names) - set(table.schema.names):
        raise RecordError(f"{path}: not records: the columns {', '.join(sorted(missing))} are missing")
    try:
        return table.select(schema.names).cast(schema.with_metadata(table.schema.metadata))
    except pa.ArrowException as error:
        raise RecordError(f"{path}: not records: a column is of another type: {error}") from None


# What every row has.  The others may be null: an imported log does not tell them.
_KNOWN = ("index", "prediction", "radius", "method", "sigma", "alpha", "n")
_OF_NOISE = ("sigma", "alpha")  # which a lookup has not


def check(table: pa.Table, path: Path) -> None:
    """Raise RecordError, naming `path`, for rows from which no number should be derived.

    Those are gaps in the columns that every row has, a radius that is negative, not finite or above 40 sigma, an
    abstention with a radius, a class below -1, a sigma that is not positive, an alpha outside (0, 1), an image that is
    there twice at one sigma, rows of several models or allocations, a radius that is not what its region leaves, and
    counts and seconds that nothing takes.
    """
    noisy = pc.fill_null(pc.not_equal(table["method"], LOOKUP), True).to_numpy()
    check_known(table, [name for name in _KNOWN if name not in _OF_NOISE], path)
    check_known(table.filter(pa.array(noisy)), _OF_NOISE, path)
    radius, sigma, alpha, prediction = (table[name].to_numpy() for name in ("radius", "sigma", "alpha", "prediction"))
    region, smoothed = (table[name].to_numpy() for name in ("region", "smoothed_radius"))
    n, top = (table[name].to_numpy() for name in ("n", "top_count"))
    left = within(np.where(np.isnan(smoothed), np.inf, smoothed), region)
    faults = {
        "a radius that is finite and >= 0": ("radius", ~(np.isfinite(radius) & (radius >= 0))),
        "a sigma that is finite and > 0": ("sigma", noisy & ~(np.isfinite(sigma) & (sigma > 0))),
        "an alpha between 0 and 1": ("alpha", noisy & ~((alpha > 0) & (alpha < 1))),
        "a class >= 0, or -1 for abstained": ("prediction", prediction < -1),
        # Φ⁻¹ of no probability that doubles hold is above 38.5.
        "a radius below 40 sigma": ("radius", radius > 40 * sigma),
        "the radius 0 where it abstained": ("radius", (prediction == -1) & (radius > 0)),
        "the radius that its region leaves of smoothed_radius": (
            "radius",
            ~np.isnan(region) & (prediction >= 0) & (radius != left),
        ),
        "abstained where its region leaves nothing": ("prediction", (left == 0) & (prediction >= 0)),
        f"n between 0 and {MOST:.0e}": ("n", (n < 0) | (n > MOST)),
        "a top_count between 0 and n": ("top_count", (top < 0) | (top > n)),
    }
    check_faults(table, faults | spent_faults(table), path)
    counted = table.group_by(["sigma", "index"]).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1)).sort_by("index")
    if len(doubled):
        raise RecordError(f"{path}: image {doubled['index'][0]} is there twice at sigma = {doubled['sigma'][0]}")
    check_one(table, "model", path)
    check_one(table, "allocation", path)


def check_known(table: pa.Table, names: Iterable[str], path: Path) -> None:
    """Raise RecordError for a gap in one of these columns."""
    for name in names:
        if gaps := table[name].null_count:
            raise RecordError(f"{path}: the column {name} should have no gaps, {gaps} of {len(table)} rows have none")


def spent_faults(table: pa.Table) -> dict[str, tuple[str, npt.NDArray[np.bool_]]]:
    """What no image takes, for `check_faults`; what is not known (null) is none."""
    most = {"evaluations": MOST, "seconds": LONGEST}
    columns = {name: table[name].to_numpy() for name in most}
    return {
        f"{name} between 0 and {most[name]:.0e}": (name, (values < 0) | (values > most[name]))
        for name, values in columns.items()
    }


def check_faults(table: pa.Table, faults: Mapping[str, tuple[str, npt.NDArray[np.bool_]]], path: Path) -> None:
    """Raise RecordError for the first of the faults that some rows have: what is wanted → the column, which rows."""
    for wanted, (name, bad) in faults.items():
        if bad.any():
            first = int(bad.argmax())
            raise RecordError(
                f"{path}: image {table['index'][first]} should have {wanted}, found {table[name][first]}; "
                f"so have {int(bad.sum())} of {len(table)} rows"
            )


def check_one(table: pa.Table, name: str, path: Path) -> None:
    """Raise RecordError for rows of several values in a column, such as model."""
    if len(found := table[name].unique().to_pylist()) > 1:
        raise RecordError(f"{path}: records of {len(found)} {name}s: {', '.join(map(str, found))}")


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
        table = file.read(use_threads=False)  # a thread that ends last, our bytes in its hands, aborts the process
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]  # Arrow's may have several lines, of bytes
        raise RecordError(f"{path}: not a readable Parquet file: {reason}") from None
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

    Raises RecordError for a file that cannot be read, or says it in no JSON object, or in values of other kinds.
    """
    text = (unseal(path).schema.metadata or {}).get(b"transmooth", b"{}")
    try:
        made: dict[str, Any] = json.loads(text)
        validate(_Made, made, f"{path}: what it was made with")
    except ParamsError as error:
        raise RecordError(str(error).split("\n")[0]) from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: what it was made with should be JSON: {error}") from None
    return made


def from_rows(rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> pa.Table:
    """Rows as a table that says what it was made with."""
    return with_metadata(pa.Table.from_pylist(list(rows), SCHEMA), made)


def with_metadata(table: pa.Table, made: Mapping[str, Any]) -> pa.Table:
    """Return the table with what it was made with, for `metadata`."""
    return table.replace_schema_metadata({"transmooth": json.dumps(made, sort_keys=True)})


def with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """Return records with these columns in the place of their own."""
    for name, values in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), name, pa.array(values, SCHEMA.field(name).type))
    return table


def merge(parts: Sequence[Path], out: Path, indices: Iterable[int], sigmas: Iterable[float]) -> None:
    """Join shards.  Raises RecordError as `joined`."""
    write(joined(parts, out, indices, sigmas), out)


def joined(parts: Sequence[Path], out: Path, indices: Iterable[int], sigmas: Iterable[float] | None) -> pa.Table:
    """Return the records of shards of `out`, with what the first one was made with.

    Raises RecordError unless they are of one spec, with every image exactly once at every sigma, or once where sigmas
    is None, and nothing else.
    """
    table = pa.concat_tables([read(part) for part in parts])
    check_one_spec(parts)
    return complete(table, out, indices, sigmas)


def check_one_spec(parts: Sequence[Path]) -> None:
    """Raise RecordError, naming the first other one, unless all files are of the same spec."""
    specs = [metadata(part).get("spec") for part in parts]
    if other := next((part for part, spec in zip(parts, specs, strict=True) if spec != specs[0]), None):
        raise RecordError(f"{other}: made by another spec than {parts[0]}")


def join(parts: Sequence[Path], out: Path) -> None:
    """Join records of one network, certified alike, at other sigmas or of other images of one set.

    Raises RecordError where they differ in model, settings, classes or what they have twice.
    """
    tables = [read(part) for part in parts]
    made = [metadata(part) for part in parts]
    kept = [_alike(each) for each in made]
    for part, each in zip(parts, kept, strict=True):
        if differing := [key for key in each.keys() | kept[0].keys() if each.get(key) != kept[0].get(key)]:
            shown = ", ".join(sorted(differing))
            raise RecordError(f"{part}: was certified otherwise than {parts[0]}: {shown}")
    rows: dict[tuple[float, int], dict[str, Any]] = {}
    images: dict[int, tuple[Any, ...]] = {}
    for part, table in zip(parts, tables, strict=True):
        for row in table.to_pylist():
            key, index = (row["sigma"], row["index"]), row["index"]
            image = (row["label"], row["picture"])
            if images.setdefault(index, image) != image:
                raise RecordError(f"{part}: image {index} is another than in the files before")
            row_there = rows.setdefault(key, row)
            if {**row_there, "seconds": 0} != {**row, "seconds": 0}:
                raise RecordError(f"{part}: image {index} is there twice at sigma = {row['sigma']}, with other counts")
    first = dict(made[0])
    if "spec" in first:
        sigmas = sorted({sigma for sigma, _ in rows})
        whole = all(each["spec"].get("images") == "all" for each in made)
        first["spec"] = {**first["spec"], "sigmas": sigmas, "images": "all" if whole else len(images)}
    write(from_rows(list(rows.values()), first), out)


def _alike(made: Mapping[str, Any]) -> dict[str, Any]:
    """What records that are joined have in common: all but where model and images were, and which images of the set."""
    parts = {key: dict(made.get(key) or {}) for key in ("spec", "model", "data")}
    there = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    return {key: there[key] for key in there.keys() - {"spec.sigmas", "spec.images", "model.model", "data.images"}}


def complete(table: pa.Table, path: Path, indices: Iterable[int], sigmas: Iterable[float] | None) -> pa.Table:
    """The table itself.  Raises RecordError, naming `path`, if an image is missing at a sigma or was not asked for.

    sigmas: None where each image is there once, whatever its sigma.
    """
    if sigmas is None:
        images, wanted = sorted(table["index"].to_pylist()), sorted(indices)
        if images != wanted:
            gone, more = (
                sorted((Counter(a) - Counter(b)).elements())[:5] for a, b in ((wanted, images), (images, wanted))
            )
            raise RecordError(f"{path}: images lost: {gone or 'none'}; not asked for: {more or 'none'}")
        return table
    expected = set(product(sigmas, indices))
    found = set(zip(table["sigma"].to_pylist(), table["index"].to_pylist(), strict=True))
    if found != expected:
        lost, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise RecordError(f"{path}: (sigma, image) pairs lost: {lost or 'none'}; not asked for: {extra or 'none'}")
    return table
