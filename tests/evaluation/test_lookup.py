"""The lookup: brute force over all pairs, and no query in its radius has another answer."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.helpers.checkpoints import CARD
from tests.helpers.specs import train_spec
from transmooth.checkpoint import weights
from transmooth.data.loader import open_split
from transmooth.evaluation import lookup
from transmooth.models.build import Network
from transmooth.records import table as records
from transmooth.smoothing.bounds import SLACK
from transmooth.specs import LookupSpec
from transmooth.training.loop import train

SPEC = LookupSpec.of(
    {"run": {"network": "n", "stages": ["clean@task"], "seed": 0, "dataset": "digits", "path": "p"}, "images": 45}
)


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(train_spec(epochs=2, lr=[0.02]), digits, folder)
    return folder


def certified(data: Path, model: Path, out: Path, shards: int = 1, batch: int | None = None) -> pd.DataFrame:
    parts = [out / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        lookup.run(SPEC, data, model, None, part, k, shards, batch)
    lookup.finish(SPEC, data, parts, out / "records.parquet")
    return records.read(out / "records.parquet").to_pandas().sort_values("index", ignore_index=True)


def test_the_radius_is_half_the_distance_to_another_class(digits: Path, model: Path, tmp_path: Path) -> None:
    found = certified(digits, model, tmp_path)
    test = open_split(digits, "test")
    images, labels = test.batch(found["index"].to_numpy())
    with torch.inference_mode():
        classes = weights.load(model)[0](images).argmax(1).numpy()
    assert len({*classes.tolist()}) > 2
    assert (found["prediction"] == classes).all()
    assert (found["label"] == labels.numpy()).all()
    flat = images.flatten(1).double().numpy()
    d = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    half = np.where(classes[:, None] != classes[None], d, np.inf).min(1) / 2
    np.testing.assert_allclose(found["region"], half, rtol=1e-6)
    assert (found["radius"] == found["region"] - SLACK).all()
    assert found[["sigma", "alpha", "smoothed_radius", "allocation"]].isna().all(axis=None)
    assert (found[["method", "n0", "n", "evaluations"]] == ["lookup", 0, 0, 1]).all(axis=None)
    rng = np.random.default_rng(0)
    for i in range(45):  # towards every image, and anywhere
        v = np.concatenate([np.delete(flat, i, 0) - flat[i], rng.normal(size=(20, flat.shape[1]))])
        near = flat[i] + 0.999999 * found["radius"][i] * v / np.linalg.norm(v, axis=1, keepdims=True)
        nearest = np.linalg.norm(near[:, None] - flat[None], axis=2).argmin(1)
        assert (classes[nearest] == classes[i]).all()


def test_records_do_not_depend_on_shards_or_batch(digits: Path, model: Path, tmp_path: Path) -> None:
    whole = certified(digits, model, tmp_path / "whole").drop(columns=["seconds", "batch"])
    for shards, batch in ((3, None), (1, 7)):
        found = certified(digits, model, tmp_path / f"{shards}", shards, batch).drop(columns=["seconds", "batch"])
        pd.testing.assert_frame_equal(found, whole)


def test_where_all_are_of_one_class_no_query_is_farther_than_the_diagonal(
    digits: Path, network: Network, tmp_path: Path
) -> None:
    head = network.backbone.get_classifier()  # type: ignore[operator]
    nn.init.zeros_(head.weight)
    weights.save(tmp_path / "model", network, CARD | {"classes": open_split(digits, "test").classes})
    found = certified(digits, tmp_path / "model", tmp_path)
    assert found["prediction"].nunique() == 1
    assert (found["radius"] == np.sqrt(192) - SLACK).all()


def test_a_model_of_other_classes_is_refused(digits: Path, network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path / "model", network, CARD | {"classes": list("abcdefghij")})
    with pytest.raises(SystemExit, match="its classes are not those of"):
        lookup.run(SPEC, digits, tmp_path / "model", None, tmp_path / "out.parquet", 0, 1, None)
