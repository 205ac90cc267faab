"""What ships in models/ is what its tables were made from, and loads from a clone."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from transmooth.checkpoint.inventory import checkpoints
from transmooth.loading.denoisers import load_denoiser
from transmooth.loading.models import load_model
from transmooth.records import table as records
from transmooth.report.accuracy import certified_accuracy, certified_radius

MODELS = ROOT / "models"
CLASSIFIERS = [each.path for each in checkpoints(MODELS) if "denoiser" not in each.what]


def test_nothing_is_damaged_or_too_large_for_a_clone() -> None:
    found = checkpoints(MODELS)
    assert {each.fault for each in found} == {""}
    assert max(each.megabytes for each in found) < 5
    assert sum(each.megabytes for each in found) < 40
    assert len(CLASSIFIERS) == 3
    for each in found:
        if each.path not in CLASSIFIERS:
            load_denoiser(each.path)


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: Path(path).parent.name)
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
