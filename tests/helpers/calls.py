"""Calls of the command line in this process."""

from typing import Any

from typer.testing import CliRunner

from transmooth.cli.main import app


def call(*arguments: Any, status: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, (done.output, done.exception)
    return done


def fault(*arguments: Any) -> str:
    """The one line on stderr that a fault ends with."""
    done = call(*arguments, status=1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return str(done.stderr)
