"""docs/desk.md: its tables are made of the study's tables and the paper's numbers."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("clean", "certified", "shown"),
    [
        (0.5, 0.3, "50.0 | 98.0 | 30.0 | 71.4"),
        (0.978, 0.3, "97.8 | **98.0** | 30.0 | 71.4"),  # 10 000 images: 97.5 to 98.1 against 97.7 to 98.3
        (0.5, 0.68, "50.0 | 98.0 | 68.0 | **71.4**"),  # 500 images: 63.7 to 72.1 against 67.2 to 75.3
    ],
)
def test_a_row_stands_beside_the_paper_s_and_tells_what_agrees(
    clean: float, certified: float, shown: str, tmp_path: Path
) -> None:
    key = "pretrain=mixed;finetune=clean;epochs=default"
    row = {"block": "Full network", "row": "mixed → clean", "published": f"Full-Network;{key}", "radius": 0.25}
    row |= {"oracle": True, "certified_accuracy": certified, "low": certified - 0.043, "high": certified + 0.041}
    row |= {"clean_accuracy": clean, "clean_images": 10_000}
    # A row at one sigma, and a row that the paper does not have, are not shown.
    rows = [row, row | {"oracle": False}, row | {"row": "ours", "published": None}]
    folder = tmp_path / "desk" / "tables"
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "table1.csv", index=False)
    text = runpy.run_path(str(ROOT / "docs" / "desk.py"))["beside"](tmp_path, 1)
    assert text.splitlines()[2:] == [
        "|  | Clean, here | paper | ε = 0.25, here | paper |",
        "| --- | --- | --- | --- | --- |",
        f"| Full network: mixed → clean | {shown} |",
    ]


def test_the_page_is_that_of_the_shipped_tables() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "desk.py"))["page"](ROOT / "results")
    assert made == (ROOT / "docs" / "desk.md").read_text(), "python docs/desk.py"
