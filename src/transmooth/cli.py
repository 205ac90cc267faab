"""The command line: arguments -> one call.  Heavy imports happen inside the command that needs them.

Results go to standard output, everything else to standard error.  Faults that can be expected end with one line and
status 1, wrong usage with status 2, Ctrl-C with status 130.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
job = typer.Typer(no_args_is_help=True, help="The jobs of the workflow, as its rules call them.")
app.add_typer(job, name="job")


@contextmanager
def _faults_in_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"transmooth: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from error


def _spec(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise typer.BadParameter("should be a JSON object")
    return value


Spec = Annotated[Any, typer.Option(parser=_spec, help="What the job is to do, as JSON.", metavar="JSON")]
Data = Annotated[Path, typer.Option(help="Folder of a prepared dataset.")]
Out = Annotated[Path, typer.Option(help="What to write.")]


def _radii(text: str) -> dict[str, float]:
    """Radius by what was typed for it."""
    try:
        radii = {part.strip(): float(part) for part in text.split(",")}
    except ValueError:
        radii = {}
    if not radii or not all(0 <= radius < float("inf") for radius in radii.values()):
        raise typer.BadParameter(f"should be numbers >= 0 with commas between, such as 0,0.25,0.5; found {text!r}")
    return radii


Radii = Annotated[Any, typer.Option(parser=_radii, metavar="R,R,…", help="Radii, such as 0,0.25,0.5.")]
Model = Annotated[
    str,
    typer.Argument(
        help="Checkpoint folder, timm:NAME@WEIGHTS, TorchScript (.pt, .ts), torch.export (.pt2) or module:function"
    ),
]
Images = Annotated[str, typer.Argument(help="Prepared folder, ImageFolder, or torchvision NAME or NAME@ROOT")]
Sigma = Annotated[float, typer.Option(help="Standard deviation of the noise, on images in [0, 1].")]
OneSigma = Annotated[float | None, typer.Option("--sigma", help="Which records, if the file has several sigmas.")]
Split = Annotated[str, typer.Option(help="Which split of the images.")]
Size = Annotated[int | None, typer.Option(help="Resize and crop to squares of this side; else as they are.")]
Count = Annotated[int | None, typer.Option("--images", min=1, help="How many, evenly spaced; else all.")]
Batch = Annotated[int, typer.Option(min=1, help="Noisy images in one forward pass; changes no result.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Log = Annotated[Path, typer.Argument(help="Parquet records, or a log: idx label predict radius correct time.")]


@app.callback()
def main() -> None:
    """Transfer learning for certified robustness by randomized smoothing."""


@app.command("certify")
def certify_anything(
    model: Model,
    images: Images,
    sigma: Sigma,
    out: Annotated[Path, typer.Option(help="Records (.parquet) or a log in the field's format (.tsv).")],
    method: Annotated[
        str, typer.Option(help="cohen, cohen_two_sided, sequential (with --radii) or adaptive.")
    ] = "cohen",
    n0: Annotated[int, typer.Option(help="Samples that select the class.")] = 100,
    n: Annotated[int, typer.Option(help="Samples that certify it: at most, where the method may stop.")] = 100_000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, that a radius is too large.")] = 0.001,
    radii: Radii = None,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    batch: Batch = 256,
    dtype: Annotated[str, typer.Option(help="fp32 or bf16: of the network that is certified.")] = "fp32",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Certify images: for each, a radius within which no perturbation changes the smoothed classifier's answer.

    The model takes images in [0, 1]. Interrupt it at any time: the same command goes on where it was.

    Example: transmooth certify timm:resnet50@weights.safetensors pictures/ --size 224 --sigma 0.5
    --method sequential --radii 0,0.5,1 --images 500 --out records.parquet
    """
    with _faults_in_one_line():
        if dtype not in ("fp32", "bf16"):
            raise ValueError(f"dtype should be fp32 or bf16, found {dtype!r}")
        from transmooth import jobs, loading

        jobs.threads_per_process()
        spec = {"method": method, "sigmas": [sigma], "n0": n0, "n": n, "alpha": alpha, "seed": seed, "dtype": dtype}
        spec |= {"images": count or "all"} | ({"radii": list(radii.values())} if radii else {})
        done = 0
        with _progress(quiet) as show:

            def progress(rows: list[dict[str, Any]], total: int) -> None:
                nonlocal done
                done += len(rows)
                show(rows, total)

            try:
                loaded, pictures = loading.load_model(model), loading.load_images(images, split, size)
                jobs.certify_anything(spec, loaded, pictures, out, batch, progress)
            except KeyboardInterrupt:
                typer.echo(f"stopped: {done} images are done and kept; the same command goes on from there", err=True)
                raise typer.Exit(130) from None


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


@app.command()
def predict(
    model: Model,
    images: Images,
    sigma: Sigma,
    n: Annotated[int, typer.Option(help="Votes per image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Probability, per image, of another class than the right vote.")] = 0.001,
    count: Count = None,
    split: Split = "test",
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    batch: Batch = 256,
) -> None:
    """Print the smoothed classifier's class of each image, -1 where the votes are too close to tell.

    Example: transmooth predict model/ data/digits --sigma 0.5 --images 10
    """
    with _faults_in_one_line():
        import torch

        from transmooth import jobs, loading
        from transmooth.certify.chunks import CHUNK
        from transmooth.certify.sampler import Sampler
        from transmooth.smoothed import check_model, vote

        jobs.threads_per_process()
        loaded, pictures = loading.load_model(model), loading.load_images(images, split, size)
        network = loaded.module.to("cuda" if torch.cuda.is_available() else "cpu")
        loading.check_classes(loaded, check_model(network, pictures.fetch(0)), pictures)
        sampler = Sampler(network, pictures.fetch, sigma, seed=seed, batch=batch)
        indices = jobs.test_indices(len(pictures), count or "all")
        typer.echo("index\tlabel\tprediction")
        for first in range(0, len(indices), CHUNK):
            chunk = indices[first : first + CHUNK]
            for index, prediction in zip(chunk, vote(sampler, chunk, n, alpha), strict=True):
                typer.echo(f"{index}\t{pictures.labels[index]}\t{prediction}")


@app.command()
def accuracy(
    file: Log,
    radii: Radii = "0,0.25,0.5,0.75,1.0",
    sigma: OneSigma = None,
    alpha: Annotated[float | None, typer.Option(help="Of the log, for the bound: records know theirs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Certified accuracy at radii (right, and certified at >= r), ACR and abstentions of records or a log.

    interval: 95 % for other images of the same kind. lower_bound: on the true certified accuracy of these images,
    right with probability 99.9 % over the noise.

    Example: transmooth accuracy log.tsv --radii 0,0.25,0.5 --json
    """
    with _faults_in_one_line():
        from transmooth import logs

        frame = logs.read_any(file, sigma)
        if alpha is None:
            alpha = float(frame["alpha"].max()) if "alpha" in frame else 0.001
        found = logs.accuracy(frame, list(radii.values()))
        found["lower_bound"] = logs.lower_bounds(frame, list(radii.values()), alpha)
        for key in ("certified_accuracy", "interval", "lower_bound"):
            found[key] = {typed: found[key][radius] for typed, radius in radii.items()}
        found |= {"alpha": alpha, "notes": frame.attrs["notes"]}
        acr = "ACR" if frame.attrs.get("grid") is None else "ACR at least"
    if as_json:
        return typer.echo(json.dumps(found))
    typer.echo("radius  certified  95 % interval    true share at least")
    for typed, share in found["certified_accuracy"].items():
        low, high = found["interval"][typed]
        typer.echo(f"{typed:>6}  {share:>9.2%}  {low:.2%} to {high:.2%}  {found['lower_bound'][typed]:>9.2%}")
    typer.echo(f"{found['n']} images, {acr} {found['acr']:.4f}, abstained {found['abstentions']:.2%}, ", nl=False)
    typer.echo(f"largest radius {found['max_radius']:.4f}, alpha {alpha}")
    for note in found["notes"]:
        typer.echo(f"note: {note}")
    return None


@app.command()
def audit(
    file: Log,
    sigma: Annotated[float | None, typer.Option(help="Of the log, if known: else several are tried.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="To try too: records add their own.")] = None,
    alpha: Annotated[float | None, typer.Option(help="To try too: records add their own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell with which alpha, n and sigma the radii of a log can have been made by Cohen's procedure.

    `saturates`: the largest radius is the one that n clean samples give, strong evidence; `possible`: a larger n always
    is; `unattainable` and `exceeded`: not with these.

    Example: transmooth audit log.tsv --sigma 0.25
    """
    with _faults_in_one_line():
        from transmooth import logs

        frame = logs.read_any(file, sigma)
        if "sigma" in frame:
            sigma = float(frame["sigma"][0])
        if others := sorted(set(frame.get("method", ["cohen"])) - {"cohen"}):
            raise ValueError(f"{file}: an audit is of radii by Cohen's procedure, these are by {', '.join(others)}")
        # Own ones first, each once: equal verdicts stay in this order.
        alphas = [] if alpha is None else [alpha]
        ns = [] if n is None else [n]
        if "method" in frame:
            alphas += sorted(set(frame["alpha"].tolist()))
            ns += sorted(set(frame["n"].tolist()) - {0})
        alphas, ns = list(dict.fromkeys([*alphas, *logs.ALPHAS])), list(dict.fromkeys([*ns, *logs.NS]))
        found = logs.audit(frame["radius"], sigma, alphas, ns)
    if as_json:
        return typer.echo(json.dumps({"candidates": found.to_dict("records"), "notes": frame.attrs["notes"]}))
    likely = found[found["verdict"].isin(["saturates", "possible"])]
    shown = likely if len(likely) else found.head(5)
    typer.echo(shown.drop(columns=["above", "unattainable"] if len(likely) else []).to_string(index=False))
    return None


@app.command()
def compare(
    a: Log,
    b: Log,
    radius: Annotated[float, typer.Option(min=0, help="Where to compare the certified accuracies.")],
    sigma: OneSigma = None,
    as_json: AsJson = False,
) -> None:
    """Compare two records or logs of the same images, pair by pair (A - B): accuracy at a radius, and ACR.

    Example: transmooth compare ours.parquet theirs.tsv --radius 0.5
    """
    with _faults_in_one_line():
        from transmooth import logs

        found = logs.compare(logs.read_any(a, sigma), logs.read_any(b, sigma), radius)
    if as_json:
        return typer.echo(json.dumps(found))
    low, high = found["interval"]
    typer.echo(
        f"certified accuracy at {radius:g}: {found['difference']:+.2%}, 95 % {low:+.2%} to {high:+.2%}, ", nl=False
    )
    typer.echo(f"p = {found['p_value']:.2g} ({found['only_a']} images in A alone, {found['only_b']} in B alone)")
    low, high = found["acr_interval"]
    bound = f" (a lower bound for {' and '.join(found['acr_lower_bound'])})" if found["acr_lower_bound"] else ""
    typer.echo(
        f"ACR{bound}: {found['acr_difference']:+.4f}, 95 % {low:+.4f} to {high:+.4f}, p = {found['acr_p_value']:.2g}"
    )
    typer.echo(f"{found['n']} images")
    for note in found["notes"]:
        typer.echo(f"note: {note}")
    return None


@app.command("export-log")
def export_log(
    records: Log, log: Annotated[Path, typer.Argument(help="What to write.")], sigma: OneSigma = None
) -> None:
    """Write records as a log that any tool of the field reads; radii are rounded down, never up.

    Example: transmooth export-log records.parquet log.tsv --sigma 0.5
    """
    with _faults_in_one_line():
        from transmooth import logs

        frame = logs.read_any(records, sigma)
        logs.write(frame, log)
    if notes := frame.attrs["notes"]:
        typer.echo(f"note: {log} cannot say so, but: {'; '.join(notes)}", err=True)


@app.command("import-log")
def import_log(
    log: Log,
    records: Annotated[Path, typer.Argument(help="What to write.")],
    sigma: Sigma,
    alpha: Annotated[float, typer.Option(help="Failure probability that it was certified with.")],
    n: Annotated[int, typer.Option(min=1, help="Samples that it was certified with.")],
) -> None:
    """Turn a log of Cohen's procedure into records, if its radii can be those of sigma, alpha and n.

    Example: transmooth import-log log.tsv records.parquet --sigma 0.25 --alpha 0.001 --n 100000
    """
    with _faults_in_one_line():
        from transmooth import logs
        from transmooth import records as parquet

        parquet.write(logs.to_records(logs.read(log), sigma, alpha, n, log.name), records)


@job.command()
def prepare(spec: Spec, base: Annotated[Path, typer.Option(help="Where relative sources start.")], out: Out) -> None:
    """Decode, resize and split a dataset into arrays."""
    from transmooth.data import prepare

    prepare({k: v for k, v in spec.items() if k != "sha256"}, out, base, spec["sha256"])


@job.command()
def train(
    spec: Spec,
    data: Data,
    out: Out,
    init: Annotated[Path | None, typer.Option(help="Checkpoint folder to transfer from.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Longest time between two saves of the state.")] = 300,
) -> None:
    """Pretrain or finetune one network."""
    from transmooth.jobs import threads_per_process
    from transmooth.train import train

    threads_per_process()
    train(spec, data, out, init, checkpoint_seconds)


@job.command()
def certify(
    spec: Spec,
    data: Data,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Out,
    shard: Annotated[str, typer.Option(help="Which part of the test images: K-of-N.")] = "1-of-1",
    batch: Annotated[int, typer.Option(help="Noisy images in one forward pass.")] = 256,
) -> None:
    """Certify a shard of the test images."""
    from transmooth.jobs import certify, threads_per_process

    threads_per_process()
    number, shards = map(int, shard.split("-of-"))
    certify(spec, data, checkpoint, out, number - 1, shards, batch)


@job.command()
def merge(spec: Spec, data: Data, parts: list[Path], out: Out) -> None:
    """Join the shards of a run."""
    from transmooth.jobs import merge

    merge(spec, data, parts, out)


@job.command()
def table(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    base: Annotated[Path, typer.Option(help="Where relative paths of logs start.")],
    published: Annotated[Path, typer.Option(help="The papers' numbers.")],
    out: Annotated[Path, typer.Option(help="What to write, without .csv and .md.")],
    metrics: Annotated[Path, typer.Option(help="Summary for dvc metrics.")],
) -> None:
    """Make a table from records."""
    from transmooth.report.tables import write_table

    write_table(spec, results, base, published, out, metrics)


@job.command()
def figure(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    out: Annotated[Path, typer.Option(help="What to write, without .svg, .png and .csv.")],
) -> None:
    """Draw a figure from records."""
    from transmooth.report.figures import write_figure

    write_figure(spec, results, out)


@job.command()
def gap(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study.")],
    data: Annotated[list[Path], typer.Option(help="Folders of the prepared datasets, named as in the params.")],
    out: Annotated[Path, typer.Option(help="Table to write, without .csv and .md.")],
    figure: Annotated[Path, typer.Option(help="Figure to write, without .svg and .png.")],
) -> None:
    """Measure how far normalised features move between pretraining and finetuning."""
    from transmooth.gap import write_gap
    from transmooth.jobs import threads_per_process

    threads_per_process()
    write_gap(spec, results, {folder.name: folder for folder in data}, out, figure)


@job.command()
def training(runs: list[Path], out: Out) -> None:
    """Collect the training curves of checkpoint folders."""
    from transmooth.report.training import write_training

    write_training(runs, out)


if __name__ == "__main__":
    app()
