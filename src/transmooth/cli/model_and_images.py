"""What certify, predict and attack have in common: the options of a model and of images, and how the two are fitted."""

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transmooth.params.values import Engine as EngineName

if TYPE_CHECKING:
    from torch import nn

    from transmooth.loading.images import ImageSet
    from transmooth.loading.models import LoadedModel

Model = Annotated[
    str,
    typer.Argument(
        help="Checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@WEIGHTS, TorchScript (.pt, .ts), torch.export (.pt2) "
        "or module:function"
    ),
]
Images = Annotated[
    str, typer.Argument(help="Prepared folder, ImageFolder, table of files and labels (.csv), or torchvision NAME@ROOT")
]
Denoiser = Annotated[
    str | None,
    typer.Option(
        help="What cleans the noisy images before the model: checkpoint folder, folder of diffusers, "
        "diffusers:OWNER/NAME, OpenAI's .pt or module:function"
    ),
]
Resize = Annotated[
    int | None, typer.Option(min=1, help="Side that the model gets, after noise and denoiser, where it is another one.")
]
Split = Annotated[str, typer.Option(help="Which split of the images.")]
Count = Annotated[int | None, typer.Option("--images", min=1, help="How many, evenly spaced; else all.")]
Indices = Annotated[
    str | None, typer.Option(metavar="I,I,…", help="Which images: their numbers, or records or a log of the same ones.")
]
Engine = Annotated[EngineName, typer.Option(help="How the network is run; auto times it and chooses.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Noisy images in one forward pass; else chosen by timing.")]
NUMBERS = re.compile(r"\s*\d+(\s*[\s,]\s*\d+)*\s*")


def print_note(line: str) -> None:
    """Print what a user should know, on standard error."""
    typer.echo(f"note: {line}", err=True)


def chosen_images(images: "ImageSet", count: int | None, indices: str | None) -> list[int]:
    """Return the numbers of the images to certify: all, some evenly spaced, or those that `indices` names.

    indices: numbers, or a file of numbers, records or a log.  Raises ValueError for a number that is no image's.
    """
    from transmooth.evaluation import test_indices

    if indices is None:
        return [int(index) for index in test_indices(len(images), count or "all")]
    if count is not None:
        raise ValueError("--images and --indices both say which images; give one of them")
    listed = indices
    if not NUMBERS.fullmatch(indices) and Path(indices).is_file():
        listed = _text_of(Path(indices))
    if NUMBERS.fullmatch(listed):
        chosen = sorted({int(each) for each in re.findall(r"\d+", listed)})
    elif listed != indices:
        from transmooth.records import logs

        chosen = sorted(logs.read_indices(Path(indices)))
    else:
        raise ValueError(
            "--indices: should be numbers of images, such as 0,3,5, or a file of such, of records or a log, found "
            f"{indices!r}"
        )
    if outside := [index for index in chosen if not 0 <= index < len(images)]:
        raise ValueError(f"--indices: {images.description} has images 0 to {len(images) - 1}, not {outside[0]}")
    return chosen


def _text_of(path: Path) -> str:
    """Return what a file holds if it is text, and else nothing."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return ""


def fitted(
    model: "LoadedModel", images: "ImageSet", sigmas: Sequence[float], classes: Path | None
) -> tuple["nn.Module", "ImageSet"]:
    """Return the module that is smoothed, on its device, and the images as it takes them: grey, with its class numbers.

    Raises ValueError, before any work, for a model and images that do not fit.
    """
    import torch

    from transmooth.loading.models import match_classes
    from transmooth.smoothing.engine import base_classifier
    from transmooth.smoothing.smoothed import check_model, with_logits

    def tried(pictures: "ImageSet") -> tuple["nn.Module", int]:
        image = pictures.fetch(0)
        network = with_logits(module, image)
        return network, min(check_model(base_classifier(network, sigma), image) for sigma in sigmas)

    for sigma in sigmas:
        model.check(sigma, images.fetch(0).shape[-1])
    module = model.module.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network, outputs = tried(images)
    except ValueError as fault:
        grey = images.grey()
        with suppress(ValueError):
            network, outputs = tried(grey)
            images = grey
        if images is not grey:
            raise fault from None
    names = None if classes is None else _class_names(classes)
    images = match_classes(model, outputs, images, names)
    for note in (*model.notes, *images.notes):
        print_note(note)
    return network, images


def _class_names(path: Path) -> list[str]:
    """Return the lines of a file, without empty ones at its end."""
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: names of classes are text in UTF-8, one a line") from None
    names = [unicodedata.normalize("NFC", name.strip()) for name in names]
    if len(set(names)) < len(names) or not all(names):
        raise ValueError(f"{path}: should name each class of the network once, one a line")
    return names
