"""docs/models.md: its table is made of cards and records."""

import runpy
from pathlib import Path

from tests.conftest import NETWORK, ROOT
from tests.helpers.records import row, table
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.models.build import Network
from transmooth.records import table as records


def test_a_row_has_what_card_and_records_say(network: Network, tmp_path: Path) -> None:
    card = {"network": NETWORK.dump(), "classes": list("0123456789"), "mean": [0.5] * 3, "std": [0.25] * 3, "size": 8}
    card |= {"spec": {"sigmas": [0.0, 0.25]}, "test": {"images": 8, "correct": 6}}
    for folder in (
        "smoke/train/layer_norm/mixed@upstream/0",
        "desk/train/layer_norm/mixed@upstream/clean@downstream/1",
        "desk/train/layer_norm/clean@upstream/clean@downstream/0",
    ):
        weights.save(tmp_path / folder, network, card)
    rows = [row(index, sigma, radius=0.3) for index in range(4) for sigma in (0.25, 0.5)]
    wrong = [row(index, 1.0, radius=2.0, prediction=index) for index in range(4)]
    records.write(
        table(*rows, *wrong),
        tmp_path / "desk/evaluate/layer_norm/mixed@upstream/clean@downstream/1/certify/records.parquet",
    )
    page = runpy.run_path(str(ROOT / "docs" / "models.py"))["page"](tmp_path)
    shown = [line for line in page.splitlines() if line.startswith("| `results/")]
    sha = read_card(tmp_path / "smoke/train/layer_norm/mixed@upstream/0")["weights_sha256"][:12]
    clean = "layer | 8 | 0, 0.25 | 75.0 [35, 97]"
    assert shown == [
        f"| `results/smoke/train/layer_norm/mixed@upstream/0` | {clean} | – | – | – | `{sha}` |",
        f"| `results/desk/train/layer_norm/mixed@upstream/clean@downstream/1` | {clean} "
        f"| 100.0 [40, 100] | 0.0 [0, 60] | 25.0 [1, 81] | `{sha}` |",
    ]
    assert page.count("<!--") == 2
    assert "## What they are for" in page
