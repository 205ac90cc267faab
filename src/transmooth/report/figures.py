"""Certified-accuracy curves, and what attacks left: SVG and PNG for people, CSV for everything else."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from transmooth import files
from transmooth.report.accuracy import Floats, RowResult, read_row, sigma_text
from transmooth.specs import FigureSpec

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "transmooth"  # element names in the SVG would be random: equal data, equal file
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # colour-blind readers can distinguish them
MARKERS = ("o", "s", "^", "D", "v", "P")
FEW = 6  # groups of points whose legend finds room among them
POINTS = 201
LABEL = 44  # characters of a line beside an axis
ORACLE = "oracle over σ"
ATTACKED = "attacked without noise"
SEVERAL = "multi-σ"


def write_figure(spec: FigureSpec, results: Path, base: Path, out: Path) -> None:
    """Write `out`.svg, `out`.png and `out`.csv for a figure, whose rows are read as those of tables."""
    panels = [(panel.title, [read_row(row, results, base) for row in panel.rows]) for panel in spec.panels]
    grid = np.linspace(0, largest_radius([row for _, rows in panels for row in rows]) * 1.02, POINTS)
    drawn = [(title, curves(rows, grid), rows[0].images) for title, rows in panels]
    files.write_text(out.with_suffix(".csv"), wide(drawn).to_csv(float_format="%.6g"))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.6), squeeze=False, sharey=True)
    for axis, (title, frame, _) in zip(axes[0], drawn, strict=True):
        _draw(axis, title, frame)
    axes[0][0].set_ylabel("certified accuracy")
    _save(figure, spec.title, out)


def largest_radius(rows: Sequence[RowResult]) -> float:
    """Return the largest radius at which a curve of these rows has something to show, at least 0.25."""
    certified = [float(radii.max()) for row in rows for radii in row.curves.values()]
    certified += [float(row.multi_sigma.max()) for row in rows if row.multi_sigma is not None]
    return max([0.25, *certified, *(epsilon for row in rows for epsilon in l2_attacks(row))])


def l2_attacks(row: RowResult) -> list[float]:
    """Return the radii of a row's attacks that stand on the axis of certified ones, which are l2."""
    return [epsilon for epsilon, each in row.attacks.items() if each.norm == "l2"]


def line_chart(title: str, panels: Sequence[tuple[str, pd.DataFrame]], x: str, y: str, out: Path) -> None:
    """Write `out`.svg and `out`.png: a panel for each (title, frame), a line over the frame's index for each column.

    Columns of one name are seeds of one curve: a thin line each, and their mean.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.6), squeeze=False, sharey=True)
    for axis, (panel, frame) in zip(axes[0], panels, strict=True):
        for column, color in zip(dict.fromkeys(frame), COLORS * len(frame.columns), strict=False):
            seeds = frame.loc[:, frame.columns == column]
            if len(seeds.columns) > 1:
                axis.plot(frame.index, seeds, color=color, linewidth=0.6, alpha=0.6)
            axis.plot(frame.index, seeds.mean(axis=1), color=color, marker="o", markersize=3, label=column)
        axis.set_title(panel, fontsize=10)
        axis.set(xlabel=x)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    axes[0][0].set(ylabel=y)
    if all((frame.min() >= 0).all() for _, frame in panels):  # a score may be below
        axes[0][0].set(ylim=(0, None))
    _save(figure, title, out)


def scatter_chart(
    title: str,
    groups: Sequence[tuple[str, Floats, Floats, tuple[Sequence[float], Sequence[float]] | None]],
    x: str,
    y: str,
    out: Path,
    zero: bool = True,
) -> None:
    """Write `out`.svg and `out`.png: points of each (name, x, y, line), and its line, x and y, where it has one.

    zero: both axes are drawn at 0, as for gains.
    """
    few = len(groups) <= FEW
    figure, axis = plt.subplots(figsize=(5.2 if few else 8.0, 4.2))
    for at, (name, xs, ys, line) in enumerate(groups):
        color, marker = COLORS[at % len(COLORS)], MARKERS[(at + at // len(COLORS)) % len(MARKERS)]
        axis.scatter(xs, ys, s=28, color=color, marker=marker, label=name)
        if line is not None:
            axis.plot(*line, color=color, linewidth=1)
    for draw in (axis.axhline, axis.axvline) if zero else ():
        draw(0, color="black", linewidth=0.6)
    axis.set(xlabel=fill(x, LABEL), ylabel=fill(y, LABEL))
    axis.grid(alpha=0.25)
    beside: dict[str, Any] = {} if few else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axis.legend(frameon=False, fontsize=8, **beside)
    _save(figure, title, out)


def _save(figure: Any, title: str, out: Path) -> None:
    figure.suptitle(title)
    figure.tight_layout()
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
        with files.replacing(out.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=150, metadata=metadata)
    plt.close(figure)


def curves(rows: Sequence[RowResult], grid: Floats) -> pd.DataFrame:
    """Columns curve, oracle, radius, certified_accuracy, low, high, images, point.

    One row gives a curve for each sigma and the oracle over several; several rows give the oracle of each, or its only
    curve.  A classifier of several sigmas is one curve, in both cases.  A row that was attacked too has one more, an
    upper bound: SA, and from each epsilon on the RA there, which is a `point`.  It is of the base classifier, where the
    all other curves are lower bounds of the smoothed one's.
    """
    frames = []
    for row in rows:
        by_sigma = {sigma: row.accuracy(sigma, grid).mean(0) for sigma in row.curves}
        if len(rows) == 1:
            frames += [_curve(row, sigma_text(sigma), False, grid, share) for sigma, share in by_sigma.items()]
        if row.multi_sigma is not None:
            name = SEVERAL if len(rows) == 1 else f"{row.label}, {SEVERAL}" if by_sigma else row.label
            frames.append(_curve(row, name, False, grid, row.accuracy(np.nan, grid).mean(0)))
        choice = len(by_sigma) > 1
        if by_sigma and (choice or len(rows) > 1):
            name = ORACLE if len(rows) == 1 else row.label
            frames.append(_curve(row, name, choice, grid, np.max(list(by_sigma.values()), axis=0)))
        if l2_attacks(row):
            frames.append(_attacked(row, ATTACKED if len(rows) == 1 else f"{row.label}, {ATTACKED}", grid))
    return pd.concat(frames)


def wide(panels: Sequence[tuple[str, pd.DataFrame, int]]) -> pd.DataFrame:
    """By radius, a column for each curve, named `panel: curve`, and its `low` and `high`: what `dvc plots` can read."""
    columns = {}
    for title, frame, _ in panels:
        for name, curve in frame.groupby("curve", sort=False):
            by_radius = curve.set_index("radius")
            columns[f"{title}: {name}"] = by_radius["certified_accuracy"]
            columns |= {f"{title}: {name} {end}": by_radius[end] for end in ("low", "high")}
    return pd.DataFrame(columns)


def _curve(
    row: RowResult, name: str, oracle: bool, grid: Floats, share: Floats, images: int | None = None
) -> pd.DataFrame:
    images = row.images if images is None else images
    low, high = np.array([row.interval(float(value), images) for value in share]).T
    columns = {"radius": grid, "certified_accuracy": share, "low": low, "high": high}
    return pd.DataFrame(columns).assign(curve=name, oracle=oracle, images=images, point=False)


def _attacked(row: RowResult, name: str, grid: Floats) -> pd.DataFrame:
    share = np.full(len(grid), next(iter(row.attacks.values())).right.mean())
    # The grid's 0.2 may be the number below.  Between epsilon and the next radius of the grid it is drawn too high,
    # which an upper bound may be.
    begins = {epsilon: int(np.searchsorted(grid, epsilon - 1e-9)) for epsilon in sorted(l2_attacks(row))}
    for epsilon, place in begins.items():
        share[place:] = row.attacks[epsilon].robust.mean()
    points = np.isin(np.arange(len(grid)), list(begins.values()))
    return _curve(row, name, False, grid, share, row.attacked_images).assign(point=points)


def _draw(axis: Any, title: str, frame: pd.DataFrame) -> None:
    images = " or ".join(map(str, sorted(set(frame["images"]))))
    names = list(dict.fromkeys(frame["curve"]))
    for name, color in zip(names, COLORS * len(names), strict=False):
        curve = frame[frame["curve"] == name]
        envelope = name == ORACLE
        style = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1.2} if envelope else {"color": color}
        if curve["point"].any():
            style |= {"linestyle": ":", "marker": "v", "markevery": curve["point"].tolist()}
        axis.plot(curve["radius"], curve["certified_accuracy"], drawstyle="steps-post", label=name, **style)
        if not envelope:
            axis.fill_between(curve["radius"], curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0)
    axis.set(title=title, xlabel=f"ℓ2 radius ε  ({images} images, band: 95 % interval)", xlim=(0, None), ylim=(0, 1))
    axis.title.set_fontsize(10)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
