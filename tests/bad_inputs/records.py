"""Records, as Parquet, and the field's logs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bad_inputs import Case
from tests.helpers.records import attacked_row, multi_sigma_rows, row
from transmooth.records import attacked, logs
from transmooth.records import table as records

R = Path("r.parquet")
HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
LINE = "1\t1\t1\t0.5\t1\t0:00:01\n"


def read() -> object:
    frame = logs.read_any(R)
    return f"{len(frame)} images, made with {records.metadata(R)}"


def rows(*given: dict[str, Any], made: Any = None) -> Callable[[], object]:
    """Rows that no writer would write."""

    def use() -> object:
        table = pa.Table.from_pylist(list(given), records.SCHEMA)
        pq.write_table(table.replace_schema_metadata(made), R)
        return read()

    return use


def column(name: str, values: list[Any]) -> Callable[[], object]:
    def use() -> object:
        table = pa.Table.from_pylist([row(0), row(1)], records.SCHEMA)
        pq.write_table(table.set_column(table.schema.names.index(name), name, pa.array(values)), R)
        return read()

    return use


def merged(*parts: list[dict[str, Any]]) -> Callable[[], object]:
    """Shards of a job that certifies images 0 and 1 at sigma = 0.5."""

    def use() -> object:
        paths = [Path(f"{k}.parquet") for k in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            records.write(records.from_rows(part, {"spec": {}}), path)
        records.merge(paths, R, [0, 1], [0.5])
        return read()

    return use


def cut() -> object:
    records.write(records.from_rows([row(0)], {}), R)
    R.write_bytes(R.read_bytes()[:-20])
    return read()


def in_folder() -> object:
    path = Path("sigma=1.0", "r.parquet")
    records.write(records.from_rows([row(0)], {}), path)
    return records.read(path)["sigma"].to_pylist()


def attack() -> object:
    attacked.write(attacked.from_rows([attacked_row(0)], {}), R)
    return read()


def found(**changes: Any) -> Callable[[], object]:
    """Records of an attack that no writer would write."""

    def use() -> object:
        point = {"robust": False, "adversarial": 5, "distance": 0.4, "loss": "margin", "restart": 0}
        records.seal(attacked.from_rows([attacked_row(0, **point | changes)], {}), R)
        return len(attacked.read(R))

    return use


def log(content: str | bytes) -> Callable[[], object]:
    def use() -> object:
        Path("log.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return len(logs.read(Path("log.tsv")))

    return use


def exported() -> object:
    logs.write(logs.read_any(_huge()), "log.tsv")
    return Path("log.tsv").read_text().splitlines()[1].split("\t")[3][:4]


def _huge() -> Path:
    records.write(records.from_rows([row(0, radius=1e300)], {}), R)
    return R


NAN = float("nan")

CASES = [
    Case("records that are cut off", f"{R}: damaged: it is not what its checksum says; remove it, and …", cut),
    Case(
        "text called .parquet",
        f"{R}: no log: its header should name idx, label, predict and radius, got 'hello'",
        lambda: [R.write_text("hello\n1\n"), read()][1],
    ),
    Case("records of an attack", f"{R}: not records: the columns alpha, … are missing", attack),
    Case(
        "a cascade's radius that its counts do not give",
        f"{R}: image 1 has class 3 and radius 0.9 at sigma = 1, which is not what its counts give (…)",
        rows(*multi_sigma_rows(1), *({**each, "radius": 0.9} for each in multi_sigma_rows(2)[2:])),
    ),
    Case(
        "a cascade with an image that lacks a stage",
        f"{R}: should have the counts of the same stages for each image, by one method, alpha and looks",
        rows(*multi_sigma_rows(2)[:-1]),
    ),
    Case("no rows", f"{R}: there are no records in it", rows()),
    Case(
        "a radius that is NaN",
        f"{R}: image 1 should have a radius that is finite and >= 0, found nan; so have 1 of 2 rows",
        rows(row(0), row(1, radius=NAN)),
    ),
    Case(
        "a radius below 0",
        f"{R}: image 0 should have a radius that is finite and >= 0, found -0.1; so have 1 of 1 rows",
        rows(row(0, radius=-0.1)),
    ),
    Case(
        "an abstention with a radius",
        f"{R}: image 0 should have the radius 0 where it abstained, found 0.5; so have 1 of 1 rows",
        rows(row(0, prediction=-1, radius=0.5)),
    ),
    Case(
        "the class -2",
        f"{R}: image 0 should have a class >= 0, or -1 for abstained, found -2; so have 1 of 1 rows",
        rows(row(0, prediction=-2)),
    ),
    Case(
        "a sigma of 0",
        f"{R}: image 0 should have a sigma that is finite and > 0, found 0.0; so have 1 of 1 rows",
        rows(row(0, sigma=0.0)),
    ),
    Case(
        "an alpha of 1",
        f"{R}: image 0 should have an alpha between 0 and 1, found 1.0; so have 1 of 1 rows",
        rows(row(0, alpha=1.0)),
    ),
    Case(
        "a radius that is missing",
        f"{R}: the column radius should have no gaps, 1 of 2 rows have none",
        rows(row(0), row(1, radius=None)),
    ),
    Case(
        "a radius that its region does not leave",
        f"{R}: image 0 should have the radius that its region leaves of smoothed_radius, found 0.2; so have …",
        rows(row(0, radius=0.2, smoothed_radius=0.3, region=0.2, allocation="a")),
    ),
    Case(
        "a class where a region leaves nothing",
        f"{R}: image 0 should have abstained where its region leaves nothing, found 3; so have 1 of 1 rows",
        rows(row(0, radius=0.0, smoothed_radius=0.3, region=0.0001, allocation="a")),
    ),
    Case(
        "rows of two allocations",
        f"{R}: records of 2 allocations: a, None",
        rows(row(0, allocation="a"), row(1)),
    ),
    Case("an image twice at one sigma", f"{R}: image 1 is there twice at sigma = 0.5", rows(row(1), row(1))),
    Case("rows of two models", f"{R}: records of 2 models: abc, other", rows(row(0), row(1, model="other"))),
    Case(
        "a point of an attack beyond its epsilon",
        f"{R}: image 0 should have its point within epsilon, found 0.6; so have 1 of 1 rows",
        found(distance=0.6),
    ),
    Case(
        "an image that is robust although a point was found",
        f"{R}: image 0 should have no point, to be robust, found True; so have 1 of 1 rows",
        found(robust=True),
    ),
    Case(
        "an image that is robust although its class is wrong",
        f"{R}: image 0 should have its label as its prediction, to be robust, found 7; so have 1 of 1 rows",
        found(robust=True, prediction=7),
    ),
    Case(
        "text for a radius",
        f"{R}: not records: a column is of another type: Failed to parse string: '…' as a scalar of type double",
        column("radius", ["far", "near"]),
    ),
    Case(
        "half an image",
        f"{R}: not records: a column is of another type: Float value 0.5… was truncated converting to int64",
        column("index", [0.5, 1]),
    ),
    Case(
        "a list for a radius",
        f"{R}: not records: a column is of another type: Unsupported cast from list<…> to double …",
        column("radius", [[1.0], [2.0]]),
    ),
    Case(
        "metadata that are no JSON",
        f"{R}: what it was made with should be JSON: …",
        rows(row(0), made={"transmooth": "{"}),
    ),
    Case(
        "metadata that are no UTF-8",
        f"{R}: what it was made with should be JSON: …",
        rows(row(0), made={"transmooth": b"\xff"}),
    ),
    Case(
        "metadata of another shape",
        f"{R}: what it was made with: spec: should be a mapping, found []",
        rows(row(0), made={"transmooth": '{"spec": []}'}),
    ),
    Case(
        "metadata that are a list",
        f"{R}: what it was made with: should be a mapping, found []",
        rows(row(0), made={"transmooth": "[]"}),
    ),
    Case(
        "metadata with numbers for the names of classes",
        f"{R}: what it was made with: data.classes[1]: should be a valid string, found 5",
        rows(row(0), made={"transmooth": '{"data": {"classes": ["a", 5]}}'}),
    ),
    Case(
        "metadata with infinite samples",
        f"{R}: what it was made with: spec.n: should be a valid integer, found inf",
        rows(row(0), made={"transmooth": '{"spec": {"n": Infinity}}'}),
    ),
    Case(
        "metadata with a radius that is no number",
        f"{R}: what it was made with: spec.radii[0]: should be a finite number, found nan",
        rows(row(0), made={"transmooth": '{"spec": {"radii": [NaN]}}'}),
    ),
    Case(
        "metadata with a list for the version of a library",
        f"{R}: what it was made with: versions.torch: should be a valid string, found ['2']",
        rows(row(0), made={"transmooth": '{"versions": {"torch": ["2"]}}'}),
    ),
    Case(
        "more seconds than there were",
        f"{R}: image 0 should have seconds between 0 and 1e+10, found 1e+308; so have 1 of 1 rows",
        rows(row(0, seconds=1e308)),
    ),
    Case(
        "fewer evaluations than none",
        f"{R}: image 0 should have evaluations between 0 and 1e+15, found -1; so have 1 of 2 rows",
        rows(row(0, evaluations=-1), row(1, evaluations=10**15)),
    ),
    Case(
        "fewer samples than none",
        f"{R}: image 0 should have n between 0 and 1e+15, found -1; so have 1 of 1 rows",
        rows(row(0, n=-1, top_count=None)),
    ),
    Case(
        "more samples of a class than samples",
        f"{R}: image 1 should have a top_count between 0 and n, found 1001; so have 1 of 2 rows",
        rows(row(0, top_count=1000), row(1, top_count=1001)),
    ),
    Case("records in a folder called `sigma=1.0`: its name says nothing", "read: [0.5]", in_folder),
    Case(
        "a radius of 1e300, exported to a log",
        f"{R}: image 0 should have a radius below 40 sigma, found 1e+300; so have 1 of 1 rows",
        exported,
    ),
    Case(
        "a shard of another model", f"{R}: records of 2 models: abc, other", merged([row(0)], [row(1, model="other")])
    ),
    Case(
        "a shard of another sigma",
        f"{R}: (sigma, image) pairs lost: [(0.5, 1)]; not asked for: [(1.0, 1)]",
        merged([row(0)], [row(1, sigma=1.0)]),
    ),
    Case(
        "a shard that is merged twice",
        f"{R}: image 0 is there twice at sigma = 0.5",
        merged([row(0)], [row(0)], [row(1)]),
    ),
    Case("a log in UTF-16, which says so by its first bytes", "read: 1", log((HEADER + LINE).encode("utf-16"))),
    Case("a picture for a log", "log.tsv: a log is text in UTF-8, got the byte 0x89", log(b"\x89PNG\r\n\x1a\n\0")),
    Case(
        "a web page for a log",
        "log.tsv: no log: its header should name idx, label, predict and radius, got '<html>'",
        log("<html>\n<body>404</body>\n"),
    ),
    Case(
        "a line of a million letters for a log",
        "log.tsv: no log: its header should name idx, label, predict and radius, got 'xxx…'",
        log("x" * 10**6 + "\n1\n"),
    ),
    Case(
        "a field of 200 000 letters",
        "log.tsv, line 2: not fields between '\\t': field larger than field limit (131072): '1\\t1\\t1\\t0.5…",
        log(HEADER + LINE.strip() + "9" * 200_000 + "\n" + LINE),
    ),
    Case(
        "an image beyond 64 bits",
        f"log.tsv, line 2: '1{29 * '0'}' is too large a whole number: '1{30 * '0'}\\t1\\t1\\t0.5\\t1\\t0:00:01'",
        log(HEADER + LINE.replace("1", str(10**30), 1) + LINE),
    ),
    Case(
        "the class -7 in a log",
        "log.tsv: predict must be a class ≥ 0, or −1 for abstained, got [-7] for images [1]",
        log(HEADER + LINE.replace("1\t1\t1", "1\t1\t-7")),
    ),
]
