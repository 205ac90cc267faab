"""Attack any model on any images: an upper bound of its robust accuracy, beside its certificates."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from transmooth.cli.model_and_images import Count, Denoiser, Images, Model, Resize, Split, fitted
from transmooth.cli.options import STOPPED, AsJson, Quiet, Seed, Size, faults_in_one_line, was_given
from transmooth.cli.same_job import same_job
from transmooth.params.values import BallNorm
from transmooth.runtime import shutdown
from transmooth.runtime.progress import Rows, Show, telling

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from transmooth.attacks.robust import Target
    from transmooth.loading.images import ImageSet
    from transmooth.loading.models import LoadedModel
    from transmooth.specs import AttackSpec


SMOOTHED = ("denoiser", "records", "samples", "n", "alpha")  # options that mean nothing without --sigma


def attack(
    context: typer.Context,
    model: Model,
    images: Images,
    epsilon: Annotated[float, typer.Option(help="Radius of the ball around each image in [0, 1].")],
    norm: Annotated[BallNorm, typer.Option(help="Of the ball.")] = "l2",
    steps: Annotated[int, typer.Option(min=1, help="Of each run.")] = 100,
    sigma: Annotated[
        float | None, typer.Option(help="Attack the smoothed classifier at this noise; else the model itself.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="With --sigma: noisy copies that a gradient is the mean of.")
    ] = 16,
    n: Annotated[int, typer.Option(help="With --sigma: votes for each answer.")] = 1000,
    alpha: Annotated[
        float, typer.Option(help="With --sigma: probability, per answer, of another class than the right vote.")
    ] = 0.001,
    records: Annotated[
        Path | None, typer.Option(help="With --sigma: records of certify, whose radii then stand beside the distances.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Records (.parquet), for the same command to go on from.")] = None,
    denoiser: Denoiser = None,
    resize: Resize = None,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Seed = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images that are attacked together; else 256, or fewer with noise.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Attack images: how many answers survive.

    AutoPGD on cross-entropy and on the margin; only what the first leaves right goes to the second. SA is the share
    that is right, RA the share that stays right: an upper bound of the robust accuracy, where a certificate is a lower
    one. With --records each certified radius stands beside the distance of what was found, and another class below a
    radius ends with status 1. Interrupt it at any time: with --out the same command goes on where it was.

    \b
    Examples:
      transmooth attack model/ model/data --epsilon 0.25 --steps 20 --out attacked.parquet
      transmooth attack timm:resnet10t@weights.safetensors pictures/ --size 32 \\
          --norm linf --epsilon 0.03 --steps 5 --images 2
      transmooth attack model/ model/data --sigma 0.25 --epsilon 0.5 --steps 5 --samples 4 \\
          --records certified.parquet
    """
    with faults_in_one_line(), ExitStack() as stack:
        from transmooth.loading.images import load_images
        from transmooth.loading.models import load_model
        from transmooth.report.compare import robustness
        from transmooth.runtime.threads import threads_per_process
        from transmooth.smoothing.attack import check_smoothed, contradiction_text, contradictions, usual_batch
        from transmooth.specs import AttackSpec, SmoothedAttackSpec

        shutdown.raise_on_signals()
        threads_per_process()
        if sigma is None and (vain := [name for name in SMOOTHED if was_given(context, name)]):
            raise ValueError(f"--{vain[0]}: is about a smoothed classifier: needs --sigma")
        if records is not None and norm != "l2":
            raise ValueError(f"--records: certified radii are of norm l2, and --norm is {norm}")
        common: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "steps": steps, "restarts": 1, "seed": seed}
        common |= {"losses": ("cross_entropy", "margin"), "images": count or "all"}
        common["batch"] = batch or usual_batch(sigma, samples)
        spec = AttackSpec(**common)
        if sigma is not None:
            check_smoothed(sigma, samples, n, alpha)
            spec = SmoothedAttackSpec(**common, sigma=sigma, samples=samples, n=n, alpha=alpha)
        loaded = load_model(model, denoiser, resize)
        network, pictures = _matched(spec, loaded, load_images(images, split, size))
        certified = None if records is None else _certified(records, spec, loaded, pictures)
        kept = out or Path(stack.enter_context(TemporaryDirectory())) / "attacked.parquet"
        done = 0
        with telling(quiet, "robust") as show:

            def progress(rows: Rows, total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                frame = _attack_to(kept, spec, loaded, network, pictures, progress)
            except KeyboardInterrupt:
                on = "are done and kept; the same command goes on from there" if out else "were done; --out keeps them"
                typer.echo(f"stopped: {done} images {on}", err=True)
                raise typer.Exit(STOPPED) from None
        beside = None if certified is None else contradictions(frame, certified)
        found = robustness(frame)
        if as_json:
            rows = {} if beside is None else {"certified": beside.to_dict("records")}
            typer.echo(json.dumps(found | {"epsilon": epsilon, "norm": norm, "steps": steps} | rows))
        else:
            _show(found, spec, beside)
        if certified is not None and beside is not None and beside["broken"].any():
            raise ValueError(contradiction_text(beside, float(certified["alpha"].max()), alpha))


def _certified(path: Path, spec: "AttackSpec", model: "LoadedModel", images: "ImageSet") -> "pd.DataFrame":
    """Return the records of a certification at the attack's sigma.

    Raises ValueError, naming the file, for records of another sigma, model, dtype or of other images.
    """
    from transmooth.records import logs
    from transmooth.specs import SmoothedAttackSpec

    assert isinstance(spec, SmoothedAttackSpec)
    frame = logs.read_any(path, spec.sigma)
    if "model" not in frame:
        raise ValueError(f"{path}: should be records, which say what model they are of; is a log")
    for name, wanted in (("model", model.sha256), ("dtype", "fp32")):
        if others := sorted({*frame[name].astype(str)} - {wanted}):
            raise ValueError(f"{path}: is of another {name}, {others[0]}; the attack is of {wanted}")
    known = frame[frame["index"] < len(images)]
    pictures = images.pictures(known["index"].tolist())
    other = known["picture"].notna() & (known["picture"] != known["index"].map(pictures))
    other |= images.labels[known["index"].to_numpy()] != known["label"].to_numpy()
    if len(known) < len(frame) or other.any():
        raise ValueError(f"{path}: is of other images than {images.description}")
    return frame


def _attack_to(
    out: Path, spec: "AttackSpec", model: "LoadedModel", network: "nn.Module", images: "ImageSet", progress: Show
) -> "pd.DataFrame":
    """Attack images, write records (.parquet) and return them.  network: the base classifier of the model.

    An interrupted call goes on where it was; a finished one has nothing left to do.  progress: called with the rows
    that are new, and the number of all; at the start with those of an earlier call.  Raises ValueError before any work,
    for settings, model and images that do not fit, and for an `out` of another job.
    """
    from transmooth import provenance
    from transmooth.attacks.robust import attack_batches, cut, left
    from transmooth.evaluation import test_indices
    from transmooth.evaluation.attack import settings_of
    from transmooth.records import attacked
    from transmooth.records import table as records
    from transmooth.records.journal import Journal

    if out.suffix != ".parquet":
        raise ValueError(f"{out}: should end in .parquet (records)")
    settings = settings_of(spec)
    settings.check()
    indices = test_indices(len(images), spec.images).tolist()
    pictures = attacked.pictures_hash(images.pictures(indices))
    header = {"spec": spec.dump(), "model": model.identity, "data": images.identity | {"pictures": pictures}}
    with Journal(out, header) as journal:
        if out.exists():
            same_job(records.metadata(out), header, out)
            progress(attacked.read(out).to_pylist(), len(indices))
            return attacked.read(out).to_pandas()
        if other := journal.foreign():
            same_job(other, header, journal.path)
        finished = journal.finished()
        journal.restart(finished)  # without a line that was torn
        todo = left(cut(indices, spec.batch), finished)
        total = len(finished) + sum(map(len, todo))
        progress(finished, total)
        labels = {index: int(images.labels[index]) for each in todo for index in each}
        for rows in attack_batches(_target(spec, network, images), images.fetch, labels, todo, settings):
            named = [row | {"model": model.sha256} for row in rows]
            journal.append(named)
            progress(named, total)
        made = {
            "spec": header["spec"],
            "model": model.identity | {"model": model.description},
            "data": images.identity | {"pictures": pictures, "images": images.description, **images.prepared},
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }
        attacked.write(attacked.complete(attacked.from_rows(journal.finished(), made), out, indices), out)
        journal.remove()
    return attacked.read(out).to_pandas()


def _matched(spec: "AttackSpec", model: "LoadedModel", images: "ImageSet") -> tuple["nn.Module", "ImageSet"]:
    """Return the base classifier, on its device, and the images with its classes.

    Raises ValueError for one that does not fit the images, or the noise.
    """
    from transmooth.smoothing.engine import base_classifier
    from transmooth.specs import SmoothedAttackSpec

    if not isinstance(spec, SmoothedAttackSpec):
        return fitted(model, images, [0.0], None)
    network, images = fitted(model, images, [spec.sigma], None)
    return base_classifier(network, spec.sigma), images


def _target(spec: "AttackSpec", network: "nn.Module", images: "ImageSet") -> "Target":
    """Return what the spec asks to attack."""
    import torch

    from transmooth.attacks.robust import base_target
    from transmooth.evaluation import test_indices
    from transmooth.evaluation.attack import settings_of
    from transmooth.smoothing.attack import planned_votes, smoothed_target
    from transmooth.smoothing.engine import EXAMPLES, prepare
    from transmooth.specs import SmoothedAttackSpec

    if not isinstance(spec, SmoothedAttackSpec):
        return base_target(network)
    indices = test_indices(len(images), spec.images).tolist()
    some = torch.stack([images.fetch(index) for index in indices[:EXAMPLES]])
    engine = prepare(network, some, spec.sigma, planned_votes(len(indices), spec.n, settings_of(spec)))
    return smoothed_target(network, engine, spec.sigma, spec.samples, spec.n, spec.alpha, spec.seed)


def _show(found: Mapping[str, Any], spec: "AttackSpec", beside: "pd.DataFrame | None") -> None:
    """Print the shares, what they took and, of images that are certified too, each radius beside its distance."""
    ball = f"within epsilon = {spec.epsilon:g} ({spec.norm}), at most"
    for name, key, words in (("SA", "standard_accuracy", ""), ("RA", "robust_accuracy", f", {ball}")):
        low, high = found[key]["interval"]
        typer.echo(f"{name}  {found[key]['share']:>7.2%}  95 % interval {low:.2%} to {high:.2%}{words}")
    left = ", ".join(f"{loss} {share:.2%}" for loss, share in found["after"].items())
    typer.echo(f"left after {left}")
    typer.echo(f"{found['n']} images, AutoPGD of {spec.steps} steps, {found['evaluations']:,} evaluations")
    if beside is None:
        return
    typer.echo("image  class  certified radius  distance  class there")
    for row in beside.itertuples():
        there = f"{row.distance:>8.4f}  {row.adversarial:>11}"
        typer.echo(f"{row.index:>5}  {row.prediction:>5}  {row.radius:>16.4f}  {there}{'  !' * row.broken}")
    typer.echo(f"{len(beside)} certified images have a point, {int(beside['broken'].sum())} nearer than their radius")
