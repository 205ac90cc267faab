"""Show certification logs side by side, add one."""

from pathlib import Path
from typing import Annotated

import typer

from transmooth.cli.logs import Log
from transmooth.cli.options import faults_in_one_line

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=__doc__)


@app.command()
def show(
    dataset: Annotated[str | None, typer.Option(help="Only its logs, such as cifar10.")] = None,
    sort: Annotated[str, typer.Option(metavar="acr|RADIUS", help="By ACR, or by certified accuracy.")] = "acr",
    file: Annotated[Path, typer.Option(help="The leaderboard.")] = Path("params/leaderboard.csv"),
) -> None:
    """Show the logs of a leaderboard, those that certify most first.

    In a checkout that is params/leaderboard.csv. Certified accuracy is in percent, alpha and n are as audited.

    \b
    Examples:
      transmooth leaderboard show --dataset cifar10
      transmooth leaderboard show --dataset imagenet --sort 0.5
    """
    with faults_in_one_line():
        from transmooth.report import leaderboard
        from transmooth.report.terminal import show_table

        radius = None if sort == "acr" else _radius(sort, leaderboard.RADII)
        rows = leaderboard.ranked(leaderboard.read(file), radius)
        datasets = sorted({row.dataset for row in rows})
        if dataset is not None and dataset not in datasets:
            raise ValueError(f"{file}: holds no logs of {dataset!r}; there are those of {', '.join(datasets)}")
        for name in datasets if dataset is None else [dataset]:
            show_table(name, *leaderboard.shown([row for row in rows if row.dataset == name]))


def _radius(text: str, radii: tuple[float, ...]) -> float:
    try:
        return radii[radii.index(float(text))]
    except ValueError:
        shown = ", ".join(f"{radius:g}" for radius in radii)
        raise ValueError(f"--sort: should be acr or one of {shown}; found {text!r}") from None


@app.command()
def add(
    log: Log,
    method: Annotated[str, typer.Option(help="How the network was trained, such as SmoothAdv.")],
    dataset: Annotated[str, typer.Option(help="Of the images, such as cifar10.")],
    network: Annotated[str, typer.Option(help="Such as ResNet-110.")],
    paper: Annotated[str, typer.Option(help="The publication that the log belongs to.")] = "",
    sigma: Annotated[
        float | None, typer.Option(help="Of a log whose radii do not tell; which records, of several sigmas.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="The leaderboard to add it to, a new one if not there.")] = None,
) -> None:
    """Print a log's row of the leaderboard, and add it to a file.

    Its numbers are those of the log; alpha, n and sigma those that can have made its radii, as `transmooth audit` finds
    them. A log that the file has already, whatever its name, is refused.

    \b
    Example:
      transmooth leaderboard add log.tsv --sigma 0.25 --method Gaussian --dataset cifar10 --network ResNet-110 \\
          --file mine.csv
    """
    with faults_in_one_line():
        from transmooth.report import leaderboard

        row, notes = leaderboard.measure(log, method, network, dataset, paper, sigma)
        if file is not None:
            leaderboard.append(row, file)
    typer.echo(row.line())
    for note in notes:
        typer.echo(f"note: {note}", err=True)
