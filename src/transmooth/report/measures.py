"""What a column of a table shows: of each measure the unit, the direction, the name in params/published.csv, the value.

A measure is a number for each seed of a row.  `per_sigma`: it has one at each sigma of the row's curves, so that there
is an oracle over several.  `multi_sigma`: it is of the one classifier of several sigmas.  All other measures are of the
base classifier, by itself or attacked, or of the training of its last stage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from transmooth.params.values import Measure
from transmooth.report.accuracy import Floats, RowResult

OfImages = Callable[[RowResult, float, float], Floats]  # (row, sigma, radius) → [seeds, images]
OfSeeds = Callable[[RowResult, float, float], Floats]  # (row, sigma, radius) → [seeds]
Unit = Literal["percent", "radius", "millions", "hours", "count"]
# How a value is printed.
FORMATS: Mapping[Unit, str] = {"percent": ".1f", "radius": ".3f", "millions": ".3f", "hours": ".2f", "count": ".0f"}


@dataclass(frozen=True)
class MeasureInfo:
    """How a measure is computed and shown.

    title: of its column, with `radius` in it.  words: what it is called in a sentence.  published: its metric in
    params/published.csv, None where no paper has it in this unit.  also_published: what another paper calls it.
    value: of each seed.  each: of each image and seed; None where it is not of single images.  interval: shares of the
    certified or attacked test images have a 95 % interval beside them.  better: "larger" or "smaller".  attacked: it is
    one of the attacked images.
    """

    title: str
    words: str
    published: str | None
    unit: Unit
    value: OfSeeds
    per_sigma: bool
    each: OfImages | None = None
    multi_sigma: bool = False
    interval: bool = False
    better: Literal["larger", "smaller"] = "larger"
    attacked: bool = False
    also_published: tuple[str, ...] = ()

    @property
    def of_curves(self) -> bool:
        """Whether it is of certified radii."""
        return self.per_sigma or self.multi_sigma

    def text(self, value: float) -> str:
        """Return a value as it is printed, a share in percent; empty where there is none."""
        if np.isnan(value):
            return ""
        return format(100 * value if self.unit == "percent" else value, FORMATS[self.unit])


def _certified(row: RowResult, sigma: float, radius: float) -> Floats:
    return (row.radii(sigma) >= radius).astype(np.float64)


def _radius(row: RowResult, sigma: float, radius: float) -> Floats:
    return np.maximum(row.radii(sigma), 0)


def _standard(row: RowResult, sigma: float, radius: float) -> Floats:
    """Of every attack alike: all are of the same images and network."""
    found = _unknown(row)
    for each in row.attacks.values():
        found = each.right.astype(np.float64)
    return found


def _robust(row: RowResult, sigma: float, radius: float) -> Floats:
    return row.attacks[radius].robust.astype(np.float64) if radius in row.attacks else _unknown(row)


def _unknown(row: RowResult) -> Floats:
    """Where there was no attack, as in logs, which are of certification alone."""
    return np.full((row.seeds, 1), np.nan)


def _mean(each: OfImages) -> OfSeeds:
    return lambda row, sigma, radius: each(row, sigma, radius).mean(1)


def _evaluations(row: RowResult) -> Floats:
    """Of all certifications of the row together."""
    efforts = [*row.efforts.values(), *([row.multi_effort] if row.multi_effort else [])]
    unknown: Floats = np.full(row.seeds, np.nan)
    return np.sum([each.evaluations for each in efforts], 0) if efforts else unknown


def _of_stage(measure: Measure) -> OfSeeds:
    return lambda row, sigma, radius: row.stage.get(measure, np.full(row.seeds, np.nan))


MEASURES: Mapping[Measure, MeasureInfo] = {
    "clean": MeasureInfo(
        title="Clean",
        words="clean accuracy",
        published="clean_acc",
        unit="percent",
        value=lambda row, sigma, radius: row.clean,
        per_sigma=False,
    ),
    "certified": MeasureInfo(
        title="ε = {radius:g}",
        words="certified accuracy at ε",
        published="certified_acc",
        also_published=("robust_acc", "standard_acc"),
        unit="percent",
        value=_mean(_certified),
        each=_certified,
        per_sigma=True,
        interval=True,
    ),
    "acr": MeasureInfo(
        title="ACR",
        words="average certified radius",
        published="acr",
        unit="radius",
        value=_mean(_radius),
        each=_radius,
        per_sigma=True,
    ),
    "multi_sigma": MeasureInfo(
        title="ε = {radius:g}, multi-σ",
        words="certified accuracy of one classifier of several σ",
        published=None,
        unit="percent",
        value=lambda row, sigma, radius: _mean(_certified)(row, np.nan, radius),
        each=lambda row, sigma, radius: _certified(row, np.nan, radius),
        per_sigma=False,
        multi_sigma=True,
        interval=True,
    ),
    "multi_sigma_acr": MeasureInfo(
        title="ACR, multi-σ",
        words="average certified radius of one classifier of several σ",
        published=None,
        unit="radius",
        value=lambda row, sigma, radius: _mean(_radius)(row, np.nan, radius),
        each=lambda row, sigma, radius: _radius(row, np.nan, radius),
        per_sigma=False,
        multi_sigma=True,
    ),
    "standard": MeasureInfo(
        title="SA",
        words="standard accuracy of the attacked images (SA)",
        published="standard_acc",
        unit="percent",
        value=_mean(_standard),
        each=_standard,
        per_sigma=False,
        interval=True,
        attacked=True,
    ),
    "robust": MeasureInfo(
        title="RA, ε = {radius:g}",
        words="robust accuracy under attack within ε (RA, an upper bound)",
        published="robust_acc",
        unit="percent",
        value=_mean(_robust),
        each=_robust,
        per_sigma=False,
        interval=True,
        attacked=True,
    ),
    "parameters": MeasureInfo(
        title="Weights (M)",
        words="weights of the classifier",
        published="classifier_params_M",
        unit="millions",
        value=_of_stage("parameters"),
        per_sigma=False,
        better="smaller",
    ),
    "trained": MeasureInfo(
        title="Learning (M)",
        words="those that learn in the last stage",
        published="trainable_params_M",
        unit="millions",
        value=_of_stage("trained"),
        per_sigma=False,
        better="smaller",
    ),
    "denoiser_parameters": MeasureInfo(
        title="Denoiser (M)",
        words="weights of the denoiser",
        published="denoiser_params_M",
        unit="millions",
        value=_of_stage("denoiser_parameters"),
        per_sigma=False,
        better="smaller",
    ),
    "hours": MeasureInfo(
        title="Hours",
        words="time of the last stage",
        published=None,
        unit="hours",
        value=_of_stage("hours"),
        per_sigma=False,
        better="smaller",
    ),
    "evaluations": MeasureInfo(
        title="Evaluations",
        words="noisy copies of an image that all certifications of the row took, on average",
        published=None,
        unit="count",
        value=lambda row, sigma, radius: _evaluations(row),
        per_sigma=False,
        better="smaller",
    ),
}
