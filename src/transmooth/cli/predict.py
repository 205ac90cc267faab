"""Print the smoothed classifier's class of each image."""

from typing import TYPE_CHECKING, Annotated

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
from transmooth.cli.options import Channels, Classes, SigmaList, Size, Thresholds, TimmOptions, faults_in_one_line
from transmooth.params.values import Dtype, MultiSigma

if TYPE_CHECKING:
    from transmooth.smoothing.bounds import Ints

N0 = 100  # selection samples at each of several sigmas


def predict(
    model: Model,
    images: Images,
    sigma: SigmaList,
    method: Annotated[
        MultiSigma | None, typer.Option(help="Of several --sigma: which one classifier they make; else a cascade.")
    ] = None,
    threshold: Thresholds = None,
    n: Annotated[int, typer.Option(help="Votes per image, at each sigma.")] = 1000,
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
    call, unless --seed names it. Of several sigmas the class is the one that certify would certify.

    \b
    Examples:
      transmooth predict model/ model/data --sigma 0.25 --images 10
      transmooth predict model/ model/data --sigma 0.5,0.25 --images 2
    """
    with faults_in_one_line():
        import secrets

        import numpy as np
        import torch

        from transmooth.loading.images import load_images
        from transmooth.loading.models import TimmArguments, load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.smoothing.bounds import check_sigma
        from transmooth.smoothing.chunks import CHUNK, certify_chunks
        from transmooth.smoothing.engine import EXAMPLES, prepare_each
        from transmooth.smoothing.methods import Settings, check, evaluations
        from transmooth.smoothing.sampler import Sampler
        from transmooth.smoothing.smoothed import check_votes, vote

        threads_per_process()
        seed = secrets.randbits(63) if seed is None else seed
        if threshold and len(threshold) != (0 if len(sigma) == 1 else len(sigma)):
            raise ValueError(f"--threshold: one for each of several --sigma, found {len(threshold)} for {len(sigma)}")
        if method and len(sigma) == 1:
            raise ValueError(f"--method {method}: is of several --sigma, found one")
        settings = Settings("cohen", N0, n, alpha, seed=seed)
        if len(sigma) > 1:
            stages = tuple(zip(sigma, threshold or [0.0] * len(sigma), strict=True))
            settings = Settings(method or "cascade", N0, n, alpha, seed=seed, stages=stages)
            for each in sigma:
                check(settings, each)
        else:
            check_sigma(sigma[0])
            check_votes(n, alpha)
        loaded = load_model(model, denoiser, resize, TimmArguments(mean, std, options))
        pictures = load_images(images, split, size, unlabelled=True)
        chosen = np.array(chosen_images(pictures, count, indices))
        module, pictures = fitted(loaded, pictures, sigma, classes)
        pictures.pictures(chosen.tolist())
        some = torch.stack([pictures.fetch(index) for index in chosen[:EXAMPLES]])
        planned = len(chosen) * (len(sigma) * evaluations(settings) if settings.stages else n)
        engines = prepare_each(module, some, sigma, planned, dtype=dtype, engine=engine, batch=batch)

        def answers(chunk: "Ints") -> list[int]:
            if settings.stages is None:
                return [*vote(Sampler(engines[sigma[0]], pictures.fetch, sigma[0], seed), chunk, n, alpha)]
            todo = [(sigma[0], index, None) for index in chunk.tolist()]
            made = [row for rows in certify_chunks(engines, pictures.fetch, todo, settings) for row in rows]
            return [row["prediction"] for row in made if row["stage"] == 0]

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
            for index, prediction in zip(chunk, answers(chunk), strict=True):
                typer.echo("\t".join(str(part(index, prediction)) for part in columns.values()))
