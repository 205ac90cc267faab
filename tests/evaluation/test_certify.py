import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import NETWORK, ROOT
from tests.helpers.specs import train_spec
from transmooth import jobs, provenance
from transmooth.checkpoint import weights
from transmooth.models.build import Network
from transmooth.records import table as records
from transmooth.smoothing import chunks, methods
from transmooth.training.loop import train

SPEC: dict[str, Any] = {
    "method": "cohen",
    "sigmas": [0.25, 1.0],
    "n0": 20,
    "n": 130,
    "alpha": 0.01,
    "images": 45,
    "seed": 4,
    "dtype": "fp32",
}


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, so that predictions and radii differ from image to image."""
    folder = tmp_path_factory.mktemp("model")
    train(spec(epochs=8, lr=[0.02]), digits, folder)
    return folder


def observed(path: Path) -> pd.DataFrame:
    """All columns but the time, which is the one thing that may differ."""
    return records.read(path).to_pandas().drop(columns="seconds")


def certified(data: Path, model: Path, out: Path, shards: int = 1, batch: int = 256) -> pd.DataFrame:
    parts = [out / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        jobs.certify(SPEC, data, model, part, k, shards, batch)
    jobs.merge(SPEC, data, parts, out / "records.parquet")
    assert list(out.glob("*.journal")) == []
    return observed(out / "records.parquet")


def test_records_do_not_depend_on_shards_or_batch(digits: Path, model: Path, tmp_path: Path) -> None:
    whole = certified(digits, model, tmp_path / "whole")
    assert len(whole) == 2 * 45
    assert whole["prediction"].nunique() > 1
    pd.testing.assert_frame_equal(certified(digits, model, tmp_path / "seven", shards=7), whole)
    pd.testing.assert_frame_equal(certified(digits, model, tmp_path / "small", batch=64), whole)
    pd.testing.assert_frame_equal(certified(digits, model, tmp_path / "large", batch=1000), whole)


def test_records_do_not_depend_on_processes(digits: Path, model: Path, tmp_path: Path) -> None:
    command = ["accelerate", "launch", "--config_file", str(ROOT / "workflow/accelerate/local.yaml")]
    command += ["--num_processes", "2", "-m", "transmooth", "job", "certify", "--spec", json.dumps(SPEC)]
    command += ["--data", str(digits), "--checkpoint", str(model), "--out", str(tmp_path / "two.parquet")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    jobs.certify(SPEC, digits, model, tmp_path / "one.parquet", 0, 1, 256)
    pd.testing.assert_frame_equal(observed(tmp_path / "two.parquet"), observed(tmp_path / "one.parquet"))
    assert sorted(path.name for path in tmp_path.glob("*.journal")) == [
        "one.parquet.rank0.journal",
        "two.parquet.rank0.journal",
    ]


def test_a_shard_that_snakemake_removed_is_there_again_unless_the_sources_changed(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "r.parquet", []
    real = methods.cohen.certify

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        return real(*arguments, **settings)

    monkeypatch.setattr(methods.cohen, "certify", counted)
    jobs.certify(SPEC, digits, model, out, 0, 1, 256)
    whole, first = records.read(out), len(calls)
    assert first
    out.unlink()
    jobs.certify(SPEC, digits, model, out, 0, 1, 256)
    assert records.read(out).equals(whole)
    assert len(calls) == first
    out.unlink()
    monkeypatch.setattr(provenance, "sources", lambda: "others")
    jobs.certify(SPEC, digits, model, out, 0, 1, 256)
    assert len(calls) == 2 * first


def test_an_interrupted_job_goes_on_where_it_was(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = certified(digits, model, tmp_path / "whole")
    real, tried = methods.cohen.certify, []

    def killed(counts: Any, images: Any, **settings: Any) -> Any:
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(images)
        return real(counts, images, **settings)

    out = tmp_path / "again" / "0.parquet"
    monkeypatch.setattr(methods.cohen, "certify", killed)
    with pytest.raises(KeyboardInterrupt):
        jobs.certify(SPEC, digits, model, out, 0, 1, 256)
    assert not out.exists()
    tried.clear()
    monkeypatch.setattr(methods.cohen, "certify", lambda c, images, **s: tried.append(images) or real(c, images, **s))
    jobs.certify(SPEC, digits, model, out, 0, 1, 256)
    assert sum(map(len, tried)) == 2 * 45 - 2 * chunks.CHUNK
    pd.testing.assert_frame_equal(observed(out), whole)


def test_a_model_of_other_classes_is_refused(digits: Path, network: Network, tmp_path: Path) -> None:
    card = {"network": NETWORK, "classes": list("abcdefghij"), "mean": [0.5] * 3, "std": [0.25] * 3}
    weights.save(tmp_path / "model", network, card)
    with pytest.raises(SystemExit, match="its classes are not those of"):
        jobs.certify(SPEC, digits, tmp_path / "model", tmp_path / "out.parquet", 0, 1, 256)


def test_test_images_are_evenly_spaced_and_the_same_for_all() -> None:
    assert jobs.test_indices(10_000, 500).tolist() == list(range(0, 10_000, 20))
    assert jobs.test_indices(10, "all").tolist() == list(range(10))
    assert jobs.test_indices(10, 99).tolist() == list(range(10))
    assert jobs.test_indices(7, 3).tolist() == [0, 2, 4]
