"""Read, sum up, audit, compare and convert certification records and the logs of the field."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from transmooth.cli.options import AsJson, Radii, Sigma, Size, faults_in_one_line, print_export_notes, was_given

if TYPE_CHECKING:
    import pandas as pd

OneSigma = Annotated[float | None, typer.Option("--sigma", help="Which records, if the file has several sigmas.")]
Labels = Annotated[Path | None, typer.Option(help="Records or a log of the same images, to take labels from.")]
Log = Annotated[Path, typer.Argument(help="Parquet records, or a log: idx label predict radius correct time.")]

# Options of accuracy that are in vain for predictions, which have no radii.
OF_RADII = {"radii": "--radii", "alpha": "--alpha", "each_class": "--by-class"}


def accuracy(
    context: typer.Context,
    file: Log,
    radii: Radii = "0,0.25,0.5,0.75,1.0",
    sigma: OneSigma = None,
    alpha: Annotated[
        float | None, typer.Option(help="Of a log, for the bound; of records, whose radii are computed anew for it.")
    ] = None,
    labels: Labels = None,
    each_class: Annotated[
        bool, typer.Option("--by-class", help="The numbers of each class, and what its images are taken for.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sum up records or a log: accuracies, ACR, abstentions.

    Certified accuracy at r: the share that is right, and certified at >= r. Of predictions, which have no radii, the
    shares that are right, wrong and abstained.
    interval: 95 % for other images of the same kind. lower_bound: on the true certified accuracy of these images,
    right with probability 99.9 % over the noise.

    \b
    Examples:
      transmooth accuracy records.parquet --radii 0,0.25,0.5
      transmooth accuracy log.tsv --radii 0,0.25,0.5 --json
    """
    with faults_in_one_line():
        from transmooth.records import logs
        from transmooth.records import table as records
        from transmooth.report import compare

        known = logs.read_labels(labels) if labels else None
        frame = logs.read_any(file, sigma, predictions=True, labels=known)
        if frame["radius"].isna().all():
            if vain := [option for name, option in OF_RADII.items() if was_given(context, name)]:
                raise ValueError(f"{vain[0]}: is about certified radii: {file} has none")
            return _predictions(frame, as_json)
        if alpha is None:
            alpha = float(frame["alpha"].max()) if "alpha" in frame else 0.001
        elif "alpha" in frame:
            frame = compare.at_alpha(frame, alpha, file)
        found = compare.accuracy(frame, list(radii.values()))
        found["lower_bound"] = compare.lower_bounds(frame, list(radii.values()), alpha)
        for key in ("certified_accuracy", "interval", "lower_bound"):
            found[key] = {typed: found[key][radius] for typed, radius in radii.items()}
        found |= {"alpha": alpha, "notes": frame.attrs["notes"]}
        if each_class:
            named = records.metadata(file).get("data", {}).get("classes", []) if "method" in frame else []
            found["classes"] = _by_class(compare.by_class(frame, list(radii.values())), named, radii)
        acr = "ACR" if frame.attrs.get("grid") is None else "ACR at least"
    if as_json:
        return typer.echo(json.dumps(found))
    typer.echo("radius  certified  95 % interval    true share at least")
    for typed, share in found["certified_accuracy"].items():
        low, high = found["interval"][typed]
        typer.echo(f"{typed:>6}  {share:>9.2%}  {low:.2%} to {high:.2%}  {found['lower_bound'][typed]:>9.2%}")
    typer.echo(f"{found['n']} images, {acr} {found['acr']:.4f}, abstained {found['abstentions']:.2%}, ", nl=False)
    typer.echo(f"largest radius {found['max_radius']:.4f}, alpha {alpha}")
    for each in found.get("classes", []):
        shares = "  ".join(f"{share:>8.2%}" for share in each["certified_accuracy"].values())
        wrong = {name: count for name, count in each["predictions"].items() if name not in (each["class"], "abstained")}
        taken = ", ".join(f"{name} {count}" for name, count in list(wrong.items())[:3])
        typer.echo(f"{each['class']}: {each['n']} images  {shares}  abstained {each['abstentions']:.2%}", nl=False)
        typer.echo(f"  taken for {taken}" if taken else "")
    for note in found["notes"]:
        typer.echo(f"note: {note}")
    return None


def _by_class(found: list[dict[str, Any]], names: list[str], radii: dict[str, float]) -> list[dict[str, Any]]:
    """Classes by their names, where the records have them, and radii as they were typed."""

    def name(number: int) -> str:
        return "abstained" if number < 0 else names[number] if number < len(names) else str(number)

    return [
        each
        | {
            "class": name(each["label"]),
            "certified_accuracy": {typed: each["certified_accuracy"][radius] for typed, radius in radii.items()},
            "predictions": {name(key): count for key, count in each["predictions"].items()},
        }
        for each in found
    ]


def _predictions(frame: "pd.DataFrame", as_json: bool) -> None:
    """Sum up a log without radii."""
    abstains, right = frame["prediction"] == -1, frame["correct"].mean()
    abstained = abstains.mean()
    wrong = float((~frame["correct"] & ~abstains).mean())
    found = {"n": len(frame), "accuracy": float(right), "abstentions": float(abstained), "wrong": wrong}
    if as_json:
        return typer.echo(json.dumps(found | {"notes": frame.attrs["notes"]}))
    typer.echo(f"{found['n']} predictions without radii: {right:.2%} right, ", nl=False)
    typer.echo(f"{abstained:.2%} abstained, {found['wrong']:.2%} wrong")
    for note in frame.attrs["notes"]:
        typer.echo(f"note: {note}")
    return None


def merge(
    records: Annotated[list[Path], typer.Argument(help="Parquet records of one network, certified alike.")],
    out: Annotated[Path, typer.Option(help="Records to write.")],
) -> None:
    """Join records of one network: more sigmas, or images.

    \b
    Example:
      transmooth merge records.parquet more.parquet --out all.parquet
    """
    with faults_in_one_line():
        from transmooth.records import table

        _check_name(out)
        table.join(records, out)


def _check_name(records: Path) -> None:
    """Raise ValueError for records to write whose name says that they are something else."""
    if records.suffix != ".parquet":
        raise ValueError(f"{records}: should end in .parquet, as records do")


def report(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="Parquet records of one network: of certify, a file or one for each sigma, of attack, or both; or "
            "two to compare."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write (.html).")],
    radii: Radii = "0,0.25,0.5,0.75,1.0",
    images: Annotated[
        str | None, typer.Option(help="The images that were certified: the page then shows some.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the images.")] = "test",
    size: Size = None,
    denoiser: Annotated[
        str | None, typer.Option(help="What the network had before it, as in certify: the page then shows that too.")
    ] = None,
) -> None:
    """Write an HTML page of records, or of two studies' differences.

    It shows accuracies, interactive curves, example images and provenance, and needs no network and no other file.
    Records of attacks give the accuracy that they left; beside a certification, the distance of each image's point
    stands beside its certified radius, and a contradiction is named.
    Two folders of results, or two files of records at the same sigma, are compared: image by image, where both have the
    same ones.

    \b
    Examples:
      transmooth report records.parquet --out report.html
      transmooth report certified.parquet attacked.parquet --out both.html
      transmooth report ours.parquet theirs.parquet --out compared.html
    """
    with faults_in_one_line():
        from transmooth.report.page.single import write_single
        from transmooth.report.page.versus import are_compared, write_versus

        if out.suffix not in (".html", ".htm"):
            raise ValueError(f"{out}: should end in .html, as pages do")
        pictures = cleaner = None
        if are_compared(records):
            if images is not None:
                raise ValueError("--images: are of one network's page, not of one that compares two")
            return write_versus(records, list(radii.values()), out)
        if denoiser is not None and images is None:
            raise ValueError("--denoiser: shows what it leaves of --images, which are not named")
        if images is not None:
            from transmooth.loading.denoisers import load_denoiser
            from transmooth.loading.images import load_images

            pictures = load_images(images, split, size)
            cleaner = load_denoiser(denoiser) if denoiser else None
        for contradiction in write_single(records, list(radii.values()), out, pictures, cleaner):
            typer.echo(f"contradiction: {contradiction}", err=True)
    return None


def audit(
    file: Log,
    sigma: Annotated[float | None, typer.Option(help="Of the log, if known: else several are tried.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="To try too: records add their own.")] = None,
    alpha: Annotated[float | None, typer.Option(help="To try too: records add their own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which alpha, n and sigma can have made a log's radii.

    By Cohen's procedure, with which records and logs of the field are made.

    `saturates`: the largest radius is the one that n clean samples give, strong evidence; `possible`: a larger n always
    is; `unattainable` and `exceeded`: not with these.

    \b
    Example:
      transmooth audit log.tsv --sigma 0.25
    """
    with faults_in_one_line():
        from transmooth.records import audit, logs

        frame = logs.read_any(file, sigma)
        found = audit.candidates(frame, file, sigma, n, alpha)
    if as_json:
        return typer.echo(json.dumps({"candidates": found.to_dict("records"), "notes": frame.attrs["notes"]}))
    likely = found[found["verdict"].isin(["saturates", "possible"])]
    shown = likely if len(likely) else found.head(5)
    typer.echo(shown.drop(columns=["above", "unattainable"] if len(likely) else []).to_string(index=False))
    return None


def compare(
    a: Log,
    b: Log,
    radius: Annotated[float, typer.Option(min=0, help="Where to compare the certified accuracies.")],
    sigma: OneSigma = None,
    common: Annotated[bool, typer.Option("--common", help="Leave out images that are in one alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two records or logs of the same images, pair by pair.

    The difference A - B of the certified accuracies at a radius, and of the ACR, each with an interval and a p-value.

    \b
    Example:
      transmooth compare ours.parquet theirs.tsv --radius 0.5
    """
    with faults_in_one_line():
        from transmooth.records import logs
        from transmooth.report import compare

        found = compare.compare(logs.read_any(a, sigma), logs.read_any(b, sigma), radius, common)
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


def export_log(
    records: Log, log: Annotated[Path, typer.Argument(help="What to write.")], sigma: OneSigma = None
) -> None:
    """Write records as a log that any tool of the field reads.

    Radii are rounded down, never up.

    \b
    Example:
      transmooth export-log records.parquet log.tsv
    """
    with faults_in_one_line():
        from transmooth.records import logs

        if log.suffix == ".parquet":
            raise ValueError(f"{log}: is named as records are, and a log is to be written")
        frame = logs.read_any(records, sigma)
        logs.write(frame, log)
    print_export_notes(log, frame.attrs["notes"])


def import_log(
    log: Log,
    records: Annotated[Path, typer.Argument(help="What to write.")],
    sigma: Sigma,
    alpha: Annotated[float, typer.Option(help="Failure probability that it was certified with.")],
    n: Annotated[int, typer.Option(min=1, help="Samples that it was certified with.")],
    n0: Annotated[int | None, typer.Option(min=1, help="Samples that selected the class, if known.")] = None,
    labels: Labels = None,
) -> None:
    """Turn a log of Cohen's procedure into records.

    Refused unless its radii can be those of sigma, alpha and n.

    \b
    Example:
      transmooth import-log log.tsv records.parquet --sigma 0.25 --alpha 0.001 --n 100000
    """
    with faults_in_one_line():
        from transmooth.records import logs
        from transmooth.records import table as parquet

        _check_name(records)
        frame = logs.read(log, labels=logs.read_labels(labels) if labels else None)
        parquet.write(logs.to_records(frame, sigma, alpha, n, log.name, n0), records)
        notes = frame.attrs["notes"]
    for note in notes:
        typer.echo(f"note: {log}: {note}", err=True)
