"""Train a network on one's own pictures: from scratch, or finetuned from another."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from transmooth.cli import guard
from transmooth.cli.options import AsJson, Channels, Quiet, Seed, Sigmas, faults_in_one_line, json_object
from transmooth.params.values import Dtype, Norm, Stem, Trainable
from transmooth.runtime import shutdown

if TYPE_CHECKING:
    from transmooth.specs import TrainSpec

Pictures = Annotated[
    str,
    typer.Argument(
        help="Folder of class/image, below train/ and test/ or not; table of files and labels (.csv); prepared folder; "
        "torchvision NAME@ROOT"
    ),
]
Out = Annotated[Path, typer.Option(help="Checkpoint folder to write; the prepared pictures go to its data/.")]
Epochs = Annotated[int, typer.Option(min=1, help="Times that each image is seen.")]
Batch = Annotated[int, typer.Option(min=1, help="Images in one step.")]
Rates = Annotated[
    Any, typer.Option(parser=lambda text: _rates(text), metavar="LR,…", help="Each is tried, the best kept.")
]
Precision = Annotated[Dtype, typer.Option(help="Of the arithmetic.")]
Objective = Annotated[
    str,
    typer.Option(
        help="What is minimised: cross_entropy, consistency, adversarial (on attacked images), confidence (FT-CADIS), "
        "simclr, for a start that needs no classes, or denoise, for a denoiser."
    ),
]
Options = Annotated[
    Any, typer.Option(parser=json_object, metavar="JSON", help='Of the objective, such as {"copies": 2}.')
]
Augment = Annotated[
    Any,
    typer.Option(
        parser=lambda text: text.split(","), metavar="NAME,…", help="Any of flip, crop, resized_crop, colour, grey."
    ),
]
Test = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of the images set aside to test with, where none are.")
]


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise typer.BadParameter(f"should be numbers > 0 with commas between, such as 0.001,0.003; found {text!r}")
    return rates


def train(
    images: Pictures,
    out: Out,
    size: Annotated[int, typer.Option(min=1, help="Images become squares of this side.")] = 32,
    augment: Augment = None,
    test: Test = 0.2,
    seed: Seed = 0,
    network: Annotated[str, typer.Option(help="A ResNet of timm, by name.")] = "resnet18",
    options: Annotated[
        Any, typer.Option(parser=json_object, metavar="JSON", help="Keywords of it, such as its channels.")
    ] = "{}",
    stem: Annotated[
        Stem | None,
        typer.Option(help="Its first layer: cifar keeps the resolution; else by size."),
    ] = None,
    norm: Annotated[Norm, typer.Option(help="Its normalisation layer.")] = "layer",
    objective: Objective = "cross_entropy",
    precision: Precision = "fp32",
    sigmas: Sigmas = "0,0.25,0.5,1",
    epochs: Epochs = 20,
    batch: Batch = 128,
    lr: Rates = "0.003",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a network from scratch on clean and noisy images.

    The result is a start for `finetune`, or the model itself. Each image of a batch gets one of the sigmas, drawn
    evenly; `--sigmas 0` is clean training. Layer norm, not batch norm, keeps noisy and clean images apart. Interrupt it
    at any time: the same command goes on where it was saved.

    \b
    Examples:
      transmooth train many/ --sigmas 0,0.25,0.5 --size 32 --epochs 2 --out base/
      transmooth train many/ --size 16 --network resnet18 --epochs 2 --out small/ \\
          --options '{"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]}'
      transmooth train many/ --size 16 --network unet2d --objective denoise --sigmas 1 \\
          --options '{"unet": {"block_out_channels": [32, 64]}}' --epochs 1 --out unet/
    """
    with faults_in_one_line():
        from transmooth.models.check import check
        from transmooth.specs import NetworkSpec
        from transmooth.training.own_pictures import train_spec

        layers = NetworkSpec(
            name=network,
            stem=stem or ("cifar" if size <= 64 else "imagenet"),
            norm=norm,
            groups=32 if norm == "group" else 1,
            options=options,
        )
        try:
            check(layers)
        except ValueError as error:
            raise ValueError(f"--network {network} --options {json.dumps(options)}: {error}") from error
        schedule = _schedule(epochs, batch, lr, precision)
        spec = train_spec(
            layers,
            schedule,
            sigmas=sigmas.values(),
            trainable="all",
            augment=augment or [],
            seed=seed,
            objective=objective,
        )
        _fit(images, out, spec, size, test, None, quiet, as_json)


def finetune(
    images: Pictures,
    start: Annotated[
        str,
        typer.Option(
            "--from", help="Checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@WEIGHTS, or timm:NAME to fetch them."
        ),
    ],
    out: Out,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images; else as the start had.")] = None,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Side that a network of timm gets, where it is not that of the images.")
    ] = None,
    mean: Channels = None,
    std: Channels = None,
    augment: Augment = None,
    test: Test = 0.2,
    seed: Seed = 0,
    objective: Objective = "cross_entropy",
    options: Options = "{}",
    denoiser: Annotated[
        str | None,
        typer.Option(help="What cleans the noisy images: see certify. The checkpoint remembers it, with its hash."),
    ] = None,
    trainable: Annotated[
        Trainable,
        typer.Option(
            help="The whole network, its last layer, or that and low-rank corrections of a ViT. Statistics of batch "
            "norm stay with frozen_statistics and head."
        ),
    ] = "all",
    sigmas: Sigmas = "0",
    epochs: Epochs = 10,
    batch: Batch = 64,
    lr: Rates = "0.001",
    precision: Precision = "fp32",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Finetune a network on your own pictures, clean.

    They may be of any size, grey or colour, in one folder for each class. A network that was pretrained on noise is
    finetuned on clean images and keeps its robustness; one that never saw noise, as timm's, needs some here: --sigmas
    0,0.25. Certify it on OUT/data, whose test images it was not trained on. Interrupt it at any time: the same command
    goes on where it was saved.

    \b
    Examples:
      transmooth finetune pictures/ --from base/ --epochs 5 --out model/
      transmooth finetune pictures/ --from timm:resnet10t@weights.safetensors \\
          --sigmas 0,0.25 --size 32 --epochs 1 --out other/
      transmooth finetune pictures/ --from model/ --denoiser unet/ --sigmas 0.5 \\
          --objective confidence --options '{"copies": 2}' --epochs 1 --out cadis/
    """
    with faults_in_one_line():
        from transmooth.training.own_pictures import start_from, train_spec

        with start_from(start, resize, mean, std) as (network, folder, side):
            schedule = _schedule(epochs, batch, lr, precision)
            spec = train_spec(
                network,
                schedule,
                sigmas=sigmas.values(),
                trainable=trainable,
                augment=augment or [],
                seed=seed,
                objective=objective,
                options=options,
                denoiser=denoiser,
            )
            _fit(images, out, spec, size or side, test, folder, quiet, as_json)


def _schedule(epochs: int, batch: int, lr: list[float], precision: str) -> dict[str, Any]:
    warmup = min(1, epochs - 1)
    return {"epochs": epochs, "warmup_epochs": warmup, "batch": batch, "lr": lr, "precision": precision}


def _fit(
    images: str,
    out: Path,
    spec: "TrainSpec",
    size: int,
    test: float,
    start: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    from transmooth.runtime.threads import threads_per_process
    from transmooth.training import own_pictures

    threads_per_process()
    shutdown.raise_on_signals()
    with _progress_output(quiet) as decoding, guard.exclusive(out):
        data = own_pictures.prepared(images, out / "data", size, spec.augment, test, spec.seed, decoding)
        for line in own_pictures.account(images, data, spec):
            typer.echo(line, err=True)
        shutdown.stop_at_next_save()
        card = own_pictures.fit(out, data, spec, start, spec.denoiser)
    if as_json:
        return typer.echo(json.dumps(card | {"folder": str(out), "prepared": str(data)}))
    found, how = card["test"], f"with lr {card['lr']:g}, in {card['seconds']:.0f} s"
    if "correct" not in found:
        return typer.echo(f"{out}: score {found['score']:.4g} of the test images, {how}")
    typer.echo(f"{out}: {found['correct'] / found['images']:.1%} of {found['images']} test images right", nl=False)
    typer.echo(f", {card['validation_score']:.1%} on validation, {how}")
    sigma = spec.sigmas[0] if spec.denoiser else 0.25
    typer.echo(f"next: transmooth certify {out} {data} --sigma {sigma:g} --out {out}/records.parquet", err=True)
    return None


@contextmanager
def _progress_output(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Gives decoding(done, total), a bar on a terminal; what the loop prints goes to stderr, or nowhere if `quiet`."""
    from rich.console import Console
    from rich.progress import Progress

    with ExitStack() as stack:
        if quiet:
            nothing = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stderr(nothing))
        stack.enter_context(redirect_stdout(sys.stderr))
        console = Console(stderr=True)
        bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        task = bar.add_task("images", total=None)

        def decoding(done: int, total: int) -> None:
            bar.start()
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.stop()  # the loop has a bar of its own

        yield decoding
