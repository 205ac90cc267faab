"""Certify images: a radius for each, written as records or as a log of the field."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

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
    print_note,
)
from transmooth.cli.options import (
    STOPPED,
    Channels,
    Classes,
    Quiet,
    Radii,
    Seed,
    SigmaList,
    Size,
    Thresholds,
    TimmOptions,
    faults_in_one_line,
    print_export_notes,
)
from transmooth.cli.same_job import same_job, same_pictures
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

LARGE = 3  # the field's largest sigma is 2


def certify(
    model: Model,
    images: Images,
    sigma: SigmaList,
    out: Annotated[Path, typer.Option(help="Records (.parquet) or a log in the field's format (.tsv).")],
    method: Annotated[
        AnyMethod,
        typer.Option(
            help="How counts become radii; sequential takes --radii; cascade and margin certify one classifier of "
            "several --sigma, the largest first, and may end images early for --radii; multiscale and dual_rs are "
            "radii of other papers for the cascade."
        ),
    ] = "cohen",
    threshold: Thresholds = None,
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
    mean: Channels = None,
    std: Channels = None,
    options: TimmOptions = "{}",
    resize: Resize = None,
    classes: Classes = None,
    count: Count = None,
    indices: Indices = None,
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
    images in [0, 1]. Interrupt it at any time: the same command goes on where it was. What is done stays done where
    the same command asks for more images.

    \b
    Examples:
      transmooth certify model/ model/data --sigma 0.25 --method sequential \\
          --radii 0,0.25,0.5 --images 100 --out records.parquet
      transmooth certify timm:resnet10t@weights.safetensors pictures/ --size 32 \\
          --sigma 0.25 --n 1000 --images 2 --out log.tsv
      transmooth certify timm:resnet10t@weights.safetensors pictures/ --size 32 \\
          --denoiser unet/ --resize 64 --sigma 0.5 --n 100 --images 2 --out clean.parquet
      transmooth certify model/ model/data --sigma 0.5,0.25 --method cascade \\
          --n 1000 --images 10 --out cascade.parquet
    """
    with faults_in_one_line():
        from transmooth.loading.images import load_images
        from transmooth.loading.models import TimmArguments, load_model
        from transmooth.runtime.threads import threads_per_process
        from transmooth.specs import evaluate_spec

        shutdown.raise_on_signals()
        threads_per_process()
        asked = {"method": method, "images": count or "all", "n0": n0, "n": n, "alpha": alpha, "seed": seed}
        asked |= {"dtype": dtype} | _of_method(method, sigma, radii, tolerance, threshold)
        spec = cast("CertifySpec | MultiSigmaSpec", evaluate_spec(asked))
        done = 0
        tell: Callable[[str], None] = (lambda line: None) if quiet else partial(typer.echo, err=True)
        for each in spec.sigmas:
            if each > LARGE:
                print_note(f"sigma is in units of images in [0, 1]: {each:g} is {each * 255:g} grey levels of 255")
        with telling(quiet) as show:

            def progress(rows: Rows, total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                loaded = load_model(model, denoiser, resize, TimmArguments(mean, std, options))
                pictures = load_images(images, split, size)
                chosen = chosen_images(pictures, count, indices)
                network, pictures = fitted(loaded, pictures, spec.sigmas, classes)
                ready = partial(_ready, engine, batch, tell)
                notes = _certify_to(out, spec, loaded, network, pictures, chosen, ready, progress)
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped: {done} images are done and kept; the same command goes on from there",
                    err=True,
                )
                raise typer.Exit(STOPPED) from None
        tell(f"next: transmooth accuracy {out}")
    print_export_notes(out, notes)


def _of_method(
    method: AnyMethod,
    sigmas: Sequence[float],
    radii: Mapping[str, float] | None,
    tolerance: float | None,
    thresholds: Sequence[float] | None,
) -> dict[str, Any]:
    """Return the part of a spec that depends on the method.  Raises ValueError for options that are not of it."""
    grid = {"radii": list(radii.values()) if radii else None}
    if method in get_args(MultiSigma):
        if tolerance is not None:
            raise ValueError(f"--tolerance: is of sequential alone, found with {method}")
        if thresholds and len(thresholds) != len(sigmas):
            raise ValueError(f"--threshold: should be there for each of {len(sigmas)} --sigma, found {len(thresholds)}")
        return {"kind": "multi_sigma", "sigmas": sigmas, "thresholds": thresholds} | grid
    if thresholds:
        raise ValueError(f"--threshold: is for the methods {', '.join(get_args(MultiSigma))}, found with {method}")
    return {"kind": "certify", "sigmas": sorted(set(sigmas)), "tolerance": tolerance} | grid


def _certify_to(
    out: Path,
    spec: "CertifySpec | MultiSigmaSpec",
    model: "LoadedModel",
    network: "nn.Module",
    images: "ImageSet",
    indices: Sequence[int],
    ready: Callable[
        ["CertifySpec | MultiSigmaSpec", "nn.Module", "ImageSet", Sequence[int]], Mapping[float, "Prepared"]
    ],
    progress: Show,
) -> list[str]:
    """Certify images and write records (.parquet) or a log (.tsv); return what a log cannot say of them.

    Each image at every sigma, or by one classifier of several.  An interrupted call goes on where it was; a finished
    one has nothing left to do, or only the images that are new.
    What makes a job is its content: settings, weights, classes and the pixels of the images, not where files lie.
    ready: makes the network ready to run at each sigma, once it is known that there is something left.
    progress: called with the rows that are new, and the number of all; at the start with those of an earlier call.
    Raises ValueError before any work, for settings that fit nothing, and for an `out` of another job.
    """
    from transmooth import provenance
    from transmooth.evaluation.certify import answers, certify, left, settings_of
    from transmooth.records import logs
    from transmooth.records import table as records
    from transmooth.records.journal import Journal
    from transmooth.records.multi_sigma import one_row_each
    from transmooth.smoothing.methods import check

    if out.suffix not in (".parquet", ".tsv"):
        raise ValueError(f"{out}: should end in .parquet (records) or .tsv (log)")
    if out.suffix == ".tsv" and spec.kind == "certify" and len(spec.sigmas) > 1:
        raise ValueError(f"{out}: a log is of one sigma; records (.parquet) are of several")
    for sigma in spec.sigmas:
        check(settings_of(spec), sigma)
    asked = {key: value for key, value in spec.dump().items() if key != "images"}
    header = {"spec": asked, "model": model.identity, "data": images.identity}
    pictures = images.pictures(indices)
    with Journal(out, header) as journal:
        earlier: list[Mapping[str, Any]] = []
        if out.exists():
            if out.suffix == ".tsv":
                raise ValueError(f"{out}: is there already; remove it or choose another name")
            same_job(records.metadata(out), header, out)
            earlier += records.read(out).to_pylist()
        if other := journal.foreign():
            same_job(other, header, journal.path)
        rows = {(row["sigma"], row["index"]): row for row in [*earlier, *journal.finished()]}
        finished = list(rows.values())
        same_pictures(finished, images, pictures, out if out.exists() else journal.path)
        todo = left(spec, indices, finished)
        total = len(answers(finished)) + len(todo)
        progress(answers(finished), total)
        if earlier and not todo and len(finished) == len(earlier):
            return []
        journal.restart(finished)  # without a line that was torn
        labels = [int(images.labels[index]) for _, index in todo]
        if todo:
            engines = ready(spec, network, images, indices)

            def known(index: int) -> Mapping[str, Any]:
                name = None if images.names is None else images.names[index]
                return {"model": model.sha256, "file": name, "picture": pictures[index]}

            for new in certify(settings_of(spec), engines, known, images.fetch, todo, labels, journal):
                progress(answers(new), total)
        every = journal.finished()
        there = len({row["index"] for row in every})
        made = {
            "spec": asked | {"images": "all" if there == len(images) else there},
            "model": model.identity | {"model": model.description},
            "data": images.identity | {"images": images.description, **images.prepared},
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }
        table = records.complete(
            records.from_rows(every, made), out, {*indices, *(row["index"] for row in finished)}, spec.sigmas
        )
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
) -> Mapping[float, "Prepared"]:
    """Make the network ready to run, and tell how, how many evaluations there are, and how long they take."""
    import torch

    from transmooth.evaluation.certify import settings_of
    from transmooth.smoothing.engine import EXAMPLES, FEW, base_classifier, prepare, prepare_each
    from transmooth.smoothing.methods import evaluations

    settings = settings_of(spec)
    groups = settings.together(spec.sigmas)
    each, most = (len(groups[0]) * evaluations(settings, most=known) for known in (False, True))
    pairs = len(indices) * len(groups)
    planned = pairs * each
    some = torch.stack([images.fetch(index) for index in indices[:EXAMPLES]])
    engines = prepare_each(network, some, spec.sigmas, planned, dtype=spec.dtype, engine=engine, batch=batch)
    made = engines[spec.sigmas[0]]
    kinds = len(set(images.labels.tolist()))
    tell(f"{images.description}: {len(images)} images in {kinds} classes, {len(indices)} used")
    many = f" at {len(groups)} sigmas" if len(groups) > 1 else ""
    tell(f"{made.name}, {made.dtype}, batch {made.batch}; {len(indices)} images{many}, at most {most} evaluations each")
    if made.rate:
        about = "" if each == most else f", about {duration(planned / made.rate)} if a tenth is enough"
        tell(f"{made.rate:.0f} evaluations a second: at most {duration(pairs * most / made.rate)}{about}")
        if made.dtype == "fp32":
            first = base_classifier(network, spec.sigmas[0])
            half, full = (
                prepare(first, some, spec.sigmas[0], planned, dtype=dtype, engine="eager", batch=FEW)
                for dtype in ("bf16", "fp32")
            )
            if half.dtype == "bf16" and half.rate and full.rate:
                tell(f"--dtype bf16 would be about {half.rate / full.rate:.1f} times as fast, for the network in bf16")
    return engines
