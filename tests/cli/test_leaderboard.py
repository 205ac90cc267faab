"""`transmooth leaderboard`: logs side by side, and one more."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.calls import call, fault
from tests.helpers.records import row, table
from transmooth.records import table as records
from transmooth.report.leaderboard import read

BOARD = ROOT / "params" / "leaderboard.csv"


def test_show_ranks_the_logs_of_each_dataset() -> None:
    lines = call("leaderboard", "show", "--dataset", "imagenet", "--file", BOARD).stdout.splitlines()
    rows = [each for each in read(BOARD) if each.dataset == "imagenet"]
    assert lines[0] == "imagenet"
    assert len(lines) == 2 + len(rows)
    head = lines[1]
    acrs = [float(line[head.index("ACR") :].split()[0]) for line in lines[2:]]
    assert acrs == sorted(acrs, reverse=True)
    by_radius = call("leaderboard", "show", "--dataset", "imagenet", "--file", BOARD, "--sort", "0.50").stdout
    shares = [float(line[head.index("0.5 ") :].split()[0]) for line in by_radius.splitlines()[2:]]
    assert shares == sorted(shares, reverse=True) != acrs
    everything = call("leaderboard", "show", "--file", BOARD).stdout.splitlines()
    assert [line for line in everything if " " not in line] == ["cifar10", "cifar100", "fmnist", "imagenet", "mnist"]
    assert len(everything) == 5 * 2 + len(read(BOARD))


def test_a_terminal_has_rules_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for columns, ruled in (("200", True), ("80", False)):
        monkeypatch.setenv("COLUMNS", columns)
        text = call("leaderboard", "show", "--dataset", "mnist", "--file", BOARD).stdout
        assert ("┃" in text) == ruled
        assert text.count("Jeong et al. 2023") == 3  # nothing is cut


def test_show_says_what_there_is_to_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fault("leaderboard", "show", "--file", BOARD, "--dataset", "svhn")
    assert "holds no logs of 'svhn'; there are those of cifar10, cifar100, fmnist, imagenet, mnist" in told
    for sort in ("0.3", "ACR"):
        told = fault("leaderboard", "show", "--file", BOARD, "--sort", sort)
        assert f"--sort: should be acr or one of 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3; found '{sort}'" in told
    monkeypatch.chdir(tmp_path)
    assert "params/leaderboard.csv: no such file; a checkout has it, --file names another" in fault(
        "leaderboard", "show"
    )


def test_add_prints_the_row_and_appends_it_once(tmp_path: Path) -> None:
    path, file = tmp_path / "records.parquet", tmp_path / "mine.csv"
    records.write(table(*(row(i, 0.25, radius=r, n=100_000) for i, r in enumerate([0.953, 0.25]))), path)
    add = ["leaderboard", "add", path, "--method", "Gaussian", "--dataset", "cifar10", "--network", "net"]
    done = call(*add)
    assert done.stdout.startswith(",Gaussian,net,cifar10,0.25,0.001,100000,2,0.0,0.953,0.6015,1.0,1.0,0.5,0.5,0.0,")
    assert done.stdout.count("\n") == 1
    assert not file.exists()
    assert call(*add, "--file", file).stdout == done.stdout == f"{read(file)[0].line()}\n"
    assert f"{file}, line 3: the log {read(file)[0].sha256} is in line 2 already" in fault(*add, "--file", file)
    assert len(read(file)) == 1
    call("export-log", path, tmp_path / "log.tsv")
    add[2] = tmp_path / "log.tsv"
    assert "is in line 2 already" in fault(*add, "--file", file)
    records.write(table(*(row(i, 0.25, radius=r) for i, r in enumerate([0.317, 0.25]))), path)
    add[2] = path
    assert "note: alpha and n stay empty" in call(*add).stderr
