"""The page of one network's records."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from transmooth import files
from transmooth.report.accuracy import AttackResult, no_log, read_files
from transmooth.report.cells import cells
from transmooth.report.page.attacked import (
    attack_sections,
    ball_text,
    beside_sections,
    check_same,
    is_attack,
    l2_results,
    read_attacks,
)
from transmooth.report.page.classes import classes_of
from transmooth.report.page.galleries import pictures
from transmooth.report.page.page import Page, Section, render
from transmooth.report.page.provenance import (
    Attacked,
    Certification,
    duration,
    parameters,
    read_certification,
    versions,
)
from transmooth.report.page.sections import curve_table, row_chart
from transmooth.report.page.study import evaluation_stage
from transmooth.report.tables import methods
from transmooth.specs import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from transmooth.loading.denoisers import LoadedDenoiser
    from transmooth.loading.images import ImageSet


def write_single(
    paths: Sequence[Path],
    radii: Sequence[float],
    out: Path,
    images: "ImageSet | None" = None,
    denoiser: "LoadedDenoiser | None" = None,
) -> list[str]:
    """Write the page of one network's records and return, in words, what of its attacks contradicts its certificates.

    paths: of its certification, a file or one for each sigma, of attacks, or of both.  radii: of the table.  images:
    those that were certified, for examples; without them there are none.  denoiser: what the network has before it.
    Raises ValueError as `accuracy.read_files` and `attacked.read_attacks` do, and for records that are not of these
    images, or not of one network.
    """
    certified = [path for path in paths if not is_attack(no_log(path))]
    attacks = read_attacks(path for path in paths if path not in certified)
    if not certified:
        if images is not None:
            raise ValueError(f"{paths[0]}: is of an attack; images are shown of a certification, which is not here")
        files.write_text(out, render(_attacked_page(attacks)))
        return []
    page, whole, names = _certified_page(certified, radii, images, denoiser, l2_results(attacks))
    contradicted = list[str]()
    if attacks:
        check_same(attacks, whole)
        beside, contradicted = beside_sections(attacks, whole, names)
        page = _joined(page, _attacked_page(attacks), beside)
    files.write_text(out, render(page))
    return contradicted


def _certified_page(
    paths: Sequence[Path],
    radii: Sequence[float],
    images: "ImageSet | None",
    denoiser: "LoadedDenoiser | None",
    attacks: Mapping[float, AttackResult],
) -> tuple[Page, Certification, Sequence[str]]:
    """Return the page of certifications, these as one, and the names of the classes, none where they are unknown.

    attacks: what the chart of the curves shows too.
    """
    row = replace(read_files(paths, "this network"), attacks=attacks)
    parts = [read_certification(path.name, path.parent) for path in paths]
    whole = Certification(
        ", ".join(map(str, paths)),
        pd.concat([part.frame for part in parts], ignore_index=True),
        pd.concat([part.rows for part in parts], ignore_index=True),
        parts[0].made,
        {sigma: acr for part in parts for sigma, acr in part.acr.items()},
        parts[0].stages,
    )
    spec = TableSpec(
        name="accuracy",
        title="Certified accuracy",
        caption="Share of the test images with the right class and a radius of at least ε.",
        columns=tuple(ColumnSpec(measure="certified", radius=radius) for radius in radii),
        brackets="natural",
        rows=(),
    )
    lines = cells([row], spec.columns)
    chart = row_chart("Certified accuracy of this network", row)
    section = replace(curve_table(spec, [row], lines), notes=methods(lines), chart=chart)
    network = _network(whole)
    names = _class_names(whole.made) if images is None else images.classes
    classes = classes_of(whole, "the certified images", network, names, radii)
    denoise = denoiser.module.denoise if denoiser else None
    page = Page(
        title=f"Certified robustness of {network}",
        summary=f"{row.images} test images, certified at {whole.sigmas}.",
        facts={"evaluations": f"{whole.evaluations:,}", "time": duration(float(whole.frame["seconds"].sum()))},
        tables=[section],
        classes=[] if classes is None else [classes],
        galleries=[] if images is None else [pictures(whole, images.description, images, network, denoise)],
        stages=[evaluation_stage("certify", [whole])],
        parameters={"certification": parameters([part.made.get("spec", {}) for part in parts])},
        versions=versions(part.made for part in parts),
        data=_data(whole.made),
    )
    return page, whole, names


def _attacked_page(attacks: Sequence[Attacked]) -> Page:
    """Return the page of attacks alone."""
    images, seconds = len(attacks[0].frame), sum(float(each.frame["seconds"].sum()) for each in attacks)
    return Page(
        title=f"{_network(attacks[0])} under attack",
        summary=f"{images} test images, attacked within {' and '.join(map(ball_text, attacks))}.",
        facts={
            "evaluations of the attacks": f"{sum(each.evaluations for each in attacks):,}",
            "time of the attacks": duration(seconds),
        },
        tables=attack_sections(attacks),
        stages=[evaluation_stage("attack", attacks)],
        parameters={"attack": parameters([each.made.get("spec", {}) for each in attacks])},
        versions=versions(each.made for each in attacks),
        data=_data(attacks[0].made),
    )


def _joined(certified: Page, attacked: Page, beside: Sequence[Section]) -> Page:
    """Return the page of a certification with what is on the page of attacks, and the sections that compare both."""
    libraries = dict.fromkeys([*certified.versions, *attacked.versions])
    found = {name: dict.fromkeys(page.versions.get(name) for page in (certified, attacked)) for name in libraries}
    return replace(
        certified,
        title=f"{certified.title}, and under attack",
        summary=f"{certified.summary} {attacked.summary}",
        facts={**certified.facts, **attacked.facts},
        tables=[*certified.tables, *attacked.tables, *beside],
        stages=[*certified.stages, *attacked.stages],
        parameters={**certified.parameters, **attacked.parameters},
        versions={name: ", ".join(filter(None, each)) for name, each in found.items()},
    )


def _network(records: Certification | Attacked) -> str:
    model = records.made.get("model") or {}
    return str(model.get("model") or records.frame["model"].iloc[0] or "unknown weights")


def _class_names(made: Mapping[str, Any]) -> list[str]:
    return list((made.get("data") or {}).get("classes", []))


def _data(made: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    found = made.get("data") or {}
    return {"images": {key: _shown(value) for key, value in found.items()}} if found else {}


def _shown(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value[:10])) + (f", … ({len(value)})" if len(value) > 10 else "")
