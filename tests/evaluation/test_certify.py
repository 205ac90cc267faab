import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.checkpoints import CARD
from tests.helpers.processes import launch
from tests.helpers.specs import certify_spec, multi_sigma_spec, train_spec
from transmooth import provenance
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.data.loader import open_split
from transmooth.evaluation import certify, load_evaluation, multi_sigma
from transmooth.evaluation import test_indices as positions
from transmooth.models.build import Network
from transmooth.records import table as records
from transmooth.records.multi_sigma import one_row_each
from transmooth.report.accuracy import read_files
from transmooth.smoothing import chunks, cohen, methods
from transmooth.smoothing.bounds import Ints
from transmooth.smoothing.decision import CHOICE, ESTIMATION, draw
from transmooth.smoothing.multi_sigma import choose
from transmooth.specs import EVALUATIONS, CertifySpec
from transmooth.training.loop import train

SPEC = certify_spec()


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, so that predictions and radii differ from image to image."""
    folder = tmp_path_factory.mktemp("model")
    train(train_spec(epochs=8, lr=[0.02]), digits, folder)
    return folder


def observed(path: Path) -> pd.DataFrame:
    """All columns but the time and the batch, which are what may differ."""
    return records.read(path).to_pandas().drop(columns=["seconds", "batch"])


def certified(data: Path, model: Path, out: Path, shards: int = 1, batch: int = 256) -> pd.DataFrame:
    parts = [out / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        certify.run(SPEC, data, model, None, part, k, shards, batch)
    certify.finish(SPEC, data, parts, out / "records.parquet")
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
    data, out = ["--data", digits, "--checkpoint", model], tmp_path / "two.parquet"
    launch("evaluate", "--spec", SPEC.text, *data, "--out", out)
    certify.run(SPEC, digits, model, None, tmp_path / "one.parquet", 0, 1, 256)
    pd.testing.assert_frame_equal(observed(tmp_path / "two.parquet"), observed(tmp_path / "one.parquet"))
    assert sorted(path.name for path in tmp_path.glob("*.journal")) == [
        "one.parquet.rank0.journal",
        "two.parquet.rank0.journal",
    ]


def test_a_shard_that_snakemake_removed_is_there_again_unless_the_sources_changed(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "r.parquet", []
    real = cohen.certify

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        return real(*arguments, **settings)

    monkeypatch.setattr(cohen, "certify", counted)
    certify.run(SPEC, digits, model, None, out, 0, 1, 256)
    whole, first = records.read(out), len(calls)
    assert first
    out.unlink()
    certify.run(SPEC, digits, model, None, out, 0, 1, 256)
    assert records.read(out).equals(whole)
    assert len(calls) == first
    out.unlink()
    monkeypatch.setattr(provenance, "sources", lambda: "others")
    certify.run(SPEC, digits, model, None, out, 0, 1, 256)
    assert len(calls) == 2 * first


def test_an_interrupted_job_goes_on_where_it_was(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = certified(digits, model, tmp_path / "whole")
    real, tried, limit = cohen.certify, list[int](), 2

    def limited(counts: Any, images: Any, **settings: Any) -> Any:
        if len(tried) == limit:
            raise KeyboardInterrupt
        tried.append(len(images))
        return real(counts, images, **settings)

    out = tmp_path / "again" / "0.parquet"
    monkeypatch.setattr(cohen, "certify", limited)
    with pytest.raises(KeyboardInterrupt):
        certify.run(SPEC, digits, model, None, out, 0, 1, 256)
    assert not out.exists()
    tried.clear()
    limit = 100
    certify.run(SPEC, digits, model, None, out, 0, 1, 256)
    assert sum(tried) == 2 * 45 - 2 * chunks.CHUNK
    pd.testing.assert_frame_equal(observed(out), whole)


SEVERAL = multi_sigma_spec()


def test_records_of_several_sigmas_do_not_depend_on_shards_and_are_of_one_classifier(
    digits: Path, model: Path, tmp_path: Path
) -> None:
    files = []
    for shards in (1, 3):
        parts = [tmp_path / f"{k}-of-{shards}.parquet" for k in range(shards)]
        for k, part in enumerate(parts):
            multi_sigma.run(SEVERAL, digits, model, None, part, k, shards, 256)
        files.append(tmp_path / f"{shards}.parquet")
        multi_sigma.finish(SEVERAL, digits, parts, files[-1])
    pd.testing.assert_frame_equal(*map(observed, files))
    found = records.read(files[0]).to_pandas()
    assert sorted(zip(found["stage"], found["sigma"], found["threshold"], strict=True)) == [
        *[(0, 1.0, 0.05)] * 45,
        *[(1, 0.25, 0.0)] * 45,
    ]
    answers = one_row_each(found, files[0])
    assert answers["radius"].nunique() > 5
    assert set(found["n"]) == {0, 130}


def test_thresholds_are_chosen_by_validation_images_alike_in_each_shard(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = multi_sigma_spec(thresholds=None, chosen_on=7)
    asked = []

    def spied(counts: Ints, labels: Ints, *rest: Any, **named: Any) -> Any:
        asked.append((counts.tolist(), labels.tolist()))
        return replace(choose(counts, labels, *rest, **named)[0], thresholds=(0.125, 0.0)), 0.0

    drawn = []

    def watched(counts: Any, stream: int, *rest: Any) -> Any:
        drawn.append(stream)
        return draw(counts, stream, *rest)

    monkeypatch.setattr(multi_sigma, "choose", spied)
    monkeypatch.setattr(multi_sigma, "draw", watched)
    parts = [tmp_path / f"{k}-of-2.parquet" for k in range(2)]
    for k, part in enumerate(parts):
        multi_sigma.run(spec, digits, model, None, part, k, 2, 256)
    assert asked[0] == asked[1]
    assert set(drawn) == {CHOICE + ESTIMATION}  # the noise of no certification
    counts, labels = np.array(asked[0][0]), asked[0][1]
    assert counts.shape[:2] == (7, 2)
    assert set(counts.sum(2).flat) == {spec.n}
    validation = open_split(digits, "validation")
    assert labels == [int(validation.labels[index]) for index in positions(len(validation), 7)]
    multi_sigma.finish(spec, digits, parts, tmp_path / "r.parquet")
    read = read_files([tmp_path / "r.parquet"], "a")
    assert read.multi_settings.method == "cascade of σ = 1, 0.25; τ chosen on 7 validation images"
    given = tmp_path / "given.parquet"
    multi_sigma.run(multi_sigma_spec(thresholds=[0.125, 0.0]), digits, model, None, given, 0, 1, 256)
    pd.testing.assert_frame_equal(observed(tmp_path / "r.parquet"), observed(given))


def test_an_interrupted_job_of_several_sigmas_does_the_images_again_that_lack_one(
    digits: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "r.parquet"
    multi_sigma.run(SEVERAL, digits, model, None, whole, 0, 1, 256)
    real, done = methods.decide, list[int]()

    def limited(counts: Any, images: Any, *rest: Any) -> Any:
        if len(done) >= limit:
            raise KeyboardInterrupt
        done.extend(images)
        return real(counts, images, *rest)

    monkeypatch.setattr(chunks, "decide", limited)
    limit = 16
    with pytest.raises(KeyboardInterrupt):
        multi_sigma.run(SEVERAL, digits, model, None, out, 0, 1, 256)
    (journal,) = tmp_path.glob("r.parquet.*.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 16
    journal.write_bytes(b"".join(lines[:-3]))  # three images are left with the row of one sigma
    done.clear()
    limit = 100
    multi_sigma.run(SEVERAL, digits, model, None, out, 0, 1, 256)
    assert len(done) == 45 - 16 + 3
    pd.testing.assert_frame_equal(observed(out), observed(whole))


def test_a_model_of_other_classes_is_refused(digits: Path, network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path / "model", network, CARD | {"classes": list("abcdefghij")})
    with pytest.raises(SystemExit, match="its classes are not those of"):
        certify.run(SPEC, digits, tmp_path / "model", None, tmp_path / "out.parquet", 0, 1, 256)


def test_test_images_are_evenly_spaced_and_the_same_for_all() -> None:
    assert positions(10_000, 500).tolist() == list(range(0, 10_000, 20))
    assert positions(10, "all").tolist() == list(range(10))
    assert positions(10, 99).tolist() == list(range(10))
    assert positions(7, 3).tolist() == [0, 2, 4]


def test_a_records_file_says_what_it_was_made_with(digits: Path, model: Path, tmp_path: Path) -> None:
    certified(digits, model, tmp_path, shards=2)
    made = records.metadata(tmp_path / "records.parquet")
    assert CertifySpec.of(made["spec"]) == SPEC
    assert made["versions"] == provenance.versions()
    assert set(observed(tmp_path / "records.parquet")["model"]) == {read_card(model)["weights_sha256"]}


def test_shards_of_another_evaluation_are_not_joined(digits: Path, model: Path, tmp_path: Path) -> None:
    for k, spec in enumerate((SPEC, certify_spec(seed=5))):
        certify.run(spec, digits, model, None, tmp_path / f"{k}.parquet", k, 2, 256)
    with pytest.raises(records.RecordError, match=r"1.parquet: made by another spec than .*0.parquet"):
        certify.finish(SPEC, digits, [tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_what_is_left_is_what_no_row_has() -> None:
    rows = [{"sigma": 0.25, "index": 3}, {"sigma": 1.0, "index": 0}]
    assert certify.left(SPEC, [0, 3], rows) == [(0.25, 0), (1.0, 3)]
    assert certify.left(SEVERAL, [0, 3], [{"sigma": 1.0, "index": 3}, {"sigma": 0.25, "index": 3}]) == [(1.0, 0)]
    assert certify.left(SEVERAL, [0, 3], [{"sigma": 1.0, "index": 3}]) == [(1.0, 0), (1.0, 3)]
    assert certify.left(SPEC, [0, 3], []) == [(0.25, 0), (0.25, 3), (1.0, 0), (1.0, 3)]


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_every_kind_of_evaluation_has_a_file_that_runs_and_finishes_it(kind: str) -> None:
    module = load_evaluation(kind)
    asked = ["spec", "data", "checkpoint", "start", "out", "shard", "shards", "batch"]
    assert list(inspect.signature(module.run).parameters) == asked
    assert list(inspect.signature(module.finish).parameters) == ["spec", "data", "parts", "out"]
