"""Have the fork server run a job: see transmooth.cli.fork_server.  Nothing is imported here that takes time."""

import json
import os
import signal
import socket
from contextlib import suppress
from typing import Any

ADDRESS = "TRANSMOOTH_WARM"  # the environment variable that names the socket


def run(arguments: list[str]) -> int | None:
    """Have the server run `transmooth ARGUMENTS`; its exit status, or None when no server takes the job."""
    if ADDRESS not in os.environ:
        return None
    with socket.socket(socket.AF_UNIX) as connection:

        def pass_on(*signal_and_frame: Any) -> None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)  # the job sees it, and we wait for its end

        request = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        try:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [len(request).to_bytes(8, "little")], [0, 1, 2])
            connection.sendall(request)
            if not connection.recv(1):
                return None  # the server ended before it came to us
        except OSError:
            return None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        status = b""
        with suppress(ConnectionError):
            status = connection.recv(1)
    return status[0] if status else 1  # no status: the job was killed
