"""What all commands share: help, version, completion, and how they end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.calls import call, fault
from transmooth import __version__
from transmooth.cli.main import COMMANDS
from transmooth.records import logs

BIN = Path(sys.executable).parent


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    made = os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment
    return subprocess.run(command, env=made, capture_output=True, text=True, timeout=120)


def test_the_help_tells_the_commands_in_the_order_of_the_story() -> None:
    text = call("--help").stdout
    listed = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == [*COMMANDS, "leaderboard", "job"]
    assert "..." not in text.split("Commands:")[1]  # no summary is cut


def test_it_starts_as_a_module_and_as_a_command_without_torch() -> None:
    for command in ([str(BIN / "transmooth")], [sys.executable, "-m", "transmooth"]):
        done = run(*command, "--version")
        assert (done.returncode, done.stdout) == (0, f"transmooth {__version__}\n")
    check = "import sys, transmooth.cli.main; sys.exit(not {'torch', 'pandas', 'scipy'}.isdisjoint(sys.modules))"
    assert run(sys.executable, "-c", check).returncode == 0


def test_ctrl_c_while_the_modules_are_imported_ends_in_a_word(tmp_path: Path) -> None:
    tmp_path.joinpath("typer.py").write_text("raise KeyboardInterrupt")
    made = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    for command in ([str(BIN / "transmooth")], [sys.executable, "-m", "transmooth"]):
        done = run(*command, "--version", **made)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_every_command_keeps_the_memory_that_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("transmooth.runtime.memory.keep", lambda: kept.append(True))
    call("train", "--help")
    assert kept == [True]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("transmooth exp", ["export-log"]),
        ("transmooth certify --method s", ["sequential"]),
        ("transmooth finetune --tr", ["--trainable"]),
    ],
)
def test_shells_complete_commands_options_and_choices(words: str, offered: list[str]) -> None:
    count = str(len(words.split()) - 1)
    done = run(str(BIN / "transmooth"), _TRANSMOOTH_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert done.stdout.split() == offered


def test_exit_statuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such command" in call("certfy", status=2).stderr
    assert "Missing option '--radius'" in call("compare", "a", "b", status=2).stderr
    assert fault("accuracy", tmp_path / "no.tsv").startswith("transmooth: ")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "read_any", stopped)
    done = call("accuracy", tmp_path / "no.tsv", status=130)
    assert (done.stdout, done.stderr) == ("", "stopped\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0"], "should be numbers > 0 with commas between, such as 0.001,0.003; found '0'"),
        (["--sigmas", "-1"], "should be numbers >= 0"),
        (["--epochs", "0"], "should be greater than or equal to 1"),
        (["--options", "[1]"], "should be a JSON object, found '[1]'"),
    ],
)
def test_wrong_values_are_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = call("train", tmp_path, "--out", tmp_path / "out", *arguments, status=2)
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
