"""Records of a classifier of several σ: its answer and radius for each image, derived again from the counts.

They have a row for each image and stage.  `selected`, `prediction` and `radius` are the classifier's, the same in all
rows of an image; `sigma`, `threshold`, `n`, `top_count` and `runner_up` are of the stage, and `stage` is its place in
the order, from 0.  The radius is `Stages.radius` of these counts at the rows' alpha and `looks`, and the prediction is
`selected` where that is > 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from transmooth.records.table import RecordError
from transmooth.smoothing.decision import ABSTAIN
from transmooth.smoothing.multi_sigma import RULES, Stages

_ALIKE = ["method", "alpha", "looks"]
_MADE = [*_ALIKE, "stage", "sigma", "threshold"]
_COUNTS = ["top_count", "runner_up", "n"]


def one_row_each(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the row of each image's first stage, by index; records of ordinary methods as they are.

    Its `seconds` and `evaluations` are those of all stages.
    Of several σ `.attrs["stages"]` names them in their order, `.attrs["thresholds"]` their thresholds if there are any.
    Raises RecordError, naming `path`, unless all images have the same stages, and the class and radius that their
    counts give.
    """
    if not frame["method"].isin([*RULES]).any():
        return frame
    frame = frame.sort_values(["index", "stage"], ignore_index=True)
    frame["looks"] = frame["looks"].fillna(1)  # older files do not tell: each stage had one
    made, images = frame[_MADE].drop_duplicates(), frame["index"].nunique()
    alike = len(made[_ALIKE].drop_duplicates()) == 1 and made["stage"].tolist() == [*range(len(made))]
    if not alike or len(frame) != images * len(made) or frame[[*_MADE, *_COUNTS, "selected"]].isna().any(axis=None):
        raise RecordError(
            f"{path}: should have the counts of the same stages for each image, by one method, alpha and looks"
        )
    top, runner_up, n = (frame[name].to_numpy(np.int64).reshape(images, len(made)) for name in _COUNTS)
    if ((top < 0) | (runner_up < 0) | (top + runner_up > n)).any():
        raise RecordError(f"{path}: the counts of two classes should be >= 0, and n at most together; some are not")
    stages = Stages(str(made["method"].iloc[0]), tuple(made["sigma"]), tuple(made["threshold"]))
    alpha, looks = float(made["alpha"].iloc[0]), int(made["looks"].iloc[0])
    radius = stages.radius(top, runner_up, n, alpha, looks).repeat(len(made))
    selected = frame["selected"].to_numpy(np.int64)[:: len(made)].repeat(len(made))
    wrong = (frame["selected"] != selected) | (frame["prediction"] != np.where(radius > 0, selected, ABSTAIN))
    wrong |= ~np.isclose(frame["radius"], radius, rtol=1e-9, atol=1e-12)
    if wrong.any():
        row = frame.loc[int(wrong.to_numpy().argmax())]
        raise RecordError(
            f"{path}: image {row['index']} has class {row['prediction']} and radius {row['radius']:g} at sigma = "
            f"{row['sigma']:g}, which is not what its counts give ({radius[row.name]:g})"
        )
    spent = frame.groupby("index")[["seconds", "evaluations"]].sum().reset_index(drop=True)
    frame = frame.drop_duplicates("index", ignore_index=True).assign(**spent)
    frame.attrs["stages"] = "σ = " + ", ".join(f"{sigma:g}" for sigma in stages.sigmas)
    if any(stages.thresholds):
        frame.attrs["thresholds"] = "τ = " + ", ".join(f"{threshold:g}" for threshold in stages.thresholds)
    return frame
