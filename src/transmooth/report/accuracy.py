"""Records -> certified and robust accuracy, with their uncertainty.

certified accuracy at r   share of the test images with the right class and a radius >= r; an abstention counts as wrong
natural certified acc.    the same at r = 0: what the tables print in brackets
clean accuracy            the base classifier on the images themselves, no noise
ACR                       mean over the images of radius where right, else 0
standard accuracy         SA: share of the attacked images that the base classifier answers right, no noise
robust accuracy at r      RA: share of them that an attack within r leaves right; an upper bound, so SA ≥ RA
oracle                    the largest over sigma at each r, chosen after seeing the results: not a certificate
multi-sigma               one classifier of several sigmas; its radii are certificates (see smoothing/multi_sigma.py)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from transmooth.checkpoint.card import read_card
from transmooth.params.present import below
from transmooth.params.tables import KINDS
from transmooth.params.values import MultiSigma
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.records.logs import grid_of, other_pictures, read_any
from transmooth.records.multi_sigma import one_row_each
from transmooth.smoothing.bounds import share_interval
from transmooth.specs import RowSpec

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
# In the place of σ for a curve whose images have a σ each, or none: a transductive one.  A dict finds it by identity.
EACH = float("nan")
# Kinds of evaluation whose records are curves: not of one classifier of several σ.
ONE_SIGMA = tuple(kind for kind in KINDS["certified"] if kind not in KINDS["multi_sigma"])


def certified_radius(frame: pd.DataFrame) -> Floats:
    """Per image, the radius where the prediction is right and -inf where it is wrong or abstains."""
    # An abstention is -1, and so is a label that a dataset does not have.
    right = ((frame["prediction"] == frame["label"]) & (frame["prediction"] >= 0)).to_numpy()
    return np.where(right, frame["radius"].to_numpy(np.float64), -np.inf)


def on_grid(radii: Floats, grid: Sequence[float] | None) -> Floats:
    """Cut certified radii down to those of a grid, if there is one.

    A cascade has all radii of its counts, a sequential test only those of its grid: cut down, their averages compare.
    Of a grid that nothing tells (see `logs.grid_of`) radii stay as they are: they are on it.
    """
    if not grid:
        return radii
    return np.array([-np.inf, *grid])[np.searchsorted(grid, radii, side="right")]


def certified_accuracy(radii_of_images: Floats, radii: Sequence[float] | Floats) -> Floats:
    """Share of the images certified at each radius (>=, not >): float64 [len(radii)]."""
    sorted_radii = np.sort(radii_of_images)
    return 1 - np.searchsorted(sorted_radii, np.asarray(radii, np.float64), side="left") / len(sorted_radii)


def average_certified_radius(radii_of_images: Floats) -> float:
    """ACR: the mean certified radius, wrong and abstaining images counting 0."""
    return float(np.maximum(radii_of_images, 0).mean())


def curves_of(frame: pd.DataFrame) -> Iterator[tuple[float, pd.DataFrame]]:
    """Yield σ and records of each curve in the records of one evaluation; EACH and all of them, where transductive."""
    if frame["region"].notna().any():
        yield EACH, frame.sort_values("index")
    else:
        yield from ((float(sigma), group) for sigma, group in frame.groupby("sigma"))


def of_several(method: str) -> bool:
    """Return whether the method of `Settings` is that of one classifier of several σ."""
    return method.startswith(get_args(MultiSigma))


def sigma_text(sigma: float) -> str:
    """Return the σ of a curve in words."""
    return "transductive" if np.isnan(sigma) else f"σ = {sigma:g}"


@dataclass(frozen=True)
class Settings:
    """How records were certified.

    method: for a classifier of several sigmas with these.  n: samples per image, at most, where the method may stop; of
    several sigmas at each.  grid: as of `logs.grid_of`, None unless sequential.
    method "log" and None: a log of the field's format does not say; "lookup" and None: there is no noise.
    Nothing at all: a row that was not certified.
    """

    method: str = ""
    n0: int | None = None
    n: int | None = None
    alpha: float | None = None
    grid: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Effort:
    """What the answers of one curve took, a number for each seed.

    abstained: share of the images.  evaluations, seconds: forward passes and time of an image, the mean over the
    images; NaN where it is unknown.
    """

    abstained: Floats
    evaluations: Floats
    seconds: Floats

    @classmethod
    def of(cls, frames: Sequence[pd.DataFrame]) -> Self:
        """Return that of records, a frame for each seed."""
        means = [
            [frame[name].mean() if name in frame else np.nan for frame in frames] for name in ("evaluations", "seconds")
        ]
        return cls(np.array([(frame["prediction"] < 0).mean() for frame in frames]), *np.array(means, np.float64))


@dataclass(frozen=True)
class AttackResult:
    """What attacks within one radius left.

    right, robust: bool [seeds, images], whether the base classifier answers an image right, and whether it still did
    after every attack.  norm: of the radius; method: how they were attacked, in words.
    """

    right: Flags
    robust: Flags
    norm: str
    method: str


@dataclass(frozen=True)
class RowResult:
    """One row of a table: its runs (for each seed one, or a set that is pooled) at every sigma.

    published, dataset: where the paper has it, see specs.RowSpec.
    curves: sigma, or EACH → float64 [seeds, images], each image's certified radius or -inf; settings: how they were
    certified; efforts: what they took.  multi_sigma, multi_settings, multi_effort: the same of a classifier of several
    sigmas, None where there is none.
    clean: one clean accuracy per seed, over `clean_images` test images; NaN where it was not measured.
    stage: measures of the runs' last stage, see `last_stage`, one number per seed each; none where they are unknown.
    attacks: epsilon -> what the attack left; every one of the same images.
    chance: share of its images of the most frequent class, which one answer for all of them has right at every radius;
    NaN where they are unknown.
    """

    label: str
    block: str
    published: str | None
    dataset: str | None
    curves: Mapping[float, Floats]
    clean: Floats
    clean_images: int
    settings: Settings
    stage: Mapping[str, Floats] = field(default_factory=dict)
    attacks: Mapping[float, AttackResult] = field(default_factory=dict)
    multi_sigma: Floats | None = None
    multi_settings: Settings = Settings()
    efforts: Mapping[float, Effort] = field(default_factory=dict)
    multi_effort: Effort | None = None
    chance: float = float("nan")

    @property
    def seeds(self) -> int:
        """Number of independently trained networks."""
        return len(self.clean)

    @property
    def images(self) -> int:
        """Number of certified test images."""
        return int(self.radii(next(iter(self.curves), np.nan)).shape[1])

    def radii(self, sigma: float) -> Floats:
        """Return the certified radii [seeds, images] of the curve at a sigma, or EACH; at another NaN `multi_sigma`."""
        if sigma in self.curves or not np.isnan(sigma):
            return self.curves[sigma]
        assert self.multi_sigma is not None
        return self.multi_sigma

    def effort(self, sigma: float) -> Effort | None:
        """Return what the curve of `radii` took; None where it is unknown."""
        return self.efforts.get(sigma) if sigma in self.curves else self.multi_effort

    @property
    def attacked_images(self) -> int:
        """Number of attacked test images."""
        return max((each.right.shape[1] for each in self.attacks.values()), default=0)

    def accuracy(self, sigma: float, radii: Sequence[float] | Floats) -> Floats:
        """Certified accuracy of each seed at a sigma as of `radii`: [seeds, radii]."""
        return np.stack([certified_accuracy(image_radii, radii) for image_radii in self.radii(sigma)])

    def interval(self, share: float, images: int) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of a share of test images: other images of the same kind, the same networks."""
        low, high = share_interval(share * images, images)
        return float(low), float(high)


def read_row(row: RowSpec, results: Path, base: Path) -> RowResult:
    """Collect a row from the records and cards below `results`, or from logs whose paths start at `base`.

    Raises ValueError where records are damaged, or were not certified alike.
    """
    stage, attacks = dict[str, Floats](), dict[float, AttackResult]()
    multi_sigma, multi_settings, multi_effort = None, Settings(), None
    if row.files:
        curves, efforts, settings = _curves_of_logs(row, base)
        clean, images = np.array([np.nan]), 0
    else:
        curves, efforts, settings = _curves_of_runs(row, results)
        multi_sigma, multi_settings, multi_effort = _multi_sigma_of_runs(row, results)
        cards = [read_card(results / "train" / runs[0].run.path) for runs in row.runs]
        tests = [card["test"] for card in cards]
        clean, images = np.array([test["correct"] / test["images"] for test in tests]), tests[0]["images"]
        stages = [last_stage(card) for card in cards]
        stage = {measure: np.array([each[measure] for each in stages]) for measure in stages[0]}
        if len(row.runs[0]) > 1:  # of which of them?
            clean, images, stage = np.full(len(row.runs), np.nan), 0, {}
        else:
            attacks = _attacks_of_runs(row, results)
    if len(settings) > 1:
        raise ValueError(f"{row.label}: its records should be certified alike, found {sorted(map(str, settings))}")
    made = settings.pop() if settings else Settings()
    return RowResult(
        *(row.label, row.block, row.published, row.dataset, curves, clean, images, made, stage, attacks),
        multi_sigma=multi_sigma,
        multi_settings=multi_settings,
        efforts=efforts,
        multi_effort=multi_effort,
        chance=_chance(row, results, base),
    )


def most_frequent(frame: pd.DataFrame) -> float:
    """Return the share of the images of records that have the most frequent label."""
    return float(frame.drop_duplicates("index")["label"].value_counts(normalize=True).max())


def _chance(row: RowSpec, results: Path, base: Path) -> float:
    """Return the `RowResult.chance` of a row: of its first records, for all of them are of the same images."""
    if row.files:
        return most_frequent(read_any(below(base, row.files[0].file), row.files[0].sigma))
    read = {kind: records.read for kind in (*ONE_SIGMA, "multi_sigma")} | {"attack": attacked.read}
    for each in (each for run in row.runs[0] for each in run.records if each.kind in read):
        return most_frequent(read[each.kind](results / each.path).to_pandas())
    return float("nan")


def last_stage(card: Mapping[str, Any]) -> dict[str, float]:
    """Return what a card says of the training that wrote it: weights in millions, the time of its job in hours.

    NaN where there is no denoiser, and for what a card that is older does not say.
    """
    unknown = float("nan")
    weights, denoiser = card.get("parameters", {}), card.get("denoiser", {})
    return {
        "parameters": weights.get("all", unknown) / 1e6,
        "trained": weights.get("trained", unknown) / 1e6,
        "denoiser_parameters": denoiser.get("parameters", unknown) / 1e6,
        "hours": card.get("seconds", unknown) / 3600,
    }


def _curves_of_runs(row: RowSpec, results: Path) -> tuple[dict[float, Floats], dict[float, Effort], set[Settings]]:
    """Sigma -> [seeds, images], over the runs that the row pools and their certifications."""
    found: dict[float, list[pd.DataFrame]] = {}
    settings: set[Settings] = set()
    for runs in row.runs:
        for path in (results / each.path for run in runs for each in run.records if each.kind in ONE_SIGMA):
            frame = records.read(path).to_pandas()
            settings.add(settings_of(frame, path))
            for sigma, group in curves_of(frame):
                if row.sigma in (None, sigma):
                    found.setdefault(sigma, []).append(group)
    if wrong := [sigma for sigma, curves in found.items() if len(curves) != len(row.runs)]:
        raise ValueError(f"{row.label}: should have one network at each sigma and seed, has others at {wrong}")
    curves = {sigma: np.stack([certified_radius(group) for group in groups]) for sigma, groups in sorted(found.items())}
    return curves, {sigma: Effort.of(groups) for sigma, groups in found.items()}, settings


def _attacks_of_runs(row: RowSpec, results: Path) -> dict[float, AttackResult]:
    """Epsilon -> what its attacks left of the one run of the row at each seed.

    Raises ValueError where seeds were attacked in several ways, or on other images.
    """
    found: dict[float, list[pd.DataFrame]] = {}
    for runs in row.runs:
        for path in (results / each.path for run in runs for each in run.records if each.kind == "attack"):
            frame = attacked.read(path).to_pandas()
            found.setdefault(float(frame["epsilon"].iloc[0]), []).append(frame)
    frames = [frame for each in found.values() for frame in each]
    if any(not np.array_equal(frame[["index", "label"]], frames[0][["index", "label"]]) for frame in frames):
        raise ValueError(f"{row.label}: its attacks should be of the same images")
    made = {}
    for epsilon, each in sorted(found.items()):
        methods = sorted({attack_method(frame) for frame in each})
        if len(methods) > 1 or len(each) != len(row.runs):
            raise ValueError(f"{row.label}: should be attacked at {epsilon} alike, once at each seed, found {methods}")
        right = np.stack([(frame["prediction"] == frame["label"]).to_numpy() for frame in each])
        robust = np.stack([frame["robust"].to_numpy(bool) for frame in each])
        made[epsilon] = AttackResult(right, robust, str(each[0]["norm"].iloc[0]), methods[0])
    return made


def attack_method(frame: pd.DataFrame) -> str:
    """Return how the images of one file of attack records were attacked, in words."""
    first = frame.iloc[0]
    starts = f", {first['restarts']} starts" if first["restarts"] > 1 else ""
    return f"AutoPGD in {first['norm']} on {first['losses'].replace(', ', ' and ')}, {first['steps']} steps{starts}"


def _multi_sigma_of_runs(row: RowSpec, results: Path) -> tuple[Floats | None, Settings, Effort | None]:
    """[seeds, images] of the classifier of several sigmas, over the runs of the row; None where there is none."""
    paths = [results / each.path for runs in row.runs for run in runs for each in run.records]
    kinds = [each.kind for runs in row.runs for run in runs for each in run.records]
    several = [path for path, kind in zip(paths, kinds, strict=True) if kind == "multi_sigma"]
    if not several:
        return None, Settings(), None
    frames = [one_row_each(records.read(path).to_pandas(), path) for path in several]
    settings = {settings_of(frame, path) for frame, path in zip(frames, several, strict=True)}
    if len(settings) > 1:
        raise ValueError(f"{row.label}: its records should be certified alike, found {sorted(map(str, settings))}")
    made = settings.pop()
    return np.stack([on_grid(certified_radius(frame), made.grid) for frame in frames]), made, Effort.of(frames)


def _curves_of_logs(row: RowSpec, base: Path) -> tuple[dict[float, Floats], dict[float, Effort], set[Settings]]:
    """Sigma -> [1, images], from logs or records of other people's network, all of the same images."""
    curves, efforts, settings, images = dict[float, Floats](), dict[float, Effort](), set[Settings](), None
    for log in row.files:
        path = below(base, log.file)
        frame = read_any(path, log.sigma)
        if images is not None and not np.array_equal(images, np.sort(frame["index"])):
            raise ValueError(f"{path}: should be of the same images as the other logs of {row.label}")
        images = np.sort(frame["index"])
        curves[log.sigma], efforts[log.sigma] = certified_radius(frame)[None], Effort.of([frame])
        settings.add(settings_of(frame, path) if "method" in frame else Settings("log"))
    return curves, efforts, settings


def read_files(paths: Sequence[Path], label: str) -> RowResult:
    """Return the records of one network, in one file or in one for each sigma; its clean accuracy is not known (NaN).

    A file of a classifier of several sigmas is the row's `multi_sigma`.
    Raises ValueError, naming the file, for records that are damaged or that cannot stand in one row: of several models
    or settings, of other images than the first file's, of a sigma that was there before, or without labels.
    """
    curves, efforts = dict[float, Floats](), dict[float, Effort]()
    frames = [(path, one_row_each(records.read(no_log(path)).to_pandas(), path)) for path in paths]
    same = ("its model", "how it was certified", "its images (index, label)")
    found = set()
    for path, frame in frames:
        if other := other_pictures(frames[0][1], frame):
            raise ValueError(f"{path}: its pictures should be those of {paths[0]}, but image {other[0]} is another")
        if not len(frame) or frame["label"].isna().any():
            raise ValueError(f"{path}: {'labels are unknown' if len(frame) else 'there are no records in it'}")
        for sigma, group in [(0.0, frame)] if "stages" in frame.attrs else curves_of(frame):
            if sigma in curves:
                raise ValueError(f"{path}: sigma = {sigma} is there twice; name each file once")
            curves[sigma], efforts[sigma] = certified_radius(group)[None], Effort.of([group])
            images = tuple(zip(group["index"], group["label"], strict=True))
            found.add((tuple(set(frame["model"])), settings_of(frame, path), images))
            for name, values in zip(same, zip(*found, strict=True), strict=True):
                if len(set(values)) > 1:
                    raise ValueError(f"{path}: {name} should be the same as in {paths[0]} at every sigma")
    (_, settings, _) = found.pop()
    multi_sigma = on_grid(curves.pop(0.0), settings.grid) if 0.0 in curves else None
    return RowResult(
        *(label, "", None, None, dict(sorted(curves.items())), np.array([np.nan]), 0, settings),
        multi_sigma=multi_sigma,
        multi_settings=settings,
        multi_effort=efforts.pop(0.0, None),
        efforts=efforts,
        chance=most_frequent(frames[0][1]),
    )


def no_log(path: Path) -> Path:
    """Return the path.  Raises ValueError for a log, which does not say how it was certified."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(200)
        if b"idx" in start and start[:4] != b"PAR1":
            raise ValueError(
                f"{path}: is a log, which does not tell sigma, alpha and n; "
                f"transmooth import-log {path} records.parquet --sigma … makes records of it"
            )
    return path


def settings_of(frame: pd.DataFrame, path: Path) -> Settings:
    """Return how the records of one file, given as a frame too, were certified.  Raises ValueError unless all alike."""
    if len(different := frame[["method", "n0", "alpha"]].drop_duplicates()) != 1:
        raise ValueError(f"{path}: holds records of {len(different)} settings (method, n0, alpha), should be of one")
    if frame["method"].iloc[0] == records.LOOKUP:
        return Settings(records.LOOKUP)
    made = records.metadata(path)
    first, grid = frame.iloc[0], grid_of(frame, made)
    # The rows say what each image took, which may be less than what was allowed.
    n = int(made.get("spec", {}).get("n", frame["n"].max()))
    alpha = float(first["alpha"])
    n0 = None if np.isnan(first["n0"]) else int(first["n0"])  # an imported log need not say
    stages = stages_text(frame, made)
    method = f"{first['method']} of {stages}" if stages else first["method"]
    return Settings(method, n0, n, alpha, None if grid is None else tuple(grid))


def stages_text(frame: pd.DataFrame, made: Mapping[str, Any]) -> str:
    """Return σ and thresholds of a classifier of several σ, as of `one_row_each`; empty where there is one σ."""
    chosen_on = made.get("spec", {}).get("chosen_on")
    thresholds = f"τ chosen on {chosen_on} validation images" if chosen_on else frame.attrs.get("thresholds")
    return "; ".join(filter(None, (frame.attrs.get("stages"), thresholds))) if "stages" in frame.attrs else ""


def grid_text(grid: Sequence[float] | None) -> str:
    """Return the radii of a grid as text; empty: decided at every radius."""
    return "" if grid is None else " ".join(f"{radius:g}" for radius in grid) or "unknown"
