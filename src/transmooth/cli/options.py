"""What several commands ask for, and how their faults end."""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

LISTS = ("--radii", "--sigmas")
NUMBER = re.compile(r"[\d.]+(?:e[+-]?\d+)?")
STOPPED = 130  # the exit status of what Ctrl-C ended, as shells have it


@contextmanager
def faults_in_one_line() -> Iterator[None]:
    """End with one line and status 1 for a fault that can be expected, with status 130 for Ctrl-C."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has enough of it
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "transmooth":
            raise
        _fault(f"needs the package {error.name}: in a checkout, pip install -e '.[workflow]' brings it")
    except (ValueError, OSError) as error:
        _fault(error)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(STOPPED) from None


def _fault(message: object) -> None:
    typer.echo(f"transmooth: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(1)


def print_export_notes(log: Path, notes: Sequence[str]) -> None:
    """Tell on stderr what the reader of a log should know and its format has no place for."""
    if notes:
        typer.echo(f"note: {log} cannot say so, but: {'; '.join(notes)}", err=True)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object as a dict; wrong usage for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"should be a JSON object, found {text!r}")
    return value


def _numbers(text: str) -> dict[str, float]:
    """Number by what was typed for it."""
    try:
        numbers = {part.strip(): float(part) for part in re.split(r"\s*,\s*|\s+", text.strip())}
    except ValueError:
        numbers = {}
    if not numbers or not all(0 <= number < float("inf") for number in numbers.values()):
        raise typer.BadParameter(
            f"should be numbers >= 0 with commas or spaces between, such as 0,0.25,0.5; found {text!r}"
        )
    return numbers


def joined(arguments: Sequence[str]) -> list[str]:
    """Arguments with the numbers after --radii or --sigmas in one: `--radii 0 0.25` is `--radii 0,0.25`."""
    made: list[str] = []
    for argument in arguments:
        if len(made) > 1 and made[-2] in LISTS and NUMBER.fullmatch(argument):
            made[-1] += f",{argument}"
        else:
            made.append(argument)
    return made


def warn_in_one_line() -> None:
    """From now on show a warning as a note: what it says, not where in the code."""

    def show(
        message: Warning | str, category: object, filename: str, lineno: int, file: object = None, line: object = None
    ) -> None:
        typer.echo(f"note: {' '.join(str(message).split())}", err=True)

    warnings.showwarning = show


Radii = Annotated[Any, typer.Option(parser=_numbers, metavar="R,R,…", help="Radii, such as 0,0.25,0.5.")]
Sigmas = Annotated[
    Any,
    typer.Option(
        parser=_numbers, metavar="S,S,…", help="Noise to train with: each image gets one of these, 0 is clean."
    ),
]
Sigma = Annotated[float, typer.Option(help="Standard deviation of the noise, on images in [0, 1].")]
SeveralSigmas = Annotated[
    list[float],
    typer.Option(
        "--sigma",
        help="Standard deviation of the noise, on images in [0, 1]; of cascade and margin several, in their order.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise, and of whatever else is random.")]
Size = Annotated[int | None, typer.Option(min=1, help="Resize and crop to squares of this side; else as they are.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
