"""What a column of a table shows: of each measure the unit, the direction, the name in params/published.csv, the value.

A measure is a number for each seed of a row.  `per_sigma`: it has one at each sigma of the row's curves, so that there
is an oracle over several; `multi_sigma`: it is of the one classifier of several sigmas; the others are of the base
classifier, by itself or attacked, or of the training of its last stage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from transmooth.params.values import Measure
from transmooth.report.accuracy import Floats, RowResult, average_certified_radius

Unit = Literal["percent", "radius", "millions", "hours", "count"]
# How a value is printed.
FORMATS: Mapping[Unit, str] = {"percent": ".1f", "radius": ".3f", "millions": ".3f", "hours": ".2f", "count": ".0f"}


@dataclass(frozen=True)
class MeasureInfo:
    """How a measure is computed and shown.

    title: of its column, with `radius` in it.  words: what it is called in a sentence.  published: its metric in
    params/published.csv, None where no paper has it in this unit.  also_published: what another paper calls it.
    value: (row, sigma, radius) → one number for each seed.  interval: shares of the certified or attacked test images
    have a 95 % interval beside them.  better: "larger" or "smaller".  attacked: it is one of the attacked images.
    """

    title: str
    words: str
    published: str | None
    unit: Unit
    value: Callable[[RowResult, float, float], Floats]
    per_sigma: bool
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


def _acr(row: RowResult, sigma: float, radius: float) -> Floats:
    return np.array([average_certified_radius(image_radii) for image_radii in row.radii(sigma)])


def _standard(row: RowResult) -> Floats:
    """SA; all attacks are of the same images and network, so it makes no difference which of them it is read from."""
    found: Floats = np.full(row.seeds, np.nan)
    for each in row.attacks.values():
        found = each.right.mean(1)
    return found


def _robust(row: RowResult, epsilon: float) -> Floats:
    """Return RA; NaN where there was no attack, as in logs, which are of certification alone."""
    return row.attacks[epsilon].robust.mean(1) if epsilon in row.attacks else np.full(row.seeds, np.nan)


def _evaluations(row: RowResult) -> Floats:
    """Of all certifications of the row together."""
    efforts = [*row.efforts.values(), *([row.multi_effort] if row.multi_effort else [])]
    unknown: Floats = np.full(row.seeds, np.nan)
    return np.sum([each.evaluations for each in efforts], 0) if efforts else unknown


def _of_stage(measure: Measure) -> Callable[[RowResult, float, float], Floats]:
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
        value=lambda row, sigma, radius: row.accuracy(sigma, [radius])[:, 0],
        per_sigma=True,
        interval=True,
    ),
    "acr": MeasureInfo(
        title="ACR",
        words="average certified radius",
        published="acr",
        unit="radius",
        value=_acr,
        per_sigma=True,
    ),
    "multi_sigma": MeasureInfo(
        title="ε = {radius:g}, multi-σ",
        words="certified accuracy of one classifier of several σ",
        published=None,
        unit="percent",
        value=lambda row, sigma, radius: row.accuracy(np.nan, [radius])[:, 0],
        per_sigma=False,
        multi_sigma=True,
        interval=True,
    ),
    "multi_sigma_acr": MeasureInfo(
        title="ACR, multi-σ",
        words="average certified radius of one classifier of several σ",
        published=None,
        unit="radius",
        value=lambda row, sigma, radius: _acr(row, np.nan, radius),
        per_sigma=False,
        multi_sigma=True,
    ),
    "standard": MeasureInfo(
        title="SA",
        words="standard accuracy of the attacked images (SA)",
        published="standard_acc",
        unit="percent",
        value=lambda row, sigma, radius: _standard(row),
        per_sigma=False,
        interval=True,
        attacked=True,
    ),
    "robust": MeasureInfo(
        title="RA, ε = {radius:g}",
        words="robust accuracy under attack within ε (RA, an upper bound)",
        published="robust_acc",
        unit="percent",
        value=lambda row, sigma, radius: _robust(row, radius),
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
