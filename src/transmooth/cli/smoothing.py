"""Smooth a model, anyone's, on images, anyone's: certify and predict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from transmooth.cli.options import STOPPED, Quiet, Radii, Seed, Sigma, Size, faults_in_one_line, print_export_notes
from transmooth.runtime import shutdown

Model = Annotated[
    str,
    typer.Argument(
        help="Checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@WEIGHTS, TorchScript (.pt, .ts), torch.export (.pt2) "
        "or module:function"
    ),
]
Images = Annotated[str, typer.Argument(help="Prepared folder, ImageFolder, or torchvision NAME or NAME@ROOT")]
Split = Annotated[str, typer.Option(help="Which split of the images.")]
Count = Annotated[int | None, typer.Option("--images", min=1, help="How many, evenly spaced; else all.")]
Batch = Annotated[int, typer.Option(min=1, help="Noisy images in one forward pass; changes rounding at most.")]


def certify(
    model: Model,
    images: Images,
    sigma: Sigma,
    out: Annotated[Path, typer.Option(help="Records (.parquet) or a log in the field's format (.tsv).")],
    method: Annotated[
        Literal["cohen", "cohen_two_sided", "sequential", "adaptive"],
        typer.Option(help="How counts become radii; sequential takes --radii."),
    ] = "cohen",
    n0: Annotated[int, typer.Option(help="Samples that select the class.")] = 100,
    n: Annotated[int, typer.Option(help="Samples that certify it: at most, where the method may stop.")] = 100_000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, that a radius is too large.")] = 0.001,
    radii: Radii = None,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Seed = 0,
    batch: Batch = 256,
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the network that is certified.")] = "fp32",
    quiet: Quiet = False,
) -> None:
    """Certify images: a radius for each.

    With probability 1 - alpha no l2 perturbation within it changes the smoothed classifier's answer. The model takes
    images in [0, 1]. Interrupt it at any time: the same command goes on where it was.

    \b
    Examples:
      transmooth certify model/ model/data --sigma 0.25 --method sequential \\
          --radii 0,0.25,0.5 --images 100 --out records.parquet
      transmooth certify timm:resnet10t@weights.safetensors pictures/ --size 32 \\
          --sigma 0.25 --n 1000 --images 2 --out log.tsv
    """
    with faults_in_one_line():
        from transmooth import jobs
        from transmooth.loading.images import load_images
        from transmooth.loading.models import load_model
        from transmooth.runtime.threads import threads_per_process

        shutdown.raise_on_signals()
        threads_per_process()
        spec: dict[str, Any] = {
            "method": method,
            "sigmas": [sigma],
            "n0": n0,
            "n": n,
            "alpha": alpha,
            "seed": seed,
            "dtype": dtype,
        }
        spec |= {"images": count or "all"} | ({"radii": list(radii.values())} if radii else {})
        done = 0
        with _progress(quiet) as show:

            def progress(rows: list[dict[str, Any]], total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                loaded, pictures = load_model(model), load_images(images, split, size)
                unsaid = jobs.certify_anything(spec, loaded, pictures, out, batch, progress)
            except KeyboardInterrupt:
                typer.echo(f"stopped: {done} images are done and kept; the same command goes on from there", err=True)
                raise typer.Exit(STOPPED) from None
    print_export_notes(out, unsaid)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[list[dict[str, Any]], int], None]]:
    """Gives show(new rows, number of all): images/s, time left and certified accuracy so far, on terminals only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    text = "{task.fields[speed]} images/s, certified at 0: {task.fields[share]}"
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn(text))
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task, right, calls = bar.add_task("", speed="-", share="-"), 0, 0

        def show(rows: list[dict[str, Any]], total: int) -> None:
            nonlocal right, calls
            right += sum(row["prediction"] == row["label"] for row in rows)
            if not calls:  # what an earlier call has done tells nothing about the speed
                bar.reset(task, total=total, completed=len(rows))
            else:
                bar.advance(task, len(rows))
            calls += 1
            state = bar.tasks[0]
            speed = f"{state.speed:.2f}" if state.speed else "-"
            bar.update(task, speed=speed, share=f"{right / state.completed:.1%}" if state.completed else "-")

        yield show


def predict(
    model: Model,
    images: Images,
    sigma: Sigma,
    n: Annotated[int, typer.Option(help="Votes per image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, of another class than the right vote.")] = 0.001,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of the noise, to repeat answers; else a fresh one.")
    ] = None,
    batch: Batch = 256,
) -> None:
    """Print the smoothed classifier's class of each image.

    Columns index, label, prediction, with tabs between; -1 where the votes are too close to tell. The noise is fresh
    in every call, unless --seed names it.

    \b
    Example:
      transmooth predict model/ model/data --sigma 0.25 --images 10
    """
    with faults_in_one_line():
        import secrets

        import torch

        from transmooth import jobs
        from transmooth.loading.images import load_images
        from transmooth.loading.models import check_classes, load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.smoothing.chunks import CHUNK
        from transmooth.smoothing.sampler import Sampler
        from transmooth.smoothing.smoothed import check_model, vote

        threads_per_process()
        loaded, pictures = load_model(model), load_images(images, split, size)
        network = loaded.module.to("cuda" if torch.cuda.is_available() else "cpu")
        check_classes(loaded, check_model(network, pictures.fetch(0)), pictures)
        seed = secrets.randbits(63) if seed is None else seed
        sampler = Sampler(network, pictures.fetch, sigma, seed=seed, batch=batch)
        indices = jobs.test_indices(len(pictures), count or "all")
        typer.echo("index\tlabel\tprediction")
        for first in range(0, len(indices), CHUNK):
            chunk = indices[first : first + CHUNK]
            for index, prediction in zip(chunk, vote(sampler, chunk, n, alpha), strict=True):
                typer.echo(f"{index}\t{pictures.labels[index]}\t{prediction}")
