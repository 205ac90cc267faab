"""Sample-wise evaluation: what is certified, by which noise, and that shards and kills change nothing."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.test_certify import observed
from tests.helpers.specs import certify_spec, train_spec
from transmooth.data.loader import open_split
from transmooth.evaluation import certify, samplewise
from transmooth.evaluation import test_indices as positions
from transmooth.records import table as records
from transmooth.smoothing import chunks, cohen
from transmooth.smoothing.bounds import SLACK, max_radius, within
from transmooth.smoothing.choice import choose as own_choice
from transmooth.smoothing.regions import allocate
from transmooth.specs import CertifySpec, SamplewiseSpec
from transmooth.training.loop import train

SIGMAS = (0.25, 0.5, 1.0)
SPEC = SamplewiseSpec.of(certify_spec(sigmas=SIGMAS).dump() | {"kind": "samplewise"})


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that chooses several sigmas."""
    folder = tmp_path_factory.mktemp("model")
    train(train_spec(epochs=5, lr=[0.02], sigmas=[0.0, 0.25, 1.0]), digits, folder)
    return folder


@pytest.fixture(scope="module")
def data(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of which test images 6, 13 and 20 are the same picture: it would choose several sigmas."""
    folder = tmp_path_factory.mktemp("doubled") / "digits"
    shutil.copytree(digits, folder)
    images = np.load(folder / "test.npy")
    images[[13, 20]] = images[6]
    np.save(folder / "test.npy", images)
    return folder


def certified(data: Path, model: Path, out: Path, shards: int = 1) -> pd.DataFrame:
    parts = [out / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        samplewise.run(SPEC, data, model, None, part, k, shards, None)
    samplewise.finish(SPEC, data, parts, out / "records.parquet")
    assert list(out.glob("*.journal")) == []
    return observed(out / "records.parquet").sort_values("index", ignore_index=True)


@pytest.fixture(scope="module")
def whole(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return certified(data, model, tmp_path_factory.mktemp("whole"))


def test_each_image_is_there_once_at_its_own_sigma(whole: pd.DataFrame) -> None:
    assert whole["index"].tolist() == positions(300, 45).tolist()
    assert whole["sigma"].nunique() > 1
    assert set(whole["sigma"]) <= {*SIGMAS}
    assert (whole["evaluations"] == 3 * 20 + 20 + 130).all()
    assert whole["allocation"].nunique() == 1


def test_it_is_certified_there_as_at_one_sigma(whole: pd.DataFrame, data: Path, model: Path, tmp_path: Path) -> None:
    """The estimation noise is that of `certify`: the choice has none of it."""
    spec = certify_spec(sigmas=SIGMAS)
    certify.run(spec, data, model, None, tmp_path / "c.parquet", 0, 1, None)
    single = observed(tmp_path / "c.parquet").set_index(["sigma", "index"])
    same = single.loc[list(zip(whole["sigma"], whole["index"], strict=True))].reset_index()
    for column in ("label", "selected", "n", "top_count", "runner_up"):
        assert (same[column] == whole[column]).all()
    assert (same["radius"] == whole["smoothed_radius"]).all()


def test_the_radius_is_what_a_region_of_all_images_leaves(whole: pd.DataFrame, data: Path) -> None:
    x = open_split(data, "test").squares(whole["index"].to_numpy())
    reach = float(max_radius(130, 0.01, 1.0))
    assert (whole["region"] == allocate(x, whole["sigma"], reach).regions).all()
    assert (whole["radius"] == within(whole["smoothed_radius"], whole["region"])).all()
    assert ((whole["prediction"] == -1) == (whole["radius"] == 0)).all()
    kept = whole[whole["prediction"] >= 0]
    assert (kept["prediction"] == kept["selected"]).all()


def test_a_region_that_is_too_small_cuts_the_radius_and_none_abstains(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = allocate

    def small(images: Any, sigmas: Any, reach: float) -> Any:
        found = real(images, sigmas, reach)
        found.regions[:10], found.regions[10:20] = 0.05, SLACK
        return found

    monkeypatch.setattr(samplewise, "allocate", small)
    cut = certified(data, model, tmp_path)
    certain = cut["smoothed_radius"] > 0.06
    assert certain[:10].any()
    assert certain[10:20].any()
    assert (cut["radius"][:10][certain[:10]] == 0.05 - SLACK).all()
    assert (cut["radius"][10:20] == 0).all()
    assert (cut["prediction"][10:20] == -1).all()


def test_equal_images_have_one_sigma_the_smallest_that_any_of_them_chose(
    whole: pd.DataFrame, data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole.set_index("index").loc[[6, 13, 20], "sigma"].nunique() == 1
    chosen = {6: 1.0, 13: 0.25, 20: 0.5}
    monkeypatch.setattr(
        samplewise, "choose", lambda counts, images, n0, alpha: np.array([chosen.get(i, 0.5) for i in images.tolist()])
    )
    found = certified(data, model, tmp_path, shards=4).set_index("index")["sigma"]
    assert found[[6, 13, 20]].tolist() == [0.25] * 3
    assert (found.drop([6, 13, 20]) == 0.5).all()


def test_records_do_not_depend_on_shards(whole: pd.DataFrame, data: Path, model: Path, tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(certified(data, model, tmp_path, shards=7), whole)


def test_a_killed_shard_goes_on_where_it_was(
    whole: pd.DataFrame, data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried, limit = cohen.certify, list[int](), 2

    def limited(counts: Any, images: Any, **settings: Any) -> Any:
        if len(tried) == limit:
            raise KeyboardInterrupt
        tried.append(len(images))
        return real(counts, images, **settings)

    monkeypatch.setattr(cohen, "certify", limited)
    with pytest.raises(KeyboardInterrupt):
        samplewise.run(SPEC, data, model, None, tmp_path / "0.parquet", 0, 1, None)
    done = sum(tried)
    assert 0 < done <= 2 * chunks.CHUNK
    tried.clear()
    limit = 100
    asked: list[int] = []

    def counted(counts: Any, images: Any, *settings: Any) -> Any:
        asked.extend(images.tolist())
        return own_choice(counts, images, *settings)

    monkeypatch.setattr(samplewise, "choose", counted)
    pd.testing.assert_frame_equal(certified(data, model, tmp_path), whole)
    assert sum(tried) == 45 - done
    assert 45 - done <= len(asked) <= 45 - done + 2  # of the three equal ones some may be done


# ------------------------------------------------------------------------------------------------------- allocation
def test_the_records_are_the_frozen_allocation(
    whole: pd.DataFrame, data: Path, digits: Path, model: Path, tmp_path: Path
) -> None:
    certified(data, model, tmp_path)
    found = samplewise.read_allocation(tmp_path / "records.parquet", data)
    assert found.sha256 == whole["allocation"][0]
    assert found.sigmas.tolist() == whole["sigma"].tolist()
    assert found.regions.tolist() == whole["region"].tolist()
    test = open_split(data, "test")
    images, _ = test.batch(whole["index"].to_numpy())
    assert found.sigma_at(images.numpy()).tolist() == whole["sigma"].tolist()  # the network's images are the anchors
    with pytest.raises(records.RecordError, match=r"records.parquet: its allocation, [0-9a-f]{64}, is not of .*digits"):
        samplewise.read_allocation(tmp_path / "records.parquet", digits)  # without the doubled image


def test_records_of_one_sigma_have_no_allocation(data: Path, model: Path, tmp_path: Path) -> None:
    certify.run(certify_spec(sigmas=[0.25], images=3), data, model, None, tmp_path / "c.parquet", 0, 1, None)
    with pytest.raises(records.RecordError, match=r"c.parquet: has no allocation: .* of kind samplewise"):
        samplewise.read_allocation(tmp_path / "c.parquet", data)


def test_shards_that_are_not_the_whole_are_refused(data: Path, model: Path, tmp_path: Path) -> None:
    for k in (0, 1):
        samplewise.run(SPEC, data, model, None, tmp_path / f"{k}.parquet", k, 3, None)
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    with pytest.raises(records.RecordError, match=r"all.parquet: images lost: \[13, 33.*; not asked for: none"):
        samplewise.finish(SPEC, data, parts, tmp_path / "all.parquet")
    with pytest.raises(records.RecordError, match=r"images lost: .*; not asked for: \[0, 20"):
        samplewise.finish(SPEC, data, [parts[0], *parts], tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_shards_that_certified_equal_images_apart_are_refused(data: Path, model: Path, tmp_path: Path) -> None:
    spec = SamplewiseSpec.of(SPEC.dump() | {"sigmas": [0.25]})
    samplewise.run(spec, data, model, None, tmp_path / "0.parquet", 0, 1, None)
    table = records.read(tmp_path / "0.parquet")
    sigmas = np.where(table["index"].to_numpy() == 13, 0.5, 0.25)
    records.write(records.with_columns(table, {"sigma": sigmas}), tmp_path / "0.parquet")
    with pytest.raises(records.RecordError, match=r"all.parquet: image 13 should have .* found 0.5; .*remove them"):
        samplewise.finish(spec, data, [tmp_path / "0.parquet"], tmp_path / "all.parquet")


def test_the_spec_is_none_of_certify() -> None:
    assert not isinstance(SPEC, CertifySpec)
    assert SPEC.dump()["kind"] == "samplewise"
