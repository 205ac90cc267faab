"""Start jobs warm: one process imports torch and timm, every job is a fork of it.

Those imports cost some 9 s of CPU time a process (torch 2.15), more than a small job.  The Snakefile starts the server
for a run, or for the jobs of one allocation on a node of a cluster, and it ends with them.  A job asks it through a
socket (see transmooth.runtime.fork_client), and starts by itself when there is none or it was killed.  A job of the
server has the client's arguments, folder, environment and standard streams; it ends when the client does, or is
gone.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path


def serve(address: Path) -> None:
    """Answer requests until standard input closes, which happens when the process that started the server ends."""
    threading.Thread(target=_end_with, args=(sys.stdin.buffer.read,), daemon=True).start()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no code waits for the forks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it with the run, whose end is its own
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        server.listen(64)  # a client that comes during the imports waits in line
        while True:
            connection, _ = server.accept()
            # With the first job, not before it: a server without jobs costs nothing.
            import transmooth.records.table
            import transmooth.smoothing.chunks
            import transmooth.training.loop  # noqa: F401

            with warnings.catch_warnings():
                # From 3.12 on Python warns: of the thread that waits for the end, which holds no lock that a job needs.
                warnings.simplefilter("ignore", DeprecationWarning)
                forked = os.fork()
            if forked == 0:
                server.close()
                _job(connection)
            connection.close()


def _job(connection: socket.socket) -> None:
    """In a fork of its own: become the client's process, tell it the exit status, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(size, "little")))
    for target, source in enumerate(streams):
        os.dup2(source, target)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    connection.sendall(b"+")  # taken: from here on the client waits for the status
    _end_with_client(connection)

    from transmooth.cli.main import app
    from transmooth.cli.options import STOPPED

    status = 1
    try:
        try:
            app(request["arguments"])
            status = 0
        finally:
            for number in (
                signal.SIGTERM,
                signal.SIGINT,
            ):  # the client ends by itself: the server need not end, or print
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        status = STOPPED
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(ConnectionError):  # the client may be gone
        connection.sendall(bytes([status]))
    os._exit(status)


def _end_with_client(connection: socket.socket) -> None:
    """Send this process SIGTERM once the client ends or is gone.

    Linux sends it while the client dies, before anybody can learn of its death: Snakemake then removes the outputs, and
    what a job wrote after that would be taken for done.  A thread, elsewhere, waits for the interpreter first.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        threading.Thread(target=_end_with, args=(lambda: connection.recv(1),), daemon=True).start()
        return
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([connection], [], [], 0)[0]:  # it went before that
        os.kill(os.getpid(), signal.SIGTERM)


def _end_with(block: object) -> None:
    """End this process once `block()` returns: the process at the other end has ended, or asks for it."""
    assert callable(block)
    with suppress(ConnectionError):
        block()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
