"""What did a study compute?  A hash of each network's weights and of each evaluation's records.

    python benchmarks/hashes.py results/smoke

One line a file, sorted by path: the SHA-256 of a model.safetensors, or of the rows of a records.parquet without
`seconds`.  Two checkouts that ran the same study on one machine have computed the same where `diff` says nothing.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

NOT_A_RESULT = ("seconds",)  # how long it took


def hashes(results: Path) -> Iterator[tuple[str, str]]:
    """Yield the hash and the path of each file below a study's folder."""
    weights = {path: file_hash(path) for path in results.glob("train/**/model.safetensors")}
    records = {path: rows_hash(path) for path in results.glob("evaluate/**/records.parquet")}
    for path, digest in sorted((weights | records).items()):
        yield digest, path.relative_to(results).as_posix()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_hash(path: Path) -> str:
    """The rows in a canonical form: neither the order of columns nor how Parquet stores them counts."""
    table = pq.read_table(path, partitioning=None)
    rows = table.drop_columns([name for name in NOT_A_RESULT if name in table.column_names]).to_pylist()
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results/<study>")
    results = parser.parse_args().results
    if not (found := list(hashes(results))):
        raise SystemExit(f"{results}: holds no weights and no records")
    for digest, path in found:
        print(digest, path)
