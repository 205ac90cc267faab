"""The command line: arguments -> one call.  Heavy imports happen inside the command that needs them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
job = typer.Typer(no_args_is_help=True, help="The jobs of the workflow, as its rules call them.")
app.add_typer(job, name="job")


def _spec(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise typer.BadParameter("should be a JSON object")
    return value


Spec = Annotated[Any, typer.Option(parser=_spec, help="What the job is to do, as JSON.", metavar="JSON")]
Data = Annotated[Path, typer.Option(help="Folder of a prepared dataset.")]
Out = Annotated[Path, typer.Option(help="What to write.")]


@app.callback()
def main() -> None:
    """Transfer learning for certified robustness by randomized smoothing."""


@job.command()
def prepare(spec: Spec, base: Annotated[Path, typer.Option(help="Where relative sources start.")], out: Out) -> None:
    """Decode, resize and split a dataset into arrays."""
    from transmooth.data import prepare

    prepare({k: v for k, v in spec.items() if k != "sha256"}, out, base, spec["sha256"])


@job.command()
def train(
    spec: Spec,
    data: Data,
    out: Out,
    init: Annotated[Path | None, typer.Option(help="Checkpoint folder to transfer from.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Longest time between two saves of the state.")] = 300,
) -> None:
    """Pretrain or finetune one network."""
    from transmooth.jobs import threads_per_process
    from transmooth.train import train

    threads_per_process()
    train(spec, data, out, init, checkpoint_seconds)


@job.command()
def certify(
    spec: Spec,
    data: Data,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Out,
    shard: Annotated[str, typer.Option(help="Which part of the test images: K-of-N.")] = "1-of-1",
    batch: Annotated[int, typer.Option(help="Noisy images in one forward pass.")] = 256,
) -> None:
    """Certify a shard of the test images."""
    from transmooth.jobs import certify, threads_per_process

    threads_per_process()
    number, shards = map(int, shard.split("-of-"))
    certify(spec, data, checkpoint, out, number - 1, shards, batch)


@job.command()
def merge(spec: Spec, data: Data, parts: list[Path], out: Out) -> None:
    """Join the shards of a run."""
    from transmooth.jobs import merge

    merge(spec, data, parts, out)


@job.command()
def table(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    out: Annotated[Path, typer.Option(help="What to write, without .csv and .md.")],
    metrics: Annotated[Path, typer.Option(help="Summary for dvc metrics.")],
) -> None:
    """Make a table from records."""
    from transmooth.report.tables import write_table

    write_table(spec, results, published, out, metrics)


@job.command()
def figure(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw a figure from records."""
    from transmooth.report.figures import write_figure

    write_figure(spec, results, out)


if __name__ == "__main__":
    app()
