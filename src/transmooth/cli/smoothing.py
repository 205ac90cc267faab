"""Smooth a model, anyone's, on images, anyone's: certify and predict."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from transmooth.cli.options import (
    STOPPED,
    Quiet,
    Radii,
    Seed,
    SeveralSigmas,
    Sigma,
    Size,
    faults_in_one_line,
    print_export_notes,
)
from transmooth.params.values import AnyMethod, Dtype, MultiSigma
from transmooth.params.values import Engine as EngineName
from transmooth.runtime import shutdown
from transmooth.runtime.progress import Rows, Show, duration, telling

if TYPE_CHECKING:
    from torch import nn

    from transmooth.loading.images import ImageSet
    from transmooth.loading.models import LoadedModel
    from transmooth.smoothing.engine import Engine as Prepared
    from transmooth.specs import CertifySpec, MultiSigmaSpec

Model = Annotated[
    str,
    typer.Argument(
        help="Checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@WEIGHTS, TorchScript (.pt, .ts), torch.export (.pt2) "
        "or module:function"
    ),
]
Images = Annotated[str, typer.Argument(help="Prepared folder, ImageFolder, or torchvision NAME or NAME@ROOT")]
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
Engine = Annotated[EngineName, typer.Option(help="How the network is run; auto times it and chooses.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Noisy images in one forward pass; else chosen by timing.")]


def certify(
    model: Model,
    images: Images,
    sigma: SeveralSigmas,
    out: Annotated[Path, typer.Option(help="Records (.parquet) or a log in the field's format (.tsv).")],
    method: Annotated[
        AnyMethod,
        typer.Option(
            help="How counts become radii; sequential takes --radii; cascade and margin certify one classifier of "
            "several --sigma, the largest first."
        ),
    ] = "cohen",
    threshold: Annotated[
        list[float] | None, typer.Option(min=0, help="Of cascade and margin: one for each --sigma; else 0.")
    ] = None,
    n0: Annotated[int, typer.Option(help="Samples that select the class, at each sigma.")] = 100,
    n: Annotated[
        int, typer.Option(help="Samples that certify it, at each sigma: at most, where the method may stop.")
    ] = 100_000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, that a radius is too large.")] = 0.001,
    radii: Radii = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help="Of sequential: the certificates that may be lost to save n samples; 0.2 saves a fifth."
        ),
    ] = None,
    denoiser: Denoiser = None,
    resize: Resize = None,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Seed = 0,
    engine: Engine = "auto",
    batch: Batch = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the network that is certified.")] = "fp32",
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
      transmooth certify timm:resnet10t@weights.safetensors pictures/ --size 32 \\
          --denoiser unet/ --resize 64 --sigma 0.5 --n 100 --images 2 --out clean.parquet
      transmooth certify model/ model/data --sigma 0.5 --sigma 0.25 --method cascade \\
          --n 1000 --images 10 --out cascade.parquet
    """
    with faults_in_one_line():
        from transmooth.loading.images import load_images
        from transmooth.loading.models import load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.specs import evaluate_spec

        shutdown.raise_on_signals()
        threads_per_process()
        asked = {"method": method, "sigmas": sigma, "images": count or "all", "n0": n0, "n": n, "alpha": alpha}
        asked |= {"seed": seed, "dtype": dtype} | _of_method(method, sigma, radii, tolerance, threshold)
        spec = cast("CertifySpec | MultiSigmaSpec", evaluate_spec(asked))
        done = 0
        tell = (lambda line: None) if quiet else partial(typer.echo, err=True)
        with telling(quiet) as show:

            def progress(rows: Rows, total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                loaded, pictures = load_model(model, denoiser, resize), load_images(images, split, size)
                notes = _certify_to(out, spec, loaded, pictures, partial(_ready, engine, batch, tell), progress)
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped: {done} images are done and kept; the same command goes on from there",
                    err=True,
                )
                raise typer.Exit(STOPPED) from None
    print_export_notes(out, notes)


def _of_method(
    method: AnyMethod,
    sigma: Sequence[float],
    radii: Mapping[str, float] | None,
    tolerance: float | None,
    threshold: Sequence[float] | None,
) -> dict[str, Any]:
    """Return the part of a spec that depends on the method.  Raises ValueError for options that are not of it."""
    if method in get_args(MultiSigma):
        if radii is not None or tolerance is not None:
            raise ValueError(f"--radii, --tolerance: are of sequential alone, found with {method}")
        if threshold and len(threshold) != len(sigma):
            raise ValueError(f"--threshold: should be there for each of {len(sigma)} --sigma, found {len(threshold)}")
        return {"kind": "multi_sigma", "thresholds": threshold or None}
    if len(sigma) > 1 or threshold:
        several = " and ".join(get_args(MultiSigma))
        raise ValueError(f"several --sigma, and --threshold, are for the methods {several}; found them with {method}")
    return {"kind": "certify", "radii": list(radii.values()) if radii else None, "tolerance": tolerance}


def _certify_to(
    out: Path,
    spec: "CertifySpec | MultiSigmaSpec",
    model: "LoadedModel",
    images: "ImageSet",
    ready: Callable[
        ["CertifySpec | MultiSigmaSpec", "nn.Module", "ImageSet", Sequence[int]], Mapping[float, "Prepared"]
    ],
    progress: Show,
) -> list[str]:
    """Certify images and write records (.parquet) or a log (.tsv); return what a log cannot say of them.

    At one sigma, or one classifier of several.  An interrupted call goes on where it was; a finished one has nothing
    left to do.  ready: makes the network ready to run at each sigma, once it is known that there is something left.
    progress: called with the rows that are new, and the number of all; at the start with those of an earlier call.
    Raises ValueError before any work, for settings, model and images that do not fit, and for an `out` of another job.
    """
    import torch

    from transmooth import provenance
    from transmooth.evaluation import test_indices
    from transmooth.evaluation.certify import answers, certify, left, settings_of
    from transmooth.loading.models import check_classes
    from transmooth.records import logs
    from transmooth.records import table as records
    from transmooth.records.journal import Journal
    from transmooth.records.multi_sigma import one_row_each
    from transmooth.smoothing.engine import base_classifier
    from transmooth.smoothing.methods import check
    from transmooth.smoothing.smoothed import check_model

    if out.suffix not in (".parquet", ".tsv"):
        raise ValueError(f"{out}: should end in .parquet (records) or .tsv (log)")
    network = model.module.to("cuda" if torch.cuda.is_available() else "cpu")
    for sigma in spec.sigmas:
        check(settings_of(spec), sigma)
        model.check(sigma, images.fetch(0).shape[-1])
        check_classes(model, check_model(base_classifier(network, sigma), images.fetch(0)), images)
    header = {"spec": spec.dump(), "model": model.identity, "data": images.identity}
    indices = test_indices(len(images), spec.images).tolist()
    with Journal(out, header) as journal:
        if out.exists():
            if out.suffix == ".tsv":
                raise ValueError(f"{out}: is there already; remove it or choose another name")
            _same_job(records.metadata(out), header, out)
            progress(answers(records.read(out).to_pylist()), len(indices))
            return []
        if other := journal.foreign():
            _same_job(other, header, journal.path)
        finished = journal.finished()
        journal.restart(finished)  # without a line that was torn
        progress(answers(finished), len(indices))
        todo = left(spec, indices, finished)
        labels = [int(images.labels[index]) for _, index in todo]
        prepared = ready(spec, network, images, indices)
        for rows in certify(settings_of(spec), prepared, model.sha256, images.fetch, todo, labels, journal):
            progress(answers(rows), len(indices))
        made = header | {"versions": provenance.versions(), "commit": provenance.commit()}
        table = records.complete(records.from_rows(journal.finished(), made), out, indices, spec.sigmas)
        notes = []
        if out.suffix == ".tsv":
            frame = one_row_each(table.to_pandas().sort_values("index"), out)
            logs.write(frame, out)
            notes = logs.export_notes(frame, made)
        else:
            records.write(table, out)
        journal.remove()
    return notes


def _ready(
    engine: EngineName,
    batch: int | None,
    tell: Callable[[str], None],
    spec: "CertifySpec | MultiSigmaSpec",
    network: "nn.Module",
    images: "ImageSet",
    indices: Sequence[int],
) -> dict[float, "Prepared"]:
    """Make the network ready to run, and tell how, how many evaluations there are, and how long they take."""
    import torch

    from transmooth.evaluation.certify import settings_of
    from transmooth.smoothing.engine import EXAMPLES, FEW, base_classifier, prepare, prepare_each
    from transmooth.smoothing.methods import evaluations

    settings = settings_of(spec)
    each, most = (len(spec.sigmas) * evaluations(settings, most=known) for known in (False, True))
    planned = len(indices) * each
    some = torch.stack([images.fetch(index) for index in indices[:EXAMPLES]])
    engines = prepare_each(network, some, spec.sigmas, planned, dtype=spec.dtype, engine=engine, batch=batch)
    made = engines[spec.sigmas[0]]
    tell(f"{made.name}, {made.dtype}, batch {made.batch}; {len(indices)} images, at most {most} evaluations each")
    if made.rate:
        about = "" if each == most else f", about {duration(planned / made.rate)} if a tenth is enough"
        tell(f"{made.rate:.0f} evaluations a second: at most {duration(len(indices) * most / made.rate)}{about}")
        if made.dtype == "fp32":
            first = base_classifier(network, spec.sigmas[0])
            half, full = (
                prepare(first, some, spec.sigmas[0], planned, dtype=dtype, engine="eager", batch=FEW)
                for dtype in ("bf16", "fp32")
            )
            if half.dtype == "bf16" and half.rate and full.rate:
                tell(f"--dtype bf16 would be about {half.rate / full.rate:.1f} times as fast, for the network in bf16")
    return engines


def _same_job(found: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError, naming what differs, unless the file at `path` is of the job that is asked for."""
    there, ours = (
        dict(job.get("spec", {}))
        | {f"{part}.{key}": value for part in ("model", "data") for key, value in dict(job.get(part) or {}).items()}
        for job in (found, asked)
    )
    if differing := sorted(key for key in there.keys() | ours.keys() if there.get(key) != ours.get(key)):
        shown = "; ".join(f"{key}: {there.get(key)} there, {ours.get(key)} asked for" for key in differing)
        raise ValueError(f"{path}: is of another job ({shown}); remove it or choose another --out")


def predict(
    model: Model,
    images: Images,
    sigma: Sigma,
    n: Annotated[int, typer.Option(help="Votes per image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, of another class than the right vote.")] = 0.001,
    denoiser: Denoiser = None,
    resize: Resize = None,
    count: Count = None,
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

    Columns index, label, prediction, with tabs between; -1 where the votes are too close to tell. The noise is fresh
    in every call, unless --seed names it.

    \b
    Example:
      transmooth predict model/ model/data --sigma 0.25 --images 10
    """
    with faults_in_one_line():
        import secrets

        import torch

        from transmooth.evaluation import test_indices
        from transmooth.loading.images import load_images
        from transmooth.loading.models import check_classes, load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.smoothing.chunks import CHUNK
        from transmooth.smoothing.engine import EXAMPLES, base_classifier, prepare
        from transmooth.smoothing.sampler import Sampler
        from transmooth.smoothing.smoothed import check_model, vote

        threads_per_process()
        loaded, pictures = load_model(model, denoiser, resize), load_images(images, split, size)
        loaded.check(sigma, pictures.fetch(0).shape[-1])
        network = base_classifier(loaded.module, sigma).to("cuda" if torch.cuda.is_available() else "cpu")
        check_classes(loaded, check_model(network, pictures.fetch(0)), pictures)
        seed = secrets.randbits(63) if seed is None else seed
        indices = test_indices(len(pictures), count or "all")
        some = torch.stack([pictures.fetch(index) for index in indices[:EXAMPLES]])
        made = prepare(network, some, sigma, n * len(indices), dtype=dtype, engine=engine, batch=batch)
        sampler = Sampler(made, pictures.fetch, sigma, seed)
        typer.echo("index\tlabel\tprediction")
        for first in range(0, len(indices), CHUNK):
            chunk = indices[first : first + CHUNK]
            for index, prediction in zip(chunk, vote(sampler, chunk, n, alpha), strict=True):
                typer.echo(f"{index}\t{pictures.labels[index]}\t{prediction}")
