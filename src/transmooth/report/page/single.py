"""The page of one network's records."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from transmooth import files
from transmooth.report.accuracy import read_files
from transmooth.report.cells import cells
from transmooth.report.page.classes import classes_of
from transmooth.report.page.galleries import pictures
from transmooth.report.page.page import Page, render
from transmooth.report.page.provenance import Certification, duration, parameters, read_certification, versions
from transmooth.report.page.sections import curve_table, row_chart
from transmooth.report.page.study import certify_stage
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
) -> None:
    """Write the page of one network's records: a file, or one for each sigma.

    radii: of the table.  images: those that were certified, for examples; without them there are none.  denoiser: what
    the network has before it.
    Raises ValueError as `accuracy.read_files` does, and for records that are not of these images.
    """
    row = read_files(paths, "this network")
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
    identity = {key: dict(whole.made.get(key) or {}) for key in ("model", "data")}
    network = str(identity["model"].get("model") or whole.frame["model"].iloc[0] or "unknown weights")
    names = list(identity["data"].get("classes", [])) if images is None else images.classes
    classes = classes_of(whole, "the certified images", network, names, radii)
    denoise = denoiser.module.denoise if denoiser else None
    page = Page(
        title=f"Certified robustness of {network}",
        summary=f"{row.images} test images, certified at {whole.sigmas}.",
        facts={"evaluations": f"{whole.evaluations:,}", "time": duration(float(whole.frame["seconds"].sum()))},
        tables=[section],
        classes=[] if classes is None else [classes],
        galleries=[] if images is None else [pictures(whole, images.description, images, network, denoise)],
        stages=[certify_stage([whole])],
        parameters={"certification": parameters([part.made.get("spec", {}) for part in parts])},
        versions=versions(part.made for part in parts),
        data={"images": {key: _shown(value) for key, value in identity["data"].items()}} if identity["data"] else {},
    )
    files.write_text(out, render(page))


def _shown(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value[:10])) + (f", … ({len(value)})" if len(value) > 10 else "")
