"""The jobs of the workflow, as its rules call them."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from transmooth.cli import guard
from transmooth.cli.options import faults_in_one_line, json_object
from transmooth.runtime import shutdown


class _Jobs(TyperGroup):
    """Jobs end alike: with one line for a fault, and after cleaning up when they are told to end."""

    def invoke(self, ctx: Any) -> Any:
        shutdown.raise_on_signals()
        with faults_in_one_line():
            return super().invoke(ctx)


app = typer.Typer(cls=_Jobs, no_args_is_help=True, help=__doc__)


Spec = Annotated[Any, typer.Option(parser=json_object, help="What the job is to do, as JSON.", metavar="JSON")]
Data = Annotated[Path, typer.Option(help="Folder of a prepared dataset.")]
Out = Annotated[Path, typer.Option(help="What to write.")]


def _shard(text: str) -> tuple[int, int]:
    """Number of the shard, from 1, and of all."""
    match = re.fullmatch(r"(\d+)-of-(\d+)", text)
    number, shards = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= shards:
        raise typer.BadParameter(f"should be K-of-N with K from 1 to N, such as 2-of-4; found {text!r}")
    return number, shards


@app.command()
def prepare(spec: Spec, base: Annotated[Path, typer.Option(help="Where relative sources start.")], out: Out) -> None:
    """Decode, resize and split a dataset into arrays."""
    from transmooth.data import prepare

    def decoded(done: int, total: int) -> None:
        print(json.dumps({"images": done, "of": total}), flush=True)

    with guard.exclusive(out):
        prepare({k: v for k, v in spec.items() if k != "sha256"}, out, base, spec["sha256"], decoded)


@app.command()
def train(
    spec: Spec,
    data: Data,
    out: Out,
    init: Annotated[Path | None, typer.Option(help="Checkpoint folder to transfer from.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Longest time between two saves of the state.")] = 300,
) -> None:
    """Pretrain or finetune one network."""
    from transmooth.runtime.threads import threads_per_process
    from transmooth.training.loop import train

    threads_per_process()
    with guard.exclusive(out):
        guard.verify(data)
        shutdown.stop_at_next_save()
        train(spec, data, out, init, checkpoint_seconds)


@app.command()
def certify(
    spec: Spec,
    data: Data,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Out,
    shard: Annotated[
        Any, typer.Option(parser=_shard, metavar="K-of-N", help="Which part of the test images.")
    ] = "1-of-1",
    batch: Annotated[int, typer.Option(help="Noisy images in one forward pass.")] = 256,
) -> None:
    """Certify a shard of the test images."""
    from transmooth.jobs import certify
    from transmooth.runtime.threads import threads_per_process

    threads_per_process()
    guard.verify(data, ["test"])
    number, shards = shard
    certify(spec, data, checkpoint, out, number - 1, shards, batch)


@app.command()
def merge(spec: Spec, data: Data, parts: list[Path], out: Out) -> None:
    """Join the shards of a run."""
    from transmooth.jobs import merge

    guard.verify(data, [])
    with guard.exclusive(out):
        merge(spec, data, parts, out)


@app.command()
def table(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    base: Annotated[Path, typer.Option(help="Where relative paths of logs start.")],
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    out: Annotated[Path, typer.Option(help="What to write, without .csv and .md.")],
    metrics: Annotated[Path, typer.Option(help="Summary for dvc metrics.")],
) -> None:
    """Make a table from records."""
    from transmooth.report.tables import write_table

    with guard.exclusive(out), guard.exclusive(metrics):
        write_table(spec, results, base, published, out, metrics)


@app.command()
def figure(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw a figure from records."""
    from transmooth.report.figures import write_figure

    with guard.exclusive(out):
        write_figure(spec, results, out)


@app.command()
def gap(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    data: Annotated[list[Path], typer.Option(help="Folders of the prepared datasets, named as in the params.")],
    out: Annotated[Path, typer.Option(help="Table to write, without .csv and .md.")],
    figure: Annotated[Path, typer.Option(help="Figure to write, without .svg and .png.")],
) -> None:
    """Measure how far normalised features move between pretraining and finetuning."""
    from transmooth.report.shift import write_gap
    from transmooth.runtime.threads import threads_per_process

    threads_per_process()
    for folder in data:
        guard.verify(folder)
    with guard.exclusive(out), guard.exclusive(figure):
        write_gap(spec, results, {folder.name: folder for folder in data}, out, figure)


@app.command()
def training(runs: list[Path], out: Out) -> None:
    """Collect the training curves of checkpoint folders."""
    from transmooth.report.training import write_training

    with guard.exclusive(out):
        write_training(runs, out)


@app.command()
def report(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    base: Annotated[Path, typer.Option(help="Where relative paths of logs start.")],
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    data: Annotated[list[Path], typer.Option(help="Folders of the prepared datasets, named as in the params.")],
    out: Out,
) -> None:
    """Write the page of a study."""
    from transmooth.report.html import write_report

    for folder in data:
        guard.verify(folder, ["test"])
    with guard.exclusive(out):
        write_report(spec, results, base, published, {folder.name: folder for folder in data}, out)
