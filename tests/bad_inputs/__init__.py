"""What people hand in by mistake, and what they are told: the table of test_bad_inputs.py and docs/errors.md."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner


@dataclass(frozen=True)
class Case:
    """One input.

    what: the input, in words.  told: the whole message, or `read: ` and what comes of an input that is fine; `…` stands
    for any text, such as a path or what a library says.  use: hands the input in, from an empty working directory; it
    raises the message or returns what comes of it.
    """

    what: str
    told: str
    use: Callable[[], object]


class Code:
    """Pickled, it touches a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        from pathlib import Path

        return (Path("ran").touch, ())


def command(*arguments: Any) -> str:
    """What a command prints.  Raises ValueError with the last line of what it says when it fails."""
    from transmooth.cli.main import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError("a traceback") from done.exception
    if done.exit_code:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    return done.stdout
