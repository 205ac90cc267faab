"""Print the smoothed classifier's class of each image."""

from typing import Annotated

import typer

from transmooth.cli.model_and_images import (
    Batch,
    Count,
    Denoiser,
    Engine,
    Images,
    Indices,
    Model,
    Resize,
    Split,
    chosen_images,
    fitted,
)
from transmooth.cli.options import Channels, Classes, Sigma, Size, TimmOptions, faults_in_one_line
from transmooth.params.values import Dtype


def predict(
    model: Model,
    images: Images,
    sigma: Sigma,
    n: Annotated[int, typer.Option(help="Votes per image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, of another class than the right vote.")] = 0.001,
    denoiser: Denoiser = None,
    mean: Channels = None,
    std: Channels = None,
    options: TimmOptions = "{}",
    resize: Resize = None,
    classes: Classes = None,
    count: Count = None,
    indices: Indices = None,
    split: Split = "test",
    size: Size = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of the noise, to repeat answers; else a fresh one.")
    ] = None,
    engine: Engine = "auto",
    batch: Batch = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the network.")] = "fp32",
) -> None:
    """Print the smoothed classifier's class of each image.

    Columns index, label, prediction, file, with tabs between; -1 where the votes are too close to tell. There is no
    label where a folder has images and no classes, and no file where they come from none. The noise is fresh in every
    call, unless --seed names it.

    \b
    Example:
      transmooth predict model/ model/data --sigma 0.25 --images 10
    """
    with faults_in_one_line():
        import secrets

        import numpy as np
        import torch

        from transmooth.loading.images import load_images
        from transmooth.loading.models import TimmArguments, load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.smoothing.chunks import CHUNK
        from transmooth.smoothing.engine import EXAMPLES, base_classifier, prepare
        from transmooth.smoothing.sampler import Sampler
        from transmooth.smoothing.smoothed import vote

        threads_per_process()
        loaded = load_model(model, denoiser, resize, TimmArguments(mean, std, options))
        pictures = load_images(images, split, size, unlabelled=True)
        chosen = np.array(chosen_images(pictures, count, indices))
        module, pictures = fitted(loaded, pictures, [sigma], classes)
        network = base_classifier(module, sigma)
        pictures.pictures(chosen.tolist())
        seed = secrets.randbits(63) if seed is None else seed
        some = torch.stack([pictures.fetch(index) for index in chosen[:EXAMPLES]])
        made = prepare(network, some, sigma, n * len(chosen), dtype=dtype, engine=engine, batch=batch)
        sampler = Sampler(made, pictures.fetch, sigma, seed)
        parts = {
            "index": lambda index, prediction: index,
            "label": (lambda index, prediction: pictures.labels[index]) if pictures.classes else None,
            "prediction": lambda index, prediction: prediction,
            "file": (lambda index, prediction: names[index]) if (names := pictures.names) is not None else None,
        }
        columns = {name: part for name, part in parts.items() if part is not None}
        typer.echo("\t".join(columns))
        for first in range(0, len(chosen), CHUNK):
            chunk = chosen[first : first + CHUNK]
            for index, prediction in zip(chunk, vote(sampler, chunk, n, alpha), strict=True):
                typer.echo("\t".join(str(part(index, prediction)) for part in columns.values()))
