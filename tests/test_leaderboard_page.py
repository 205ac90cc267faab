"""docs/leaderboard.md: its tables are those of params/leaderboard.csv."""

import runpy
from pathlib import Path

from tests.conftest import ROOT
from tests.report.test_leaderboard import board, line

SCRIPT = str(ROOT / "docs" / "leaderboard.py")


def test_the_page_is_that_of_the_shipped_leaderboard() -> None:
    made = runpy.run_path(SCRIPT)["page"](ROOT / "params" / "leaderboard.csv")
    assert made == (ROOT / "docs" / "leaderboard.md").read_text(), "python docs/leaderboard.py"


def test_a_log_has_its_shares_intervals_and_places(tmp_path: Path) -> None:
    low = {"alpha": "", "n": "", "largest_radius": "0.4", "at_0.5": "0.0", "at_0.75": "0.0", "acr": "0.24"}
    other = line(sha256="b" * 16, method="B", network="", also="c/d@1:e", **{"at_0": "0.8", "at_0.25": "0.8"}, **low)
    elsewhere = line(sha256="c" * 16, dataset="mnist", method="C")
    page = runpy.run_path(SCRIPT)["page"](board(tmp_path / "board.csv", other, line(), elsewhere))
    tables = [part.splitlines()[4:] for part in page.split("\n## ")[1:]]
    most = "80.0 [28.4, 99.5] | 80.0 [28.4, 99.5]"
    half, log = "20.0 [0.5, 71.6]", "[Paper](https://github.com/a/b/blob/c0ffee/d/e)"
    first = f"60.0 [14.7, 94.7] | 60.0 [14.7, 94.7] | {half} | {half}"
    assert tables[0][:2] == [
        f"| 1 | Gaussian | net | 0.25 | 0.001 | 100000 | 5 | 0.301 | {first}{' | –' * 6} | {log} |",
        f"| 2 | B | – | 0.25 | – | – | 5 | 0.240 | {most}{' | –' * 8} | {log}, also in c/d |",
    ]
    assert tables[1][1:4] == [
        "| 0.25 | 80.0 [28.4, 99.5] B, σ 0.25 (2) | 60.0 [14.7, 94.7] Gaussian, σ 0.25 (1) |  |  |  |",
        f"| 0.5 | {half} Gaussian, σ 0.25 (1) |  |  |  |  |",
        f"| 0.75 | {half} Gaussian, σ 0.25 (1) |  |  |  |  |",
    ]
    assert "C, σ" not in page
