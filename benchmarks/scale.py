"""What breaks first when a study grows?  Planning thousands of jobs, merging many records.

    python benchmarks/scale.py --jobs 1000 10000 --images 50000

Planning is `snakemake -n` on a copy of this checkout.  Its smoke study has Table 1, 8 shards, and enough seeds for that
many jobs.  Merging is what the rule `finish` runs, on made-up records of 3 sigmas in 8 shards.  Both run in a
process of their own: CPU seconds, seconds, and peak resident memory are those of that process; a first line with next
to nothing to do says what starting costs.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.records import table as records

ROOT = Path(__file__).parents[1]
SIGMAS = (0.25, 0.5, 1.0)
SHARDS = 8


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """CPU seconds, seconds and peak memory in MiB of a command that must succeed."""
    started = time.monotonic()
    with open(os.devnull, "w") as nowhere:
        streams = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), descriptor) for descriptor in (1, 2)]
        here = Path.cwd()
        os.chdir(folder)
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=streams)
        os.chdir(here)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)[:200]}: status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - started, usage.ru_maxrss / 1024


def study_of(jobs: int, folder: Path) -> int:
    """A copy of the checkout whose smoke study has at least so many jobs; the number of its jobs."""
    for name in ("params", "profiles", "src", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    path = folder / "params" / "studies" / "smoke.yaml"
    study = yaml.safe_load(path.read_text()) | {"report": ["table1"]}
    study["certify"]["shards"] = SHARDS

    def planned(seeds: int) -> int:
        path.write_text(yaml.safe_dump(study | {"seeds": list(range(seeds))}))
        return sum(Plan(load("smoke", folder)).jobs().values())

    one, two = planned(1), planned(2)
    return planned(1 + max(0, -(-(jobs - one) // (two - one))))


def shards_of(images: int, folder: Path) -> list[Path]:
    """Records of so many images at each sigma, cut into shards as the workflow does."""
    rng = np.random.default_rng(0)
    paths = []
    for shard in range(SHARDS):
        indices = np.tile(np.arange(images)[shard::SHARDS], len(SIGMAS))
        rows = len(indices)
        prediction = rng.integers(-1, 1000, rows)
        columns = {
            "index": indices,
            "label": rng.integers(0, 1000, rows),
            "prediction": prediction,
            "radius": np.where(prediction < 0, 0, rng.random(rows)),
            "selected": rng.integers(0, 1000, rows),
            "method": np.full(rows, "cohen"),
            "sigma": np.repeat(SIGMAS, rows // len(SIGMAS)),
            "alpha": np.full(rows, 0.001),
            "n0": np.full(rows, 100),
            "n": np.full(rows, 100_000),
            "top_count": rng.integers(0, 100_000, rows),
            "evaluations": np.full(rows, 100_100),
            "seed": np.zeros(rows, np.int64),
            "dtype": np.full(rows, "bf16"),
            "model": np.full(rows, "0" * 64),
            "seconds": rng.random(rows),
            "runner_up": rng.integers(0, 1000, rows),
            "engine": np.full(rows, "compiled"),
            "batch": np.full(rows, 1024),
        }
        table = pa.table({name: pa.array(columns[name]) for name in records.SCHEMA.names}, records.SCHEMA)
        paths.append(folder / f"{shard + 1}-of-{SHARDS}.parquet")
        records.write(table.replace_schema_metadata({"transmooth": json.dumps({"spec": {}})}), paths[-1])
    return paths


MERGE = """
import sys
from pathlib import Path
from transmooth.records import table as records
*parts, out, images = sys.argv[1:]
records.merge([Path(part) for part in parts], Path(out), range(int(images)), {sigmas})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--images", type=int, nargs="*", default=[50_000])
    options = parser.parse_args()
    print("| | CPU s | s | peak MiB |\n|---|---|---|---|", flush=True)
    for jobs in [1, *options.jobs] if options.jobs else []:
        with tempfile.TemporaryDirectory() as name:
            planned = study_of(jobs, Path(name))
            cpu, wall, peak = measured([sys.executable, "-m", "snakemake", "-n", "--quiet"], Path(name))
        print(f"| plan {planned} jobs | {cpu:.1f} | {wall:.1f} | {peak:.0f} |", flush=True)
    for images in [8, *options.images] if options.images else []:
        with tempfile.TemporaryDirectory() as name:
            paths = [*shards_of(images, Path(name)), Path(name, "records.parquet")]
            command = [sys.executable, "-c", MERGE.format(sigmas=SIGMAS), *map(str, paths), str(images)]
            cpu, wall, peak = measured(command, ROOT)
            size = paths[-1].stat().st_size / 2**20
        print(
            f"| merge {len(SIGMAS) * images} records, {size:.1f} MiB | {cpu:.1f} | {wall:.1f} | {peak:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
