"""How a job ends before it is done: by a signal, or because the run that started it is gone.

The Snakefile holds a lock for as long as its run lives.  A job whose run or parent is gone ends as if
it had got SIGTERM.  So no unseen job goes on in a folder that the next run writes to.
"""

import atexit
import ctypes
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO

RUN = "TRANSMOOTH_RUN"  # the environment variable that names the file which the run keeps locked
STOPPED = "TRANSMOOTH_STOPPED"  # the one that has the exit status of a run that a signal ended
POLL = 0.2  # seconds
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h

_stop_requested = False
_raised = False


def hold_run_lock(path: Path) -> IO[str]:
    """Keep the run's lock `path`, and pass its name to the jobs that are started from now on.

    The lock goes with this process, or when the file that is returned is closed: then the jobs end.
    """
    import fcntl  # which Windows has not, nor studies

    lock = path.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.environ[RUN] = str(path)
    return lock


def end_with_run() -> None:
    """In a job: from now on a thread sends SIGTERM to this process once its run, or its parent, is gone.

    Nothing happens in a process that was started by hand: `nohup` is to outlive its shell.
    """
    run: int | None = None
    with suppress(KeyError, OSError):  # no run, or one on another machine
        run = os.open(os.environ[RUN], os.O_RDWR)
    if run is not None or "RANK" in os.environ:  # one of several processes has `accelerate launch` above it
        _ask_for_signal_at_parents_death()
        threading.Thread(target=_wait, args=(run, os.getppid()), daemon=True).start()


def _ask_for_signal_at_parents_death() -> None:
    """Have Linux send SIGTERM the moment the parent is gone; elsewhere the thread finds out within POLL.

    A short job would else be done before that, and write outputs that Snakemake has just removed.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(run: int | None, parent: int) -> None:
    import fcntl

    while os.getppid() == parent:
        with suppress(BlockingIOError):
            if run is not None:
                fcntl.flock(run, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def raise_on_signals() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, as Ctrl-C does; whichever comes later is ignored.

    A job gets the signal twice when a terminal and its run both send it: the second must not disturb the cleaning up,
    nor the end of the interpreter, which has no handlers by then.
    """
    global _raised
    _raised = False
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    global _raised
    # Not SIG_IGN from here on: of two at once the second is noted already, and Python shows a traceback of such a one.
    if _raised:
        return
    _raised = True
    atexit.register(_ignore_signals)
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def end_on_ctrl_c() -> None:
    """From now on, until `interrupt_on_ctrl_c`, Ctrl-C ends this process in a word: while it plans there is no work."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_on_ctrl_c() -> None:
    """Take back `end_on_ctrl_c`."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped; the same command starts anew\n")  # print could be interrupted within itself
    os._exit(128 + number)


def stop_at_next_save() -> None:
    """From now on SIGTERM and Ctrl-C do no more than make `stop_requested` true.

    For work that asks, and saves before it ends.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    global _stop_requested
    _stop_requested = True


def stop_requested() -> bool:
    """Return whether a signal has come since `stop_at_next_save`."""
    return _stop_requested
