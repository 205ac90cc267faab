"""Records -> certified accuracy, with its uncertainty.

certified accuracy at r   share of the test images with the right class and a radius >= r; an abstention counts as wrong
natural certified acc.    the same at r = 0: what the tables print in brackets
clean accuracy            the base classifier on the images themselves, no noise
ACR                       mean over the images of radius where right, else 0
oracle                    the largest over sigma at each r: a choice made after seeing the results, not a certificate
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from transmooth.checkpoint.card import read_card
from transmooth.params import below
from transmooth.records import table as records
from transmooth.records.logs import grid_of, read_any
from transmooth.smoothing.bounds import share_interval

Floats = npt.NDArray[np.float64]


def certified_radius(frame: pd.DataFrame) -> Floats:
    """Per image, the radius where the prediction is right and -inf where it is wrong or abstains."""
    # An abstention is -1, and so are labels that some datasets do not tell.
    right = ((frame["prediction"] == frame["label"]) & (frame["prediction"] >= 0)).to_numpy()
    return np.where(right, frame["radius"].to_numpy(np.float64), -np.inf)


def certified_accuracy(radii_of_images: Floats, radii: Sequence[float] | Floats) -> Floats:
    """Share of the images certified at each radius (>=, not >): float64 [len(radii)]."""
    sorted_radii = np.sort(radii_of_images)
    return 1 - np.searchsorted(sorted_radii, np.asarray(radii, np.float64), side="left") / len(sorted_radii)


def average_certified_radius(radii_of_images: Floats) -> float:
    """ACR: the mean certified radius, wrong and abstaining images counting 0."""
    return float(np.maximum(radii_of_images, 0).mean())


@dataclass(frozen=True)
class Settings:
    """How records were certified.

    n: samples per image, at most, where the method may stop. grid: as of `logs.grid_of`, None unless sequential.
    method "log" and None: a log of the field's format does not tell.
    """

    method: str
    n0: int | None = None
    n: int | None = None
    alpha: float | None = None
    grid: tuple[float, ...] | None = None


@dataclass(frozen=True)
class RowResult:
    """One row of a table: its runs (one per seed) at every sigma.

    curves: sigma -> float64 [seeds, images], each image's certified radius or -inf.
    clean: one clean accuracy per seed, over `clean_images` test images; NaN where nobody measured it.
    """

    label: str
    block: str
    published: str | None
    curves: Mapping[float, Floats]
    clean: Floats
    clean_images: int
    settings: Settings

    @property
    def seeds(self) -> int:
        """Number of independently trained networks."""
        return len(self.clean)

    @property
    def images(self) -> int:
        """Number of certified test images."""
        return int(next(iter(self.curves.values())).shape[1])

    def accuracy(self, sigma: float, radii: Sequence[float] | Floats) -> Floats:
        """Certified accuracy of each seed: [seeds, radii]."""
        return np.stack([certified_accuracy(image_radii, radii) for image_radii in self.curves[sigma]])

    def oracle(self, radius: float) -> float:
        """The sigma whose mean certified accuracy at this radius is largest; the smaller one of equals."""
        return max(self.curves, key=lambda sigma: (self.accuracy(sigma, [radius]).mean(), -sigma))

    def interval(self, share: float, images: int) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of a share of test images: other images of the same kind, the same networks."""
        low, high = share_interval(share * images, images)
        return float(low), float(high)


def read_row(row: Mapping[str, Any], results: Path) -> RowResult:
    """Collect a row of a table's spec from `results`/certify and `results`/finetune.

    Raises ValueError where records are damaged or the runs were not certified with the same settings.
    """
    paths = [results / "certify" / run["path"] / "records.parquet" for run in row["runs"]]
    frames = [records.read(path).to_pandas() for path in paths]
    settings = {settings_of(frame, path) for frame, path in zip(frames, paths, strict=True)}
    if len(settings) > 1:
        raise ValueError(f"{row['label']}: its runs should be certified alike, found {sorted(map(str, settings))}")
    cards = [read_card(results / "finetune" / run["path"]) for run in row["runs"]]
    sigmas = sorted(set(frames[0]["sigma"]))
    curves = {s: np.stack([certified_radius(frame[frame["sigma"] == s]) for frame in frames]) for s in sigmas}
    clean = np.array([card["test"]["correct"] / card["test"]["images"] for card in cards])
    images = cards[0]["test"]["images"]
    return RowResult(row["label"], row["block"], row["published"], curves, clean, images, settings.pop())


def read_log_row(row: Mapping[str, Any], base: Path) -> RowResult:
    """Compute a row of a table's spec from logs, or records, of somebody else's network; paths start at `base`.

    Raises ValueError where a file is damaged or the files are not of the same images, all certified alike.
    """
    curves, settings, images = dict[float, Floats](), set[Settings](), None
    for log in row["files"]:
        path = below(base, log["file"])
        frame = read_any(path, log["sigma"])
        if images is not None and not np.array_equal(images, np.sort(frame["index"])):
            raise ValueError(f"{path}: should be of the same images as the other logs of {row['label']}")
        images = np.sort(frame["index"])
        curves[log["sigma"]] = certified_radius(frame)[None]
        settings.add(settings_of(frame, path) if "method" in frame else Settings("log"))
    if len(settings) > 1:
        raise ValueError(f"{row['label']}: its logs should be certified alike, found {sorted(map(str, settings))}")
    return RowResult(row["label"], "", row["published"], curves, np.array([np.nan]), 0, settings.pop())


def read_files(paths: Sequence[Path], label: str) -> RowResult:
    """The records of one network, in one file or in one for each sigma; its clean accuracy is not known (NaN).

    Raises ValueError, naming the file, for records that are damaged or that cannot stand in one row: of several models
    or settings, of other images than the first file's, of a sigma that was there before, or without labels.
    """
    curves: dict[float, Floats] = {}
    frames = [(path, records.read(path).to_pandas()) for path in paths]
    same = ("its model", "how it was certified", "its images (index, label)")
    found = set()
    for path, frame in frames:
        if not len(frame) or frame[["label", "n0"]].isna().any(axis=None):
            raise ValueError(f"{path}: {'labels or n0 are unknown' if len(frame) else 'there are no records in it'}")
        for sigma, group in frame.groupby("sigma"):
            if sigma in curves:
                raise ValueError(f"{path}: sigma = {sigma} is there twice; name each file once")
            curves[sigma] = certified_radius(group)[None]
            images = tuple(zip(group["index"], group["label"], strict=True))
            found.add((tuple(set(frame["model"])), settings_of(frame, path), images))
            for name, values in zip(same, zip(*found, strict=True), strict=True):
                if len(set(values)) > 1:
                    raise ValueError(f"{path}: {name} should be the same as in {paths[0]} at every sigma")
    (_, settings, _) = found.pop()
    return RowResult(label, "", None, dict(sorted(curves.items())), np.array([np.nan]), 0, settings)


def settings_of(frame: pd.DataFrame, path: Path) -> Settings:
    """How the records of one file, given as a frame too, were certified.  Raises ValueError unless all alike."""
    if len(different := frame[["method", "n0", "alpha"]].drop_duplicates()) != 1:
        raise ValueError(f"{path}: holds records of {len(different)} settings (method, n0, alpha), should be of one")
    made = records.metadata(path)
    first, grid = frame.iloc[0], grid_of(frame, made)
    # The rows say what each image took, which may be less than what was allowed.
    n = int(made.get("spec", {}).get("n", frame["n"].max()))
    alpha = float(first["alpha"])
    return Settings(first["method"], int(first["n0"]), n, alpha, None if grid is None else tuple(grid))


def tidy(rows: Iterable[RowResult], radii: Sequence[float]) -> pd.DataFrame:
    """One line per row, radius and sigma, and one per row and radius for the oracle, whose `sigma` is its choice."""
    return pd.DataFrame([line for row in rows for line in _lines(row, radii)])


def _lines(row: RowResult, radii: Sequence[float]) -> Iterable[dict[str, Any]]:
    for radius in radii:
        for oracle, sigma in [*((False, sigma) for sigma in row.curves), (True, row.oracle(radius))]:
            shares = row.accuracy(sigma, [radius])[:, 0]
            low, high = row.interval(float(shares.mean()), row.images)
            yield {
                "block": row.block,
                "row": row.label,
                "published": row.published,
                "radius": radius,
                "oracle": oracle,
                "sigma": sigma,
                "certified_accuracy": shares.mean(),
                "low": low,
                "high": high,
                "seed_sd": shares.std(ddof=1) if row.seeds > 1 else np.nan,
                "natural_certified_accuracy": row.accuracy(sigma, [0.0]).mean(),
                "acr": np.mean([average_certified_radius(image_radii) for image_radii in row.curves[sigma]]),
                "images": row.images,
                "seeds": row.seeds,
                "clean_accuracy": row.clean.mean(),
                "clean_sd": row.clean.std(ddof=1) if row.seeds > 1 else np.nan,
                "clean_images": row.clean_images,
                "method": row.settings.method,
                "n0": row.settings.n0,
                "n": row.settings.n,
                "alpha": row.settings.alpha,
                "grid": _grid(row.settings.grid),
            }


def _grid(grid: Sequence[float] | None) -> str:
    """Empty: decided at every radius."""
    return "" if grid is None else " ".join(f"{radius:g}" for radius in grid) or "unknown"
