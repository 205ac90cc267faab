"""The page that compares two studies, or two records: image by image, where the images are the same.

A run's text is its folder, and its records' too: what has the same path in both folders is the same row of both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transmooth import files
from transmooth.checkpoint.card import read_card
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.records.logs import grid_of, other_pictures
from transmooth.report.accuracy import average_certified_radius, certified_accuracy, certified_radius, no_log
from transmooth.report.cells import EMPTY, Cell
from transmooth.report.compare import alike, compare
from transmooth.report.page import charts
from transmooth.report.page.classes import curves
from transmooth.report.page.page import Page, Section, TableRow, render
from transmooth.report.page.provenance import parameters, read_certification, versions
from transmooth.report.tables import OurRow

PANELS = 12  # of the chart, at most: more are not looked at


@dataclass(frozen=True)
class Side:
    """One of the two: a folder of results, or one file of records.  paths: name of an evaluation → its records."""

    folder: Path
    paths: Mapping[str, Path]

    @cached_property
    def made(self) -> dict[str, dict[str, Any]]:
        """What the records were made with, by evaluation."""
        return {name: records.metadata(path) for name, path in self.paths.items()}

    def clean(self, name: str) -> float:
        """Return the clean accuracy of an evaluation's network; NaN where it was not measured."""
        folder = self.folder / "train" / Path(name).parent
        test = read_card(folder)["test"] if (folder / "model.json").is_file() else {}
        return float(test["correct"] / test["images"]) if "correct" in test else float("nan")


def are_compared(paths: Sequence[Path]) -> bool:
    """Whether these are two folders, or two files of records that share a σ, so that they are not one network's."""
    if len(paths) != 2 or paths[0] == paths[1]:
        return False
    if any(path.is_dir() for path in paths):
        return True
    first, second = ({name for name, _ in _frames(path)} for path in paths)
    return bool(first & second)


def write_versus(paths: Sequence[Path], radii: Sequence[float], out: Path) -> None:
    """Write the page that compares two folders of results, or two files of records; radii: of its columns.

    Raises ValueError for a folder beside a file, where nothing is in both, and for records that are damaged.
    """
    a, b = map(_side, paths)
    if len({path.is_dir() for path in paths}) > 1:
        raise ValueError(f"{paths[0]}, {paths[1]}: should be two folders of results or two files, found one of each")
    both = [name for name in a.paths if name in b.paths]
    if not both:
        raise ValueError(
            f"{paths[0]}, {paths[1]}: have no evaluation in common, found {_some(a.paths)} in one and {_some(b.paths)}"
            " in the other"
        )
    titles = dict(sorted((Path(name).name, None) for name in both))
    sections = [_section(title, [name for name in both if Path(name).name == title], a, b, radii) for title in titles]
    page = Page(
        title=f"{_title(paths[0])} and {_title(paths[1])}, compared",
        summary=f"A: {paths[0]}. B: {paths[1]}. {len(both)} evaluations are in both, {len(a.paths) - len(both)} in A "
        f"alone and {len(b.paths) - len(both)} in B alone.",
        facts={},
        intervals=True,
        tables=[
            *(section for section in sections if section.blocks),
            *_differing(a, b, both),
        ],
        versions={
            f"{side}, {library}": found
            for side, each in (("A", a), ("B", b))
            for library, found in versions(each.made.values()).items()
        },
    )
    files.write_text(out, render(page))


def _side(path: Path) -> Side:
    if not path.is_dir():
        return Side(path.parent, {"records": path})
    found = sorted((path / "evaluate").glob("**/records.parquet"))
    return Side(path, {str(each.parent.relative_to(path / "evaluate")): each for each in found})


def _title(path: Path) -> str:
    return path.resolve().name


def _some(names: Mapping[str, Path]) -> str:
    return ", ".join([*names][:3]) + (f", … ({len(names)})" if len(names) > 3 else "") or "none"


def _frames(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each curve of the records in a file, by its σ in words: one row for each image; of an attack one, by its radius.

    An attack's rows have epsilon as the radius where the image stood, so that they are certified records' likes: RA is
    the share that is right with a radius of at least epsilon, SA that with any.  Shifts have no images, and no curve.
    """
    names = records.unseal(no_log(path)).column_names
    if "robust" in names:
        for (norm, epsilon), frame in attacked.read(path).to_pandas().groupby(["norm", "epsilon"]):
            yield f"{norm}, ε = {epsilon:g}", frame.assign(radius=np.where(frame["robust"], epsilon, 0.0))
    elif "radius" in names:
        certified = read_certification(path.name, path.parent)
        for classifier, frame in curves(certified):
            found = frame.copy()
            found.attrs = {"grid": grid_of(frame, certified.made)}
            yield classifier, found


def _section(title: str, names: Sequence[str], a: Side, b: Side, radii: Sequence[float]) -> Section:
    """Return the table of one evaluation, which every row has, and the curves where they are few."""
    lines, panels, notes, attack = [], [], dict[str, None](), False
    for name in names:
        ours, theirs = dict(_frames(a.paths[name])), dict(_frames(b.paths[name]))
        clean, cleaned = (100 * side.clean(name) for side in (a, b))
        for classifier in (each for each in ours if each in theirs):
            pair = ours[classifier], theirs[classifier]
            attack = "robust" in pair[0]
            at = [0.0, float(pair[0]["epsilon"].iloc[0])] if attack else radii
            cells, known = _cells(*pair, at, acr=not attack)
            notes |= dict.fromkeys(known)
            label = f"{_words(name)}, {classifier if attack else f'σ {classifier}'}"
            lines.append((label, EMPTY if np.isnan(clean + cleaned) else _change(clean, cleaned, ".1f"), cells))
            panels.append((label, pair))
    columns = ["SA", "RA"] if attack else [*(f"ε = {radius:g}" for radius in radii), "ACR"]
    if measured := any(cell is not EMPTY for _, cell, _ in lines):
        columns.insert(0, "Clean")
    rows = [
        TableRow(label, OurRow("", label, ("", ""), None, np.nan, (*([cell] if measured else []), *cells)), None)
        for label, cell, cells in lines
    ]
    chart = None if attack or len(panels) > PANELS or not panels else _chart(title, panels, radii)
    said = "In brackets A → B, then the difference B − A; accuracies in percent. With a 95 % interval where the images "
    said += "are the same: Newcombe's for paired shares, Student's t for the ACR. Bold: it leaves out 0."
    return Section(
        f"versus-{title}".replace(" ", "-"),
        title,
        said,
        notes=" ".join(f"{note}." for note in notes),
        columns=columns,
        blocks=[("", rows)] if rows else [],
        chart=chart,
    )


def _words(name: str) -> str:
    """Return a run in words: `network: stage → stage, seed 0`."""
    network, *stages, seed = Path(name).parent.parts or ("records",) * 2
    return f"{network}: {' → '.join(stages)}, seed {seed}" if stages else network


def _cells(a: pd.DataFrame, b: pd.DataFrame, radii: Sequence[float], acr: bool) -> tuple[list[Cell], list[str]]:
    """Return the change at each radius, and of the ACR; and what should be known of them."""
    of_a, of_b = alike(certified_radius(a), certified_radius(b), a.attrs.get("grid"), b.attrs.get("grid"))
    pairs = [*zip(*(100 * certified_accuracy(each, radii) for each in (of_a, of_b)), strict=True)]
    mean_a, mean_b = (average_certified_radius(each) for each in (of_a, of_b))
    if not _same_images(a, b):
        cells = [_change(share_a, share_b, ".1f") for share_a, share_b in pairs]
        return [*cells, *([_change(mean_a, mean_b, ".3f")] if acr else [])], ["Without an interval: the images differ"]
    found = [compare(a, b, radius) for radius in radii]
    cells = [
        _change(share_a, share_b, ".1f", [-100 * end for end in reversed(each["interval"])])
        for (share_a, share_b), each in zip(pairs, found, strict=True)
    ]
    if acr:
        cells.append(_change(mean_a, mean_b, ".3f", [-end for end in reversed(found[0]["acr_interval"])]))
    return cells, [note for each in found for note in each["notes"]]


def _same_images(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two frames have a row for each of the same images: number, label and, where both know it, picture."""
    first, second = (frame.sort_values("index", ignore_index=True)[["index", "label"]] for frame in (a, b))
    return first.equals(second) and not other_pictures(a, b)


def _change(a: float, b: float, form: str, interval: Sequence[float] = ()) -> Cell:
    """`(a → b) b − a [low, high]`, marked where the interval leaves out 0."""
    low, high = (format(end, f"+z{form}") for end in interval) if interval else ("", "")
    best = bool(interval) and (interval[0] > 0 or interval[1] < 0)
    return Cell(format(b - a, f"+z{form}"), best, natural=f"{a:{form}} → {b:{form}}", low=low, high=high)


def _chart(title: str, panels: Sequence[tuple[str, tuple[pd.DataFrame, pd.DataFrame]]], radii: Sequence[float]) -> Any:
    """Return a panel for each classifier that is in both, with a curve of A and one of B."""
    largest = max(float(frame["radius"].max()) for _, pair in panels for frame in pair)
    grid = np.union1d(np.linspace(0, largest * 1.02 or 1, 101).round(6), radii)
    lines = [
        pd.DataFrame({"x": grid, "y": certified_accuracy(certified_radius(frame), grid)}).assign(
            panel=panel, curve=name
        )
        for panel, pair in panels
        for name, frame in zip("AB", pair, strict=True)
    ]
    whole = pd.concat(lines, ignore_index=True).assign(oracle=False)
    return charts.chart(whole, title=title, x="radius ε", y="certified accuracy", percent=True, step=True)


def _differing(a: Side, b: Side, names: Sequence[str]) -> list[Section]:
    """Return a table of the parameters that differ in B; none where all are the same."""
    first, second = (parameters(side.made[name].get("spec", {}) for name in names) for side in (a, b))
    keys = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    if not keys:
        return []
    rows = [[key, first.get(key, ""), second.get(key, "")] for key in keys]
    caption = "Parameters of the evaluations that are in both, where they differ."
    return [Section("versus-parameters", "Parameters", caption, plain=(["key", "A", "B"], rows), keys=3)]
