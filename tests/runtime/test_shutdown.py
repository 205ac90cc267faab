import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.processes import gone
from transmooth.runtime import shutdown

# A run that starts a shell that starts a job.
RUN = """
import subprocess, sys
from pathlib import Path
from transmooth.runtime import shutdown
lock = shutdown.hold_run_lock(Path(sys.argv[1], "run"))
subprocess.run(["bash", "-c", "trap : TERM; $0 -c 'from transmooth.runtime import shutdown; import os, sys, time\\n"
    "shutdown.end_with_run(); open(sys.argv[1], \\"w\\").write(f\\"{os.getpid()} {os.getppid()}\\"); time.sleep(60)'"
    " $1/pids; true", sys.executable, sys.argv[1]])
"""


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in (shutdown.RUN, "RANK")}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


def pids(path: Path) -> tuple[int, int]:
    """A job's own and its parent's, once it watches."""
    while not path.exists() or " " not in path.read_text():
        time.sleep(0.01)
    job, parent = path.read_text().split()
    return int(job), int(parent)


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], env=environment) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("victim", ["run", "shell"])
def test_a_job_ends_with_its_run_and_with_its_parent(run: subprocess.Popen[bytes], tmp_path: Path, victim: str) -> None:
    job, shell = pids(tmp_path / "pids")
    os.kill(run.pid if victim == "run" else shell, signal.SIGKILL)
    assert gone(job)


@pytest.mark.parametrize("rank", [None, "1"])
def test_a_job_that_was_started_by_hand_outlives_its_shell_and_a_rank_does_not(
    tmp_path: Path, environment: dict[str, str], rank: str | None
) -> None:
    code = "from transmooth.runtime import shutdown; import os, sys, time; shutdown.end_with_run(); "
    code += "open(sys.argv[1], 'w').write(f'{os.getpid()} {os.getppid()}'); time.sleep(60)"
    made = environment | ({"RANK": rank} if rank else {})
    shell = subprocess.Popen(
        ["bash", "-c", '"$0" -c "$1" "$2"; true', sys.executable, code, tmp_path / "pids"], env=made
    )
    job, _ = pids(tmp_path / "pids")
    shell.kill()
    shell.wait()
    if rank:
        assert gone(job)
    else:
        time.sleep(5 * shutdown.POLL)
        os.kill(job, signal.SIGKILL)  # it lives, or this raises


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_interrupts_and_the_second_does_not_disturb(
    number: signal.Signals, environment: dict[str, str]
) -> None:
    code = f"""
import os, signal
from transmooth.runtime import shutdown
shutdown.raise_on_signals()
try:
    os.kill(os.getpid(), {int(number)})
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    print("cleaned up")
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("cleaned up\n", 0)


def test_two_signals_at_once_interrupt_once_and_show_no_traceback(environment: dict[str, str]) -> None:
    code = """
import os, signal
from transmooth.runtime import shutdown
shutdown.raise_on_signals()
both = {signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
for each in both:
    os.kill(os.getpid(), each)
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
except KeyboardInterrupt:
    print("cleaned up")
# The last thing of the interpreter, after its handlers are gone: what was registered first ends last.
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), both=tuple(both)):
        for each in both:
            kill(pid, each)
import builtins
builtins.late = Late()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned up\n", "", 0)


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_planning_ends_in_a_word_and_later_interrupts(environment: dict[str, str]) -> None:
    code = """
import os, signal, sys
from transmooth.runtime import shutdown
shutdown.end_on_ctrl_c()
if len(sys.argv) > 1:
    shutdown.interrupt_on_ctrl_c()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    print("not planning")
"""
    command = [sys.executable, "-c", code]
    # Whatever started the tests: of a shell's background the signal would be ignored.
    run = partial(subprocess.run, env=environment, capture_output=True, text=True, preexec_fn=heed_ctrl_c)
    done = run(command)
    assert (done.stdout, done.stderr, done.returncode) == ("", "stopped; the same command starts anew\n", 130)
    done = run([*command, "later"])
    assert (done.stdout, done.returncode) == ("not planning\n", -signal.SIGINT)
    background = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {code[1:]}"  # as a shell has them
    done = run([sys.executable, "-c", background])
    assert (done.stdout, done.returncode) == ("not planning\n", 0)


def test_a_second_signal_does_not_disturb_how_a_run_ends(tmp_path: Path, environment: dict[str, str]) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from transmooth.runtime import session, shutdown
shutdown.end_on_ctrl_c()
session.end_jobs_with_this_process(Path(sys.argv[1]))
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    print("ended", os.environ[shutdown.STOPPED])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ended 130\n", "", 0)


def test_work_that_asks_is_told(environment: dict[str, str]) -> None:
    code = "from transmooth.runtime import shutdown; import os, signal; shutdown.stop_at_next_save(); "
    code += "print(shutdown.stop_requested()); os.kill(os.getpid(), signal.SIGINT); print(shutdown.stop_requested())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_job_is_told_the_moment_its_shell_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shutdown.RUN, "")  # put back afterwards
    told = tmp_path / "told"
    job = f"""
import os, signal, time
from pathlib import Path
from transmooth.runtime import shutdown
shutdown.POLL = 3600
signal.signal(signal.SIGTERM, lambda *_: (Path({str(told)!r}).touch(), os._exit(0)))
shutdown.end_with_run()
print("works", flush=True)
time.sleep(60)
"""
    with shutdown.hold_run_lock(tmp_path / "run"):
        command = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, job]  # `true`: else bash becomes the job
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout is not None
            assert shell.stdout.readline() == "works\n"
            shell.kill()
            deadline = time.monotonic() + 30
            while not told.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
