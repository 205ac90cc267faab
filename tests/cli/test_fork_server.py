import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.processes import gone
from transmooth.runtime import fork_client

# A server whose jobs are told what to do by a tiny command line of their own: no torch, so the test is fast.
SERVER = """
import ctypes, operator, sys, types, time, os, signal
from collections import deque
from functools import partial
def app(arguments):
    what = arguments[0]
    if what == "say":
        print(os.environ["WORD"], os.getcwd(), flush=True)
    if what == "exit":
        sys.exit(int(arguments[1]))
    if what == "fail":
        raise ValueError("this went wrong")
    if what == "tidy":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    if what == "busy":  # in C code that keeps the interpreter, as imports do, then it writes its output
        open(arguments[1], "w").write(str(os.getpid()))
        library, paths = ctypes.PyDLL(None), map(os.fsencode, arguments[1:])
        calls = [partial(library.usleep, 500_000), partial(library.rename, *paths)]
        deque(map(operator.call, calls), maxlen=0)  # no bytecode between them, where a thread could step in
    if what in ("sleep", "tidy"):
        open(arguments[1], "w").write(str(os.getpid()))
        time.sleep(60)
for name in ("training.loop", "records.table", "smoothing.chunks"):
    sys.modules[f"transmooth.{name}"] = types.ModuleType(f"transmooth.{name}")
from pathlib import Path
from transmooth.cli import main
from transmooth.cli.fork_server import serve
main.app = app
serve(Path(sys.argv[1]))
"""
CLIENT = "import sys; from transmooth.runtime import fork_client; sys.exit(fork_client.run(sys.argv[1:]))"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    address = tmp_path / "socket"
    made = os.environ | {"PYTHONPATH": str(ROOT / "src"), fork_client.ADDRESS: str(address)}
    with subprocess.Popen([sys.executable, "-c", SERVER, str(address)], stdin=subprocess.PIPE, env=made) as server:
        while not address.exists():
            time.sleep(0.01)
        yield made
        assert server.stdin
        server.stdin.close()
        assert server.wait(10) == -signal.SIGTERM  # it ends with the process that started it


def client(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_job_has_the_environment_folder_and_streams_of_its_client(environment: dict[str, str]) -> None:
    with client(environment | {"WORD": "hello"}, "say") as process:
        out, _ = process.communicate(timeout=20)
    assert out.split() == ["hello", os.getcwd()]
    assert process.returncode == 0


@pytest.mark.parametrize(("arguments", "status"), [(["exit", "3"], 3), (["exit", "0"], 0), (["fail"], 1)])
def test_the_exit_status_and_the_traceback_arrive(
    environment: dict[str, str], arguments: list[str], status: int
) -> None:
    with client(environment, *arguments) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert ("this went wrong" in err) == (arguments == ["fail"])


@pytest.mark.parametrize("victim", ["client", "job"])
def test_job_and_client_do_not_outlive_each_other(environment: dict[str, str], tmp_path: Path, victim: str) -> None:
    with client(environment, "sleep", str(tmp_path / "pid")) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        job = int((tmp_path / "pid").read_text())
        os.kill(process.pid if victim == "client" else job, signal.SIGKILL)
        process.communicate(timeout=20)
    assert process.returncode == (-signal.SIGKILL if victim == "client" else 1)
    assert gone(job)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread tells the job, a little later")
def test_a_job_writes_nothing_once_its_client_is_dead(
    environment: dict[str, str], tmp_path: Path, killed: bool
) -> None:
    with client(environment, "busy", str(tmp_path / "pid"), str(tmp_path / "output")) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        job = int((tmp_path / "pid").read_text())
        if killed:
            process.kill()
        process.communicate(timeout=20)
    assert gone(job)
    assert (tmp_path / "output").exists() != killed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_tells_the_client_to_end_waits_for_what_the_job_says(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with client(environment, "tidy", str(tmp_path / "pid")) as process:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert "Traceback" not in err


def test_a_job_that_the_server_did_not_take_starts_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(fork_client.ADDRESS, str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        dying = threading.Thread(target=lambda: server.accept()[0].close())
        dying.start()
        assert fork_client.run(["say"]) is None
        dying.join()


def test_without_a_server_the_job_starts_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(fork_client.ADDRESS, raising=False)
    assert fork_client.run(["say"]) is None
    monkeypatch.setenv(fork_client.ADDRESS, str(tmp_path / "nobody"))
    assert fork_client.run(["say"]) is None
