"""Smooth a model, anyone's, on images, anyone's: certify and predict."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from transmooth.cli.options import (
    STOPPED,
    Channels,
    Classes,
    Quiet,
    Radii,
    Seed,
    Sigma,
    SigmaList,
    Size,
    Thresholds,
    TimmOptions,
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
                _note(f"sigma is in units of images in [0, 1]: {each:g} is {each * 255:g} grey levels of 255")
        with telling(quiet) as show:

            def progress(rows: Rows, total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                loaded = load_model(model, denoiser, resize, TimmArguments(mean, std, options))
                pictures = load_images(images, split, size)
                chosen = _chosen(pictures, count, indices)
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


NUMBERS = re.compile(r"\s*\d+(\s*[\s,]\s*\d+)*\s*")
LARGE = 3  # the field's largest sigma is 2


def _note(line: str) -> None:
    typer.echo(f"note: {line}", err=True)


def _chosen(images: "ImageSet", count: int | None, indices: str | None) -> list[int]:
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
        _note(note)
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
        _same_pictures(finished, images, pictures, out if out.exists() else journal.path)
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


# What a file says of where model and images were, and how many of them: not what the job is.
NAMED = frozenset(("images", "model.model", "data.images", "data.split", "data.checksum"))


def same_job(found: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError, naming what differs, unless the file at `path` is of the job that is asked for."""
    there, ours = (
        dict(job.get("spec", {}))
        | {f"{part}.{key}": value for part in ("model", "data") for key, value in dict(job.get(part) or {}).items()}
        for job in (found, asked)
    )
    if differing := sorted(key for key in (there.keys() | ours.keys()) - NAMED if there.get(key) != ours.get(key)):
        shown = "; ".join(
            f"{key}: {str(there.get(key))[:100]} there, {str(ours.get(key))[:100]} asked for" for key in differing
        )
        raise ValueError(f"{path}: is of another job ({shown}); remove it or choose another --out")


def _same_pictures(
    rows: Sequence[Mapping[str, Any]], images: "ImageSet", pictures: Mapping[int, str], path: Path
) -> None:
    """Raise ValueError, naming the first, unless rows are of these images; pictures: those that are known already."""
    others = sorted({row["index"] for row in rows} - pictures.keys())
    if beyond := [index for index in others if index >= len(images)]:
        raise ValueError(f"{path}: has image {beyond[0]}, {images.description} has {len(images)}; choose another --out")
    known = {**pictures, **images.pictures(others)}
    for row in sorted(rows, key=lambda row: row["index"]):
        index = row["index"]
        if row["picture"] != known[index] or row["label"] != images.labels[index]:
            what = "picture" if row["picture"] != known[index] else "label"
            name = f" ({row['file']})" if row["file"] else ""
            raise ValueError(
                f"{path}: is of another job: image {index}{name} had another {what}; remove it or choose another --out"
            )


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
        chosen = np.array(_chosen(pictures, count, indices))
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
