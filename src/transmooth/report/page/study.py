"""The page of a study."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transmooth import files
from transmooth.params.tables import KINDS
from transmooth.report.cells import SHARES
from transmooth.report.page.classes import classes_of
from transmooth.report.page.galleries import farthest, galleries
from transmooth.report.page.page import Page, render
from transmooth.report.page.provenance import (
    Attacked,
    Certification,
    Training,
    duration,
    parameters,
    read_attack,
    read_certification,
    read_training,
    times,
    versions,
)
from transmooth.report.page.sections import (
    course_section,
    figure_section,
    gains_section,
    row_labels,
    shift_section,
    table_section,
    training_section,
)
from transmooth.specs import PageSpec, RowSpec


def write_report(
    spec: PageSpec, results: Path, base: Path, published: Path, data: Mapping[str, Path], out: Path
) -> None:
    """Write the page of a study from its tables, records and cards below `results`; links in it are relative to `out`.

    base: where paths of other people's logs start.  data: dataset → prepared folder.
    Raises ValueError where records are damaged or are not of these data.
    """
    trainings = [read_training(path, results) for path in spec.trainings]
    certified = [read_certification(each.path, results) for each in spec.records if each.kind in KINDS["certified"]]
    attacks = [read_attack(each.path, results) for each in spec.records if each.kind == "attack"]
    figures = [figure_section(figure, results, base) for figure in spec.figures]
    figures += [shift_section(shift, results) for shift in spec.shifts]
    figures += [course_section(course, results) for course in spec.courses]
    figures += [gains_section(gain, results) for gain in spec.gains]
    best = {name: found for name in sorted(data) if (found := farthest(name, certified))}
    columns = [column for table in spec.tables for column in table.columns if column.measure in SHARES]
    radii = sorted({column.radius for column in columns if column.radius is not None})
    classes = [
        classes_of(network, name, words, _manifest(data[name])["classes"], radii)
        for name, (network, words) in best.items()
    ]
    page = Page(
        title=f"Study {spec.study}",
        summary=_summary(trainings, certified, attacks),
        facts=_facts(trainings, certified, attacks),
        tables=[table_section(table, results, base, published) for table in spec.tables],
        figures=figures,
        classes=[each for each in classes if each is not None],
        galleries=[
            each for name in sorted(data) for each in galleries(name, data[name], best.get(name), attacks, results)
        ],
        training=training_section(trainings, row_labels(_rows(spec)), results),
        stages=[
            *_training_stages(trainings),
            *([evaluation_stage("certify", certified)] if certified else []),
            *([evaluation_stage("attack", attacks)] if attacks else []),
        ],
        parameters=_parameters(trainings, certified, attacks),
        versions=versions(
            [*(each.card for each in trainings), *(each.made for each in certified), *(each.made for each in attacks)]
        ),
        data={name: _dataset(folder) for name, folder in sorted(data.items())},
        runs=[_run(training, certified, attacks) for training in trainings],
    )
    files.write_text(out, render(page))


def _rows(spec: PageSpec) -> list[RowSpec]:
    """Return the rows of every report of a study."""
    rows = [row for table in spec.tables for row in table.rows]
    rows += [row for figure in spec.figures for panel in figure.panels for row in panel.rows]
    rows += [row for shift in spec.shifts for row in shift.rows]
    rows += [row for course in spec.courses for row in course.rows]
    return rows + [row for gain in spec.gains for row in gain.rows]


def _summary(trainings: Sequence[Training], certified: Sequence[Certification], attacks: Sequence[Attacked]) -> str:
    """Return what was run, in a sentence or two."""
    networks = sorted({each.card["network"]["name"] for each in trainings})
    text = f"{len(trainings)} trainings of {', '.join(networks)}"
    if attacks:
        counts = sorted({len(each.frame) for each in attacks})
        text += f"; {len({each.run.path for each in attacks})} networks were attacked, "
        text += f"each on {' or '.join(map(str, counts))} test images"
    if not certified:
        return f"{text}."
    networks_certified = {each.run.path: each.run for each in certified if each.run}
    tasks = dict.fromkeys(run.dataset for run in networks_certified.values())
    images = sorted({each.frame["index"].nunique() for each in certified})
    return (
        f"{text}; {len(networks_certified)} networks were certified on {' and '.join(tasks)}, each on "
        f"{' or '.join(map(str, images))} test images at {certified[0].sigmas}."
    )


def _facts(
    trainings: Sequence[Training], certified: Sequence[Certification], attacks: Sequence[Attacked]
) -> dict[str, str]:
    seeds = sorted({each.seed for each in trainings})
    facts = {
        "networks trained": str(len(trainings)),
        "seeds": ", ".join(map(str, seeds)),
        "images certified": f"{sum(len(each.frame) for each in certified):,}",
        "evaluations": f"{_evaluations(certified) + _evaluations(attacks):,}",
        "training": duration(sum(each.card["seconds"] for each in trainings)),
        "certifying": duration(sum(float(each.frame["seconds"].sum()) for each in certified)),
        "on": ", ".join(sorted({each.card["device"] for each in trainings})),
    }
    if attacks:
        facts["images attacked"] = f"{sum(len(each.frame) for each in attacks):,}"
        facts["attacking"] = duration(sum(float(each.frame["seconds"].sum()) for each in attacks))
    if span := times(trainings):
        started, ended = span
        same_day = started.date() == ended.date()
        facts["trained"] = f"{started:%Y-%m-%d %H:%M} to {ended:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}} UTC"
    return facts


def _training_stages(trainings: Sequence[Training]) -> list[list[str]]:
    stages = []
    for stage in dict.fromkeys(each.stage for each in trainings):
        ours = [each for each in trainings if each.stage == stage]
        stages.append([stage, str(len(ours)), duration(sum(each.card["seconds"] for each in ours)), "–"])
    return stages


def evaluation_stage(name: str, records: Sequence[Certification] | Sequence[Attacked]) -> list[str]:
    """Return the line of evaluations in the table of what each stage took: its name, jobs, time, evaluations."""
    seconds = sum(float(each.frame["seconds"].sum()) for each in records)
    return [name, str(len(records)), duration(seconds), f"{_evaluations(records):,}"]


def _evaluations(records: Sequence[Certification] | Sequence[Attacked]) -> int:
    return sum(each.evaluations for each in records)


def _parameters(
    trainings: Sequence[Training], certified: Sequence[Certification], attacks: Sequence[Attacked]
) -> dict[str, dict[str, str]]:
    specs: dict[str, list[Mapping[str, Any]]] = {}
    for each in trainings:
        specs.setdefault(each.stage, []).append(_without_run(each.card["spec"]))
    if certified:
        specs["certification"] = [_without_run(each.made["spec"]) for each in certified]
    if attacks:
        specs["attack"] = [_without_run(each.made["spec"]) for each in attacks]
    return {stage: parameters(found) for stage, found in specs.items()}


def _without_run(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "run"}


def _dataset(folder: Path) -> dict[str, str]:
    manifest = _manifest(folder)
    return {
        "images": ", ".join(f"{count:,} {split}" for split, count in sorted(manifest["counts"].items())),
        "classes": str(len(manifest["classes"])),
        "size": f"{manifest['size']} × {manifest['size']}",
        "duplicates across splits": str(manifest["duplicates_across_splits"]),
        "SHA-256 of the manifest": files.sha256(folder / "manifest.json"),
    }


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _run(training: Training, certified: Sequence[Certification], attacks: Sequence[Attacked]) -> dict[str, Any]:
    """Return a line of the table of runs; not every one is certified."""
    own = [each for each in certified if each.run == training.run]
    lr = training.card["lr"]
    return {
        "path": training.run.path,
        "lr": "–" if lr is None else f"{lr:g}",
        "validation": f"{training.card['validation_score']:.3f}",
        "clean": "–" if training.clean is None else f"{100 * training.clean:.1f}",
        "acr": " / ".join(f"{acr:.3f}" for each in own for acr in each.acr.values()) or "–",
        "weights": training.card["weights_sha256"][:12],
        "commit": (training.card["commit"] or "unknown")[:8],
        "links": [
            *(("records", each.path) for each in own),
            *(("attack", each.path) for each in attacks if each.run == training.run),
            ("card", f"{training.path}/model.json"),
            ("weights", f"{training.path}/model.safetensors"),
            ("metrics", f"{training.path}/metrics.jsonl"),
        ],
    }
