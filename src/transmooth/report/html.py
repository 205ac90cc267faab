"""One HTML file that tells a study, or one network's records: it needs no network and no other file to be read."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from scipy.stats import spearmanr

from transmooth import files
from transmooth.report import charts, runs
from transmooth.report.accuracy import Floats, RowResult, read_files, read_log_row, read_row, tidy
from transmooth.report.figures import curves
from transmooth.report.tables import OurRow, PaperRow, methods, our_rows, paper_rows, read_published

if TYPE_CHECKING:
    from transmooth.loading.images import ImageSet
    from transmooth.report.examples import Example

STEP = 0.0125  # of the radii of a curve: a fraction of the radii that tables show, so that hovering finds those
POINTS = 130
RECOMPUTED = "Recomputed from logs of others"
EXAMPLES = 3  # three stand in a line


@dataclass(frozen=True)
class TableRow:
    """A row of a table of the page: ours, the paper's, or both beside each other."""

    name: str
    ours: OurRow | None
    paper: PaperRow | None


@dataclass(frozen=True)
class Section:
    """A report of a study: a heading, what it says in words, a table for tables, a chart for curves, its files."""

    name: str
    title: str
    caption: str
    notes: str = ""
    finding: str = ""
    radii: Sequence[float] = ()
    paper: str | None = None
    blocks: Sequence[tuple[str, Sequence[TableRow]]] = ()
    best_in_paper: Mapping[float | None, float] = field(default_factory=dict)
    by_sigma: Sequence[OurRow] = ()
    lower_bounds: bool = False
    plain: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    chart: Mapping[str, Any] | None = None
    links: Sequence[str] = ()


@dataclass(frozen=True)
class Gallery:
    """Example images of one network on one dataset."""

    dataset: str
    network: str
    most: Sequence["Example"]
    least: Sequence["Example"]


@dataclass(frozen=True)
class Page:
    """What the template shows; a part that is empty is left out."""

    title: str
    lead: str
    facts: Mapping[str, str]
    tables: Sequence[Section] = ()
    figures: Sequence[Section] = ()
    galleries: Sequence[Gallery] = ()
    training: Section | None = None
    stages: Sequence[Mapping[str, str]] = ()
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    runs: Sequence[Mapping[str, Any]] = ()


def write_report(
    spec: Mapping[str, Any], results: Path, base: Path, published: Path, data: Mapping[str, Path], out: Path
) -> None:
    """Write the page of a study from its tables, records and cards below `results`; links in it are relative to `out`.

    spec: as `Plan.report` makes it.  base: where paths of other people's logs start.  data: dataset → prepared folder.
    Raises ValueError where records are damaged or are not of these data.
    """
    trainings = [runs.read_training(path, results) for path in spec["trainings"]]
    certified = [runs.read_certification(path, results) for path in spec["records"]]
    tables = [_table(table, results, base, published) for table in spec["tables"]]
    figures = [_figure(figure, results) for figure in spec["figures"]] + [_gap(gap, results) for gap in spec["gaps"]]
    galleries = [_gallery(name, folder, certified) for name, folder in sorted(data.items())]
    page = Page(
        title=f"Study {spec['study']}",
        lead=_lead(spec["study"], trainings, certified),
        facts=_facts(trainings, certified),
        tables=tables,
        figures=figures,
        galleries=[gallery for gallery in galleries if gallery is not None],
        training=_training(results),
        stages=[*_training_stages(trainings), _certify_stage(certified)],
        parameters=_parameters(trainings, certified),
        versions=runs.versions([*(each.card for each in trainings), *(each.made for each in certified)]),
        data={name: _dataset(folder) for name, folder in sorted(data.items())},
        runs=[_run(training, certified) for training in trainings],
    )
    files.write_text(out, render(page))


def write_single(paths: Sequence[Path], radii: Sequence[float], out: Path, images: "ImageSet | None" = None) -> None:
    """Write the page of one network's records: a file, or one for each sigma.

    radii: of the table.  images: those that were certified, for examples; without them there are none.
    Raises ValueError as `accuracy.read_files` does, and for records that are not of these images.
    """
    row = read_files(paths, "this network")
    parts = [runs.read_certification(path.name, path.parent) for path in paths]
    whole = runs.Certification(
        ", ".join(map(str, paths)),
        pd.concat([part.frame for part in parts], ignore_index=True),
        parts[0].made,
        {sigma: acr for part in parts for sigma, acr in part.acr.items()},
    )
    lines = tidy([row], radii)
    section = Section(
        name="accuracy",
        title="Certified accuracy",
        caption="Share of the test images with the right class and a radius of at least ε.",
        notes=methods(lines),
        radii=radii,
        blocks=_beside(lines, radii, []),
        by_sigma=our_rows(lines[~lines["oracle"]], radii, sigma=True),
        lower_bounds=bool(lines["grid"].any()),
        chart=_curves("Certified accuracy of this network", [("", curves([row], _grid([row])), row.images)]),
    )
    identity = {key: dict(whole.made.get(key) or {}) for key in ("model", "data")}
    network = str(identity["model"].get("model") or whole.frame["model"].iloc[0] or "unknown weights")
    page = Page(
        title=f"Certified robustness of {network}",
        lead=f"{row.images} test images, certified at {_sigmas(whole)}.",
        facts={"evaluations": f"{whole.evaluations:,}", "time": _duration(float(whole.frame["seconds"].sum()))},
        tables=[section],
        galleries=[] if images is None else [_pictures(whole, images.description, images, network)],
        stages=[_certify_stage([whole])],
        parameters={"certification": runs.parameters([part.made.get("spec", {}) for part in parts])},
        versions=runs.versions(part.made for part in parts),
        data={"images": {key: str(value) for key, value in identity["data"].items()}} if identity["data"] else {},
    )
    files.write_text(out, render(page))


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("transmooth.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        page=page, library=charts.library(), version=version("transmooth")
    )


# ------------------------------------------------------------------------------------------ tables and figures
def _table(spec: Mapping[str, Any], results: Path, base: Path, published: Path) -> Section:
    words = dict.fromkeys(("block", "row", "published", "method", "grid"), str)
    missing = {key: [""] for key in ("published", "seed_sd", "clean_accuracy", "clean_sd", "n0", "n", "alpha")}
    path = results / "tables" / f"{spec['name']}.csv"
    every = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=missing)
    # Only a network of ours has a clean accuracy, measured on some images.
    lines, logs = every[every["clean_images"] > 0], every[every["clean_images"] == 0]
    rows = [read_row(row, results) for row in spec["rows"]]
    rows += [replace(read_log_row(row, base), block=RECOMPUTED) for row in spec["logs"]]
    grid = _grid(rows)
    panels = []
    for block, members in groupby(rows, lambda row: row.block):
        drawn = [(row, curves([row], grid)) for row in members]
        # The other way round than a figure: a panel for each sigma and the oracle, a curve for each row.
        for panel in dict.fromkeys(name for _, frame in drawn for name in frame["curve"]):
            frame = pd.concat([part[part["curve"] == panel].assign(curve=row.label) for row, part in drawn])
            panels.append((f"{block}, {panel}" if block else panel, frame, drawn[0][0].images))
    quoted = read_published(published, spec["paper"])
    labels = {row["published"]: row["label"] for row in [*spec["rows"], *spec["logs"]] if row["published"]}
    paper = paper_rows(quoted, labels)
    where = f"{spec['paper']}, {', '.join(sorted(set(quoted['dataset'])))}" if paper else None
    best = {None: [float(row.clean) for row in paper if row.clean]} | {
        radius: [float(row.certified[radius]) for row in paper if radius in row.certified] for radius in spec["radii"]
    }
    return Section(
        name=spec["name"],
        title=spec["title"],
        caption=spec["caption"],
        notes=methods(lines),
        finding=_finding(lines, paper, spec["radii"][(len(spec["radii"]) - 1) // 2]),
        radii=spec["radii"],
        paper=where,
        blocks=_beside(lines, spec["radii"], paper, logs),
        best_in_paper={radius: max(values) for radius, values in best.items() if values},
        by_sigma=our_rows(lines[~lines["oracle"]], spec["radii"], sigma=True),
        lower_bounds=bool((lines["grid"] != "").any()),
        chart=_curves(f"{spec['title']}: certified accuracy by radius", panels),
        links=[f"tables/{spec['name']}.csv", f"tables/{spec['name']}.md"],
    )


def _beside(
    lines: pd.DataFrame, radii: Sequence[float], paper: Sequence[PaperRow], logs: pd.DataFrame | None = None
) -> list[tuple[str, list[TableRow]]]:
    """Blocks of rows, the oracle's and the paper's beside each other; last, what only logs or the paper have."""
    quoted = {row.key: row for row in paper}
    ours = our_rows(lines[lines["oracle"]], radii, sigma=False)
    blocks = [
        (block, [TableRow(row.label, row, quoted.pop(row.published or "", None)) for row in members])
        for block, members in groupby(ours, lambda row: row.block)
    ]
    if logs is not None and len(logs):
        recomputed = our_rows(logs[logs["oracle"]], radii, sigma=False)
        rows = [TableRow(row.label, row, quoted.pop(row.published or "", None)) for row in recomputed]
        blocks.append((RECOMPUTED, rows))
    others = [TableRow(row.name, None, row) for row in quoted.values()]
    return [*blocks, ("In the paper only", others)] if others else blocks


def _finding(lines: pd.DataFrame, paper: Sequence[PaperRow], radius: float) -> str:
    """The best row here and in the paper at one radius, and whether both order the rows alike."""
    there = lines[lines["oracle"] & (lines["radius"] == radius)]
    best = there.loc[there["certified_accuracy"].idxmax()]
    name = f"{best['row']} ({best['block']})" if best["block"] else best["row"]
    value, low, high = (100 * best[column] for column in ("certified_accuracy", "low", "high"))
    text = f"At ε = {radius:g}, {name} reaches {value:.1f} % [{low:.0f}, {high:.0f}] (oracle over σ)"
    if len(there) > 1:
        close = int((there["high"] >= best["certified_accuracy"]).sum()) - 1
        text += f", the most of {len(there)} rows; the intervals of {close or 'none'} of the others reach that value"
    values = {row.key: float(row.certified[radius]) for row in paper if radius in row.certified}
    if values:
        leader = max((row for row in paper if row.key in values), key=lambda row: values[row.key])
        text += f". The paper's best there is {leader.name} with {values[leader.key]:.1f} %"
    both = there[there["published"].isin(values)]
    if len(both) > 2 and both["certified_accuracy"].nunique() > 1:
        rank = spearmanr(both["certified_accuracy"], both["published"].map(values)).statistic
        text += f"; the order of the {len(both)} rows that both have agrees at Spearman's ρ = {rank:.2f}"
    return f"{text}."


def _figure(spec: Mapping[str, Any], results: Path) -> Section:
    panels = [(panel["title"], [read_row(row, results) for row in panel["rows"]]) for panel in spec["panels"]]
    grid = _grid([row for _, rows in panels for row in rows])
    drawn = [(title, curves(rows, grid), rows[0].images) for title, rows in panels]
    links = [f"figures/{spec['name']}.{kind}" for kind in ("svg", "png", "csv")]
    return Section(spec["name"], spec["title"], spec["caption"], chart=_curves(spec["title"], drawn), links=links)


def _curves(title: str, panels: Sequence[tuple[str, pd.DataFrame, int]]) -> dict[str, Any]:
    frames = [frame.assign(panel=panel or "all sigmas", images=images) for panel, frame, images in panels]
    lines = pd.concat(frames, ignore_index=True).rename(columns={"radius": "x", "certified_accuracy": "y"})
    return charts.chart(lines, title=title, x="radius ε", y="certified accuracy", percent=True, step=True)


def _grid(rows: Sequence[RowResult]) -> Floats:
    """Radii from 0 to just beyond the largest of these rows, a multiple of STEP apart."""
    largest = max(0.25, *(float(radii.max()) for row in rows for radii in row.curves.values()))
    step = STEP * 2 ** max(0, math.ceil(math.log2(largest / STEP / POINTS)))
    # Rounded, because a record may be certified at 0.75 exactly, and 60 x 0.0125 is not that.
    grid: Floats = np.round(np.arange(math.ceil(largest / step) + 2) * step, 6)
    return grid


def _gap(spec: Mapping[str, Any], results: Path) -> Section:
    lines = pd.read_csv(results / "tables" / f"{spec['name']}.csv")
    mean = lines.pivot_table("gap", ["cause", "row"], "sigma", sort=False)
    head = ["moved by", "", *(f"σ = {sigma:g}" for sigma in mean.columns)]
    rows = [
        [cause, row, *(f"{gap:.3f}" for gap in gaps)]
        for (cause, row), gaps in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    clean = lines[lines["sigma"] == 0].rename(columns={"row": "curve", "depth": "x", "gap": "y"})
    clean = clean.assign(panel="by " + clean["cause"] + ", clean images", oracle=False)
    return Section(
        spec["name"],
        spec["title"],
        spec["caption"],
        notes=f"Mean over the layers, {spec['images']} test images; 0: nothing moves, 1: as much as there is.",
        plain=(head, rows),
        chart=charts.chart(clean, title=spec["title"], x="layer", y="gap", percent=False, step=False),
        links=[f"tables/{spec['name']}.csv", f"figures/{spec['name']}.svg", f"figures/{spec['name']}.png"],
    )


def _training(results: Path) -> Section:
    path = "metrics/training.csv"
    lines = pd.read_csv(results / path).melt("epoch", var_name="run", value_name="y").dropna()
    parts = lines["run"].str.split("/")
    pretrained = parts.str[0] == "pretrain"
    panel = np.where(pretrained, "pretraining", "finetuned from " + parts.str[1])
    curve = np.where(pretrained, parts.str[1], parts.str[2:-1].str.join(", "))
    lines = lines.assign(panel=panel, curve=curve, oracle=False, x=lines["epoch"])
    seeds = parts.str[-1]
    if seeds.nunique() > 1:
        lines["curve"] += ", seed " + seeds
    title = "Accuracy on the validation images by epoch"
    return Section(
        "training",
        title,
        "At the learning rate that was kept; validation images have the noise of the training.",
        chart=charts.chart(lines, title=title, x="epoch", y="validation accuracy", percent=True, step=False),
        links=[path],
    )


# ----------------------------------------------------------------------------------------------------- examples
def _gallery(dataset: str, folder: Path, certified: Sequence[runs.Certification]) -> Gallery | None:
    """Of the network with the largest mean ACR on a dataset; None for a dataset that nothing was certified on."""
    from transmooth.loading.images import load_images

    here = [each for each in certified if each.path.split("/")[2] == dataset]
    if not here:
        return None
    best = max(here, key=lambda each: each.mean_acr)
    _, pretrain, _, finetune, seed, _ = best.path.split("/")
    network = f"pretrained: {pretrain}, finetuned: {finetune}, seed {seed}"
    return _pictures(best, dataset, load_images(str(folder), "test", None), network)


def _pictures(certified: runs.Certification, dataset: str, images: "ImageSet", network: str) -> Gallery:
    # They need torch, which nothing else here does.
    from transmooth.report.examples import examples, extremes

    first = certified.frame.drop_duplicates("index")
    known = first[first["index"] < len(images)]
    if certified.made.get("data", images.identity) != images.identity:
        raise ValueError(
            f"{certified.path}: is not of the images {images.description}, but of {certified.made['data']}"
        )
    if len(known) < len(first) or (images.labels[known["index"].to_numpy()] != known["label"].to_numpy()).any():
        raise ValueError(f"{certified.path}: is not of the images {images.description}: their labels differ")
    most, least = (
        examples(certified.frame, chosen, images.fetch, images.classes)
        for chosen in extremes(certified.frame, EXAMPLES)
    )
    return Gallery(dataset, network, most, least)


# ------------------------------------------------------------------------------------------- what it took
def _lead(study: str, trainings: Sequence[runs.Training], certified: Sequence[runs.Certification]) -> str:
    """What was run, in a sentence or two."""
    pretrained = sum(each.stage == "pretrain" for each in trainings)
    networks = sorted({each.card["network"]["name"] for each in trainings})
    tasks = dict.fromkeys(each.path.split("/")[2] for each in certified)
    images = sorted({each.frame["index"].nunique() for each in certified})
    return (
        f"{pretrained} networks ({', '.join(networks)}) were pretrained and {len(certified)} finetuned on "
        f"{' and '.join(tasks)}; of each, {' or '.join(map(str, images))} test images were certified at "
        f"{_sigmas(certified[0])}."
    )


def _sigmas(certified: runs.Certification) -> str:
    return "σ = " + ", ".join(f"{sigma:g}" for sigma in sorted(certified.acr))


def _facts(trainings: Sequence[runs.Training], certified: Sequence[runs.Certification]) -> dict[str, str]:
    seeds = sorted({each.path.split("/")[-1] for each in trainings}, key=int)
    facts = {
        "networks trained": str(len(trainings)),
        "seeds": ", ".join(seeds),
        "images certified": f"{sum(len(each.frame) for each in certified):,}",
        "evaluations": f"{sum(each.evaluations for each in certified):,}",
        "training": _duration(sum(each.card["seconds"] for each in trainings)),
        "certifying": _duration(sum(float(each.frame["seconds"].sum()) for each in certified)),
        "on": ", ".join(sorted({each.card["device"] for each in trainings})),
    }
    if span := runs.times(trainings):
        started, ended = span
        same_day = started.date() == ended.date()
        facts["trained"] = f"{started:%Y-%m-%d %H:%M} to {ended:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}} UTC"
    return facts


def _training_stages(trainings: Sequence[runs.Training]) -> list[dict[str, str]]:
    stages = []
    for stage in dict.fromkeys(each.stage for each in trainings):
        ours = [each for each in trainings if each.stage == stage]
        time = _duration(sum(each.card["seconds"] for each in ours))
        stages.append({"stage": stage, "jobs": str(len(ours)), "time": time, "evaluations": "–"})
    return stages


def _certify_stage(certified: Sequence[runs.Certification]) -> dict[str, str]:
    seconds = sum(float(each.frame["seconds"].sum()) for each in certified)
    evaluations = sum(each.evaluations for each in certified)
    return {
        "stage": "certify",
        "jobs": str(len(certified)),
        "time": _duration(seconds),
        "evaluations": f"{evaluations:,}",
    }


def _parameters(
    trainings: Sequence[runs.Training], certified: Sequence[runs.Certification]
) -> dict[str, dict[str, str]]:
    specs = {
        "pretraining": [each.card["spec"] for each in trainings if each.stage == "pretrain"],
        "finetuning": [each.card["spec"] for each in trainings if each.stage == "finetune"],
        "certification": [each.made["spec"] for each in certified],
    }
    return {stage: runs.parameters(found) for stage, found in specs.items() if found}


def _dataset(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        "images": ", ".join(f"{count:,} {split}" for split, count in sorted(manifest["counts"].items())),
        "classes": str(len(manifest["classes"])),
        "size": f"{manifest['size']} × {manifest['size']}",
        "duplicates across splits": str(manifest["duplicates_across_splits"]),
        "SHA-256 of the manifest": files.sha256(folder / "manifest.json"),
    }


def _run(training: runs.Training, certified: Sequence[runs.Certification]) -> dict[str, Any]:
    """A line of the table of runs; a pretraining has no records."""
    records = f"{training.path.replace('finetune/', 'certify/', 1)}/records.parquet"
    own = next((each for each in certified if each.path == records), None)
    return {
        "path": training.path,
        "lr": f"{training.card['lr']:g}",
        "validation": f"{100 * training.card['validation_accuracy']:.1f}",
        "clean": f"{100 * training.clean:.1f}",
        "acr": " / ".join(f"{acr:.3f}" for acr in own.acr.values()) if own else "–",
        "weights": training.card["weights_sha256"][:12],
        "commit": (training.card["commit"] or "unknown")[:8],
        "links": [
            *([("records", records)] if own else []),
            ("card", f"{training.path}/model.json"),
            ("weights", f"{training.path}/model.safetensors"),
            ("metrics", f"{training.path}/metrics.jsonl"),
        ],
    }


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
