"""Rows of the leaderboard: derived from logs, and refused where no log can have their numbers."""

import csv
import hashlib
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.records import row, table
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.report import leaderboard
from transmooth.report.leaderboard import COLUMNS, RADII, append, measure, ranked, read
from transmooth.smoothing.bounds import radius

BOARD = ROOT / "params" / "leaderboard.csv"
HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
# Right at 0.953, which is what 100 000 samples certify at alpha = 0.001 and sigma = 0.25, at 0.3 and at 0.25; wrong;
# abstained.  ACR: (0.953 + 0.3 + 0.25) / 5.
LINES = ["0 1 1 0.953", "1 1 1 0.3", "2 1 0 0.6", "3 1 -1 0.0", "4 0 0 0.25"]
NUMBERS = "0.25,0.001,100000,5,0.2,0.953,0.3006,0.6,0.6,0.2,0.2,0.0,0.0,0.0,0.0,0.0,0.0"


def log(path: Path, lines: list[str]) -> str:
    """Write a log of `idx label predict radius` and return the first digits of its hash."""
    cells = [line.split() for line in lines]
    rows = ["\t".join([*each, str(int(each[1] == each[2])), "0:00:01"]) for each in cells]
    path.write_text("\n".join([HEADER, *rows, ""]))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def line(**changes: str) -> str:
    """A sound line of a leaderboard, with other cells; 0123456789abcdef is its log's hash."""
    cells = dict(
        zip(COLUMNS, f"Paper,Gaussian,net,cifar10,{NUMBERS},a/b,c0ffee,d/e,0123456789abcdef,".split(","), strict=True)
    )
    return ",".join(
        (cells | {name.replace("at_", "certified_accuracy@"): text for name, text in changes.items()}).values()
    )


def board(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def test_a_row_is_what_one_works_out_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    sha = log(path, LINES)
    made, notes = measure(path, "Gaussian", "ResNet-110", "cifar10", "Cohen et al. 2019")
    assert made.line() == f"Cohen et al. 2019,Gaussian,ResNet-110,cifar10,{NUMBERS},,,{path},{sha},"
    assert notes == []


def test_alpha_and_n_are_empty_where_no_usual_ones_give_the_largest_radius(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    log(path, ["0 1 1 0.917", "1 1 1 0.305"])
    with pytest.raises(ValueError, match=re.escape(f"{path}: its radii saturate at no usual alpha, n and sigma: name")):
        measure(path, "", "", "cifar10")
    made, notes = measure(path, "", "", "cifar10", sigma=0.25)
    assert (made.sigma, made.alpha, made.n, made.largest_radius) == (0.25, None, None, 0.917)
    assert made.line().startswith(",,,cifar10,0.25,,,2,")
    assert notes == ["alpha and n stay empty: the largest radius is that of no usual ones at sigma 0.25"]


def test_a_sigma_at_which_the_radii_cannot_be_is_refused_or_noted(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    log(path, LINES)
    with pytest.raises(
        ValueError, match=re.escape("its largest radius 0.953 is more than sigma = 0.12 gives with any")
    ):
        measure(path, "", "", "cifar10", sigma=0.12)
    made, notes = measure(path, "", "", "cifar10", sigma=0.5)
    assert (made.sigma, made.alpha) == (0.5, None)
    assert notes[1:] == ["its radii saturate at alpha 0.001, n 100000, sigma 0.25"]


def test_records_give_the_row_and_the_hash_of_the_log_that_is_written_of_them(tmp_path: Path) -> None:
    path, exported = tmp_path / "two.parquet", tmp_path / "log.tsv"
    top, second = radius([0, 1], 137, 0.02, 0.25).tolist()  # no usual settings, but the records know theirs
    rows = [row(i, 0.25, radius=r, alpha=0.02, n=137) for i, r in enumerate([top, second])]
    records.write(table(*rows, row(0, 0.5, alpha=0.02, n=137, radius=2 * top)), path)
    with pytest.raises(ValueError, match=r"several sigmas; choose one: 0\.25, 0\.5"):
        measure(path, "", "", "cifar10")
    made, _ = measure(path, "", "", "cifar10", sigma=0.25)
    logs.write(logs.read_any(path, 0.25), exported)
    assert (made.sigma, made.alpha, made.n) == (0.25, 0.02, 137)
    assert made.largest_radius == round(top, 4)
    assert made.sha256 == measure(exported, "", "", "cifar10", sigma=0.25)[0].sha256
    assert made.sha256 != measure(path, "", "", "cifar10", sigma=0.5)[0].sha256
    records.write(table(row(0, method="adaptive")), path)
    with pytest.raises(ValueError, match=r"two\.parquet: an audit is of radii by Cohen's procedure"):
        measure(path, "", "", "cifar10")


def test_a_log_is_added_once_whatever_its_name(tmp_path: Path) -> None:
    path, file = tmp_path / "log.tsv", tmp_path / "new" / "board.csv"
    sha = log(path, LINES)
    made, _ = measure(path, "Gaussian", "net", "cifar10", "A, B & C", sigma=0.25)
    append(made, file)
    assert read(file) == [made]
    before = file.read_bytes()
    assert before.decode() == f"{','.join(COLUMNS)}\n{made.line()}\n"
    assert made.line().startswith('"A, B & C",Gaussian,')
    copy = tmp_path / "copy.tsv"
    copy.write_bytes(path.read_bytes())
    again, _ = measure(copy, "another", "net", "cifar10", sigma=0.25)
    with pytest.raises(ValueError, match=re.escape(f"{file}, line 3: the log {sha} is in line 2 already")):
        append(again, file)
    assert file.read_bytes() == before
    log(path, LINES[:4])
    other, _ = measure(path, "Gaussian", "net", "cifar10", sigma=0.25)
    append(other, file)
    assert read(file) == [made, other]
    assert sorted(each.name for each in file.parent.iterdir()) == ["board.csv"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(-1, 1), st.sampled_from([*RADII, 0.953, 0.12345, 3.1, 3.8]) | st.floats(0, 3.8)),
        min_size=1,
    )
)
def test_the_row_of_any_log_can_be_that_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[tuple[int, float]]
) -> None:
    found = pd.DataFrame({"alpha": [0.001], "n": [1000], "sigma": [1.0], "saturated": [3.0], "verdict": ["possible"]})
    monkeypatch.setattr(leaderboard, "candidates", lambda *_: found)  # which takes its time
    lines = [f"{i} 1 {prediction} {radius if prediction >= 0 else 0}" for i, (prediction, radius) in enumerate(images)]
    path, file = tmp_path / "log.tsv", tmp_path / "board.csv"
    log(path, [*lines, f"{len(lines)} 1 1 0.001"])
    made, _ = measure(path, "", "", "cifar10", sigma=1.0)
    file.unlink(missing_ok=True)
    append(made, file)
    assert read(file) == [made]
    assert file.read_text().splitlines()[1] == made.line()


FAULTS = [
    ({"dataset": ""}, "dataset: should be named, found nothing"),
    ({"method": "a\tb"}, r"method: should be printable text, found 'a\\tb'"),
    ({"sha256": "0123"}, "sha256: should be 16 hex digits, found '0123'"),
    ({"sigma": "0"}, "sigma must be a positive finite number"),
    ({"sigma": "x"}, "sigma: should be a number, found 'x'"),
    ({"n": ""}, "alpha and n: should be both there or both empty, found '0.001' and ''"),
    ({"alpha": ""}, "alpha and n: should be both there or both empty, found '' and '100000'"),
    ({"n": "1e5"}, "n: should be a whole number ≥ 1, found '1e5'"),
    ({"images": "0"}, "images: should be a whole number ≥ 1, found '0'"),
    ({"abstained": "0.3"}, r"abstained: should be a share of 5 images, found 0\.3"),
    ({"abstained": "-0.2"}, r"abstained: should be a share of 5 images, found -0\.2"),
    ({"at_0": "1.2"}, r"certified_accuracy@0: should be a share of 5 images, found 1\.2"),
    ({"at_0.5": "nan"}, r"certified_accuracy@0\.5: should be a share"),
    ({"abstained": "0.6"}, r"abstained and certified_accuracy@0: should be of different images, found 1\.2"),
    ({"at_0.75": "0.4"}, r"certified_accuracy@0\.75: should be at most certified_accuracy@0\.5, found 0\.4 and 0\.2"),
    ({"at_1": "0.2"}, r"certified_accuracy@1: should be 0 beyond the largest radius 0\.953, found 0\.2"),
    ({"largest_radius": "inf"}, "largest_radius: should be a finite number ≥ 0, found inf"),
    # At least 0.25 · 0.6 + 0.25 · 0.2 + 0.25 · 0.2; at most 0.25 · 0.6 + 0.25 · 0.6 + 0.25 · 0.2 + 0.203 · 0.2.
    ({"acr": "0.2496"}, r"acr: should be from 0\.2500 to 0\.3906 by the certified accuracies, found 0\.2496"),
    ({"acr": "0.391"}, r"acr: should be from 0\.2500 to 0\.3906 by the certified accuracies, found 0\.391"),
    ({"largest_radius": "0.954"}, r"largest_radius: should be 0\.9529 by sigma, alpha and n, found 0\.954"),
    ({"alpha": "0.01"}, r"largest_radius: should be 0\.9776 by sigma, alpha and n, found 0\.953"),
    ({"also": "x,y"}, "should have 26 cells, found 27"),
]


@pytest.mark.parametrize(
    ("changes", "message"), FAULTS, ids=lambda each: "-".join(each) if isinstance(each, dict) else ""
)
def test_a_row_that_no_log_can_have_is_refused(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    assert read(board(tmp_path / "sound.csv", line()))
    file = board(tmp_path / "board.csv", line(sha256="f" * 16), line(**changes))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}, line 3: {message}"):
        read(file)


@pytest.mark.parametrize("changes", [{"acr": "0.2500"}, {"acr": "0.3906"}, {"abstained": "0.4"}, {"also": "x"}])
def test_a_row_at_the_edge_is_read(changes: dict[str, str], tmp_path: Path) -> None:
    assert len(read(board(tmp_path / "board.csv", line(**changes)))) == 1


def test_what_is_no_leaderboard_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "board.csv"
    file.write_text("paper,table\n")
    with pytest.raises(ValueError, match=r"board\.csv: should have the columns paper,method,.*; found paper,table$"):
        read(file)
    file.write_bytes(b"\xe9")
    with pytest.raises(ValueError, match=r"board\.csv: should be UTF-8, found the byte 0xe9"):
        read(file)
    file.write_text("")
    with pytest.raises(ValueError, match=r"found $"):
        read(file)
    board(file, line(paper="x" * 200_000))
    with pytest.raises(ValueError, match=r"board\.csv, line 2: field larger than field limit"):
        read(file)


def test_rows_are_ranked_by_acr_or_at_a_radius(tmp_path: Path) -> None:
    low = {"at_0.5": "0.0", "at_0.75": "0.0", "alpha": "", "n": "", "largest_radius": "0.4"}
    rows = read(
        board(
            tmp_path / "board.csv",
            line(method="a", sha256="a" * 16, acr="0.26"),
            line(method="b", sha256="b" * 16, acr="0.24", at_0="0.8", **{"at_0.25": "0.8"}, **low),
            line(method="c", sha256="c" * 16, acr="0.3"),
        )
    )
    assert [row.method for row in ranked(rows)] == ["c", "a", "b"]
    assert [row.method for row in ranked(rows, 0.25)] == ["b", "c", "a"]  # 0.8, and equal ones by ACR
    assert [row.method for row in ranked(rows, 0.5)] == ["c", "a", "b"]
    low_end, high_end = rows[0].interval(0.25)  # 3 of 5
    assert (round(low_end, 4), round(high_end, 4)) == (0.1466, 0.9473)


def test_the_shipped_leaderboard_is_read_and_in_its_own_form() -> None:
    rows = read(BOARD)
    assert [each.line() for each in rows] == BOARD.read_text().splitlines()[1:]
    assert len(rows) == 94
    assert {each.paper for each in rows if each.method == ""} == {"Jeong et al. 2023"}
    for each in rows:
        # The path is the source of what stands before it.
        assert each.dataset in each.path.split("/"), each
        named = {float(text) for text in re.findall(r"(?:noise|noist|sigma)_(\d\.\d+)", each.path)}
        assert named == {each.sigma}, each
        for part, network in (("resnet110", "ResNet-110"), ("resnet50", "ResNet-50")):
            assert part not in each.path or each.network == network
        assert each.also == "" or each.also.split("/")[0] == "alinlab"
    with BOARD.open() as file:
        assert all(each["alpha"] in ("", "0.001", "0.01") for each in csv.DictReader(file))


def test_the_cells_of_a_terminal_say_what_is_not_known(tmp_path: Path) -> None:
    head, (cells,) = leaderboard.shown(read(board(tmp_path / "board.csv", line(network="", alpha="", n=""))))
    assert cells[:8] == ["Gaussian", "–", "0.25", "–", "–", "5", "0.301", "60.0"]
    assert (cells[head.index("0.75")], cells[head.index("3")], cells[-1]) == ("20.0", "0.0", "Paper")
