"""docs/desk.md: its tables are made of the study's tables and the paper's numbers."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from transmooth.params.load import load
from transmooth.plan import Plan


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
    key = "Full-Network;pretrain=mixed;finetune=clean;epochs=default"
    row = {"block": "Full network", "row": "mixed → clean", "published": key, "sigma": None, "oracle": False}
    ours = row | {"column": "clean", "value": clean, "images": 10_000}
    smoothed = row | {"column": "certified@0.25", "value": certified, "images": 500, "sigma": 0.25, "chance": 0.1}
    # A line at one sigma, another column, and a row that the paper does not have, are not shown.
    rows = [ours, smoothed, smoothed | {"oracle": True}, row | {"column": "acr", "value": 0.1, "images": 500}]
    rows += [line | {"row": "ours", "published": None} for line in rows]
    folder = tmp_path / "desk" / "tables"
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "table1.csv", index=False)
    table = Plan(load("desk", ROOT)).table_spec("table1")
    text = runpy.run_path(str(ROOT / "docs" / "desk.py"))["beside"](tmp_path, table)
    assert text.splitlines()[2:] == [
        "|  | Clean, here | paper | ε = 0.25, here | paper |",
        "| --- | --- | --- | --- | --- |",
        f"| Full network: mixed → clean | {shown} |",
        "| chance: one answer for all images | 10.0 | – | 10.0 | – |",
    ]


def test_what_is_at_chance_in_both_is_no_agreement() -> None:
    quoted = runpy.run_path(str(ROOT / "docs" / "desk.py"))["_quoted"]
    assert quoted("10.1", (0.08, 0.13), 500, 0.1) == "10.1"
    assert quoted("15.1", (0.08, 0.13), 500, 0.1) == "15.1"
    assert quoted("10.1", (0.11, 0.16), 500, 0.1) == "10.1"
    assert quoted("15.1", (0.11, 0.16), 500, 0.1) == "**15.1**"


def test_the_page_is_that_of_the_shipped_tables() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "desk.py"))["page"](ROOT / "results")
    assert made == (ROOT / "docs" / "desk.md").read_text(), "python docs/desk.py"
