"""What ships in models/ is what its tables were made from, and loads from a clone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from transmooth.checkpoint.card import read_card
from transmooth.checkpoint.inventory import checkpoints
from transmooth.loading.denoisers import load_denoiser
from transmooth.loading.models import load_model
from transmooth.records import table as records
from transmooth.report.accuracy import certified_accuracy, certified_radius, read_files

MODELS = ROOT / "models"
CLASSIFIERS = [each.path for each in checkpoints(MODELS) if "denoiser" not in each.what]
DENOISED = [path for path in CLASSIFIERS if "cadis_desk" in path]
PRETRAINED = [path for path in CLASSIFIERS if "transfer_desk" in path]
RETAINED = [path for path in CLASSIFIERS if "retention_desk" in path]
CASCADES = [path for path in CLASSIFIERS if "samplewise_desk" in path]
COMPARED = [path for path in CLASSIFIERS if "comparison_desk" in path]


def test_nothing_is_damaged_or_too_large_for_a_clone() -> None:
    found = checkpoints(MODELS)
    assert {each.fault for each in found} == {""}
    assert max(each.megabytes for each in found) < 5
    assert sum(each.megabytes for each in found) < 40
    assert len(DENOISED) == len(CASCADES) == 3
    for each in found:
        if each.path not in CLASSIFIERS:
            load_denoiser(each.path)


@pytest.mark.parametrize("path", DENOISED, ids=lambda path: Path(path).parent.name)
def test_records_are_of_the_network_beside_them_and_give_the_cells_of_the_table(path: str) -> None:
    """With the denoiser before it, which its card finds."""
    frame = records.read(Path(path) / "records.parquet").to_pandas()
    assert set(frame["model"]) == {load_model(path).sha256}
    (sigma,) = frame["sigma"].unique()
    cells = pd.read_csv(ROOT / "results" / "cadis_desk" / "tables" / "table11.csv")
    own = cells[(cells["row"] == f"FT-CADIS, σ {sigma:g}") & (cells["measure"] == "certified")]
    assert len(own) == 7
    found = certified_accuracy(certified_radius(frame), own["radius"].to_numpy())
    assert found.tolist() == pytest.approx(own["value"].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("paths", "table", "row", "radii"),
    [
        (CASCADES, "samplewise_desk/tables/multi_sigma.csv", "cascade", 5),
        (
            [path for path in COMPARED if "/mixed@long/" in path],
            "comparison_desk/tables/sound.csv",
            "mixed noise, as long as with pretraining",
            4,
        ),
    ],
)
def test_records_of_cascades_are_of_the_networks_beside_them_and_give_the_row_of_the_table(
    paths: list[str], table: str, row: str, radii: int
) -> None:
    cells = pd.read_csv(ROOT / "results" / table)
    own = cells[(cells["row"] == row) & cells["measure"].isin(["certified", "multi_sigma"])]
    assert len(own) == radii
    found = []
    for path in paths:
        file = Path(path) / "records.parquet"
        assert set(records.read(file).to_pandas()["model"]) == {load_model(path).sha256}
        read = read_files([file], "cascade")
        assert read.multi_sigma is not None
        found.append(certified_accuracy(read.multi_sigma[0], own["radius"].to_numpy()))
    assert len(found) == 3
    assert np.mean(found, 0).tolist() == pytest.approx(own["value"].tolist(), abs=1e-6)


def test_records_of_the_best_combination_give_its_row_at_each_sigma() -> None:
    paths = [path for path in COMPARED if "consistency" in path]
    frames = [records.read(Path(path) / "records.parquet").to_pandas() for path in paths]
    assert [set(frame["model"]) for frame in frames] == [{load_model(path).sha256} for path in paths]
    cells = pd.read_csv(ROOT / "results" / "comparison_desk" / "tables" / "comparison.csv")
    own = cells[(cells["row"] == "mixed noise → consistency, σ 0.5") & (cells["measure"] == "certified")]
    own = own[~own["oracle"]]
    assert len(own) == 15
    for sigma, at in own.groupby("sigma"):
        radii = [certified_radius(frame[frame["sigma"] == sigma]) for frame in frames]
        found = np.mean([certified_accuracy(each, at["radius"].to_numpy()) for each in radii], 0)
        assert found.tolist() == pytest.approx(at["value"].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("recipe", "row"),
    [
        ("clean@fast_16", "4 M pretrained, whole network, lr 3e-3"),
        ("clean_fixed@fast_16", "4 M pretrained, last layer, lr 3e-3"),
    ],
)
def test_records_of_mixed_noise_then_clean_give_the_row_of_the_table(recipe: str, row: str) -> None:
    (path,) = (path for path in RETAINED if recipe in path)
    frame = records.read(Path(path) / "records.parquet").to_pandas()
    assert set(frame["model"]) == {load_model(path).sha256}
    cells = pd.read_csv(ROOT / "results" / "retention_desk" / "tables" / "retention.csv")
    own = cells[(cells["block"] == "16 epochs") & (cells["row"] == row) & (cells["measure"] == "certified")]
    assert len(own) == 2
    found = certified_accuracy(certified_radius(frame), own["radius"].to_numpy())
    assert found.tolist() == pytest.approx(own["value"].tolist(), abs=1e-6)


def test_pretrained_networks_of_the_transfer_study_scored_what_its_metrics_say() -> None:
    metrics = pd.read_csv(ROOT / "results" / "transfer_desk" / "metrics" / "training.csv")
    assert len(PRETRAINED) == 5
    for path in PRETRAINED:
        run = Path(path).relative_to(MODELS / "transfer_desk")
        scores = metrics[f"train/{run}"].dropna()
        assert read_card(Path(path))["validation_score"] == pytest.approx(scores.iloc[-1], abs=1e-4)
