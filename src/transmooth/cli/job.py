"""The jobs of the workflow, as its rules call them."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from transmooth.cli import guard
from transmooth.cli.options import faults_in_one_line, json_object
from transmooth.params.values import Tracker
from transmooth.runtime import shutdown


class _Jobs(TyperGroup):
    """Jobs end alike: with one line for a fault, and after cleaning up when a signal ends them."""

    def invoke(self, ctx: Any) -> Any:
        shutdown.raise_on_signals()
        with faults_in_one_line():
            return super().invoke(ctx)


app = typer.Typer(cls=_Jobs, no_args_is_help=True, help=__doc__)


Spec = Annotated[Any, typer.Option(parser=json_object, help="What the job is to do, as JSON.", metavar="JSON")]
Data = Annotated[Path, typer.Option(help="Folder of a prepared dataset.")]
Out = Annotated[Path, typer.Option(help="What to write.")]
Start = Annotated[Path | None, typer.Option(help="Checkpoint folder of the run without its last stage.")]
Results = Annotated[Path, typer.Option(help="Folder of the study.")]
Base = Annotated[Path, typer.Option(help="Where relative paths of logs start.")]


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
    from transmooth.data.prepare import prepare

    def decoded(done: int, total: int) -> None:
        print(json.dumps({"images": done, "of": total}), flush=True)

    with guard.exclusive(out):
        prepare({k: v for k, v in spec.items() if k != "sha256"}, out, base, spec["sha256"], decoded)


@app.command()
def networks(spec: Spec) -> None:
    """Check that networks can be built; the spec has one for each name."""
    from transmooth.models.check import check
    from transmooth.specs import NetworkSpec

    faults = []
    for name, network in spec.items():
        try:
            check(NetworkSpec.of(network))
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if faults:
        typer.echo("\n".join(faults))
        raise typer.Exit(1)


@app.command()
def train(
    spec: Spec,
    data: Data,
    out: Out,
    start: Start = None,
    denoiser: Annotated[str | None, typer.Option(help="What cleans the images that the network sees.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Longest time between two saves of the state.")] = 300,
    tracker: Annotated[Tracker | None, typer.Option(help="Where to show each epoch too.")] = None,
) -> None:
    """Train one stage of a run."""
    from transmooth.params.present import check_tracker
    from transmooth.runtime.threads import threads_per_process
    from transmooth.specs import TrainSpec
    from transmooth.training.loop import train

    check_tracker(tracker, "--tracker")
    threads_per_process()
    with guard.exclusive(out):
        guard.verify(data)
        shutdown.stop_at_next_save()
        train(TrainSpec.of(spec), data, out, start, checkpoint_seconds, denoiser, tracker)


@app.command()
def evaluate(
    spec: Spec,
    data: Data,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Out,
    start: Start = None,
    shard: Annotated[
        Any, typer.Option(parser=_shard, metavar="K-of-N", help="Which part of the test images.")
    ] = "1-of-1",
    batch: Annotated[int, typer.Option(help="Images in one forward pass; 0 chooses by timing.")] = 0,
) -> None:
    """Evaluate a run on a shard of the test images."""
    from transmooth.evaluation import load_evaluation
    from transmooth.runtime.threads import threads_per_process
    from transmooth.specs import evaluate_spec

    threads_per_process()
    asked = evaluate_spec(spec)
    guard.verify(data, ["test"] if start is None else None)
    number, shards = shard
    load_evaluation(asked.kind).run(asked, data, checkpoint, start, out, number - 1, shards, batch or None)


@app.command()
def finish(spec: Spec, data: Data, parts: list[Path], out: Out) -> None:
    """Make the records of an evaluation from its shards."""
    from transmooth.evaluation import load_evaluation
    from transmooth.specs import evaluate_spec

    asked = evaluate_spec(spec)
    evaluation = load_evaluation(asked.kind)
    guard.verify(data, getattr(evaluation, "FINISH_READS", ()))
    with guard.exclusive(out):
        evaluation.finish(asked, data, parts, out)


@app.command()
def table(
    spec: Spec,
    results: Results,
    base: Base,
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    out: Annotated[Path, typer.Option(help="What to write, without .csv and .md.")],
    metrics: Annotated[Path, typer.Option(help="Summary for dvc metrics.")],
) -> None:
    """Make a table from records."""
    from transmooth.report.tables import write_table
    from transmooth.specs import TableSpec

    with guard.exclusive(out), guard.exclusive(metrics):
        write_table(TableSpec.of(spec), results, base, published, out, metrics)


@app.command()
def figure(
    spec: Spec,
    results: Results,
    base: Base,
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw a figure from records."""
    from transmooth.report.figures import write_figure
    from transmooth.specs import FigureSpec

    with guard.exclusive(out):
        write_figure(FigureSpec.of(spec), results, base, out)


@app.command()
def shift(
    spec: Spec,
    results: Results,
    out: Annotated[Path, typer.Option(help="Table to write, without .csv and .md.")],
    figure: Annotated[Path, typer.Option(help="Figure to write, without .svg and .png.")],
) -> None:
    """Make the table and the figure of feature shifts from records."""
    from transmooth.report.shift import write_shift
    from transmooth.specs import ShiftReportSpec

    with guard.exclusive(out), guard.exclusive(figure):
        write_shift(ShiftReportSpec.of(spec), results, out, figure)


@app.command()
def course(
    spec: Spec,
    results: Results,
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw a metric of trainings over their epochs."""
    from transmooth.report.courses import write_course
    from transmooth.specs import CourseReportSpec

    with guard.exclusive(out):
        write_course(CourseReportSpec.of(spec), results, out)


@app.command()
def gain(
    spec: Spec,
    results: Results,
    base: Base,
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw what starts gain over another one, by task."""
    from transmooth.report.gains import write_gains
    from transmooth.specs import GainsReportSpec

    with guard.exclusive(out):
        write_gains(GainsReportSpec.of(spec), results, base, out)


@app.command()
def training(runs: list[Path], out: Out) -> None:
    """Collect the training curves of checkpoint folders."""
    from transmooth.report.training import write_training

    with guard.exclusive(out):
        write_training(runs, out)


@app.command()
def report(
    spec: Spec,
    results: Results,
    base: Base,
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    data: Annotated[list[Path], typer.Option(help="Folders of the prepared datasets, named as in the params.")],
    out: Out,
) -> None:
    """Write the page of a study."""
    from transmooth.report.page.study import write_report
    from transmooth.specs import PageSpec

    for folder in data:
        guard.verify(folder, ["test"])
    with guard.exclusive(out):
        write_report(PageSpec.of(spec), results, base, published, {folder.name: folder for folder in data}, out)
