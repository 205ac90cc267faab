"""What several commands ask for, and how their faults end."""

import io
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

LISTS = ("--radii", "--sigmas", "--sigma", "--threshold", "--mean", "--std", "--indices")
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
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"should be a JSON object, found {text[:200]!r}")
    return value


def _numbers(text: str) -> dict[str, float]:
    """Number by what was typed for it."""
    parts = re.split(r"\s*,\s*|\s+", text.strip())
    return dict(zip(parts, _in_order(text), strict=True))


def _in_order(text: str) -> list[float]:
    """Numbers in the order in which they were typed."""
    try:
        numbers = [float(part) for part in re.split(r"\s*,\s*|\s+", text.strip())]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < float("inf") for number in numbers):
        raise typer.BadParameter(
            f"should be numbers >= 0 with commas or spaces between, such as 0,0.25,0.5; found {text!r}"
        )
    return numbers


def _channels(text: str) -> tuple[float, ...]:
    """Numbers, as many as there are."""
    try:
        return tuple(float(part) for part in re.split(r"\s*,\s*|\s+", text.strip()))
    except ValueError:
        raise typer.BadParameter(f"should be a number for each channel, such as 0.5,0.5,0.5; found {text!r}") from None


def joined(arguments: Sequence[str]) -> list[str]:
    """Arguments with all numbers of an option of LISTS in one: `--radii 0 0.25` and `--radii 0 --radii 0.25` too."""
    made: list[str] = []
    place: dict[str, int] = {}  # of the numbers of an option
    for argument in arguments:
        option = made[-1] if made and made[-1] in LISTS else None
        if option in place:
            made.pop()
            made[place[option]] += f",{argument}"
        elif len(made) > 1 and made[-2] in LISTS and NUMBER.fullmatch(argument) and _is_list(made[-1]):
            made[-1] += f",{argument}"
        else:
            if option is not None:
                place[option] = len(made)
            made.append(argument)
    return made


def _is_list(text: str) -> bool:
    return all(NUMBER.fullmatch(part) for part in text.split(","))


class Command(TyperCommand):
    """A command whose lists are given once: of two, the first would be dropped without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.  Wrong usage where a list, or the sigma, is there twice."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for option in order:
            if option.opts[0] in LISTS and order.count(option) > 1:
                raise typer.BadParameter(
                    "is there twice; several numbers go in one, with commas",
                    param_hint=f"'{option.opts[0]}'",
                )
        return super().parse_args(ctx, args)


def was_given(context: typer.Context, name: str) -> bool:
    """Return whether an option was given, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def print_anything() -> None:
    """From now on a character that a terminal's encoding has not is shown by its number, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
SigmaList = Annotated[
    Any,
    typer.Option(
        parser=_in_order,
        metavar="S,S,…",
        help="Standard deviation of the noise, on images in [0, 1]; several, for cascade and its like in their order.",
    ),
]
Thresholds = Annotated[
    Any,
    typer.Option(
        "--threshold",
        parser=_in_order,
        metavar="T,T,…",
        help="Of a classifier of several sigmas: one for each --sigma; else 0.",
    ),
]
Channels = Annotated[
    Any,
    typer.Option(
        parser=_channels, metavar="X,X,X", help="Of the channels in [0, 1], as a network of timm was trained."
    ),
]
TimmOptions = Annotated[
    Any,
    typer.Option(
        "--options", parser=json_object, metavar="JSON", help='Keywords of a network of timm, such as {"img_size": 64}.'
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(help="Names of the network's classes in its order, one a line: images may be of some of them."),
]
Sigma = Annotated[float, typer.Option(help="Standard deviation of the noise, on images in [0, 1].")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise, and of whatever else is random.")]
Size = Annotated[int | None, typer.Option(min=1, help="Resize and crop to squares of this side; else as they are.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
