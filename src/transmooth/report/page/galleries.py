"""Example images of the network that is certified farthest on a dataset, and of the one that attacks break least."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from transmooth.attacks.robust import LOSSES, Settings
from transmooth.loading.denoisers import load_classifier
from transmooth.loading.images import ImageSet, load_images
from transmooth.models.denoiser import Denoised
from transmooth.report.page.examples import STEPS, Denoise, broken_and_robust, examples, extremes
from transmooth.report.page.page import Gallery
from transmooth.report.page.provenance import Attacked, Certification, run_text

EXAMPLES = 3  # three stand in a line


def farthest(dataset: str, certified: Sequence[Certification]) -> tuple[Certification, str] | None:
    """Return the network with the largest mean ACR on a dataset, and it in words; None where none has curves by σ."""
    here = [each for each in certified if each.run and each.run.dataset == dataset]
    here = [each for each in here if not (each.transductive or each.stages)]
    if not here:
        return None
    best = max(here, key=lambda each: each.mean_acr)
    assert best.run is not None
    network = f"{run_text(best.run)}, seed {best.run.seed}"
    if len({each.run for each in here}) > 1:
        network += ", which has the largest average certified radius here (mean over σ)"
    return best, network


def galleries(
    dataset: str,
    folder: Path,
    best: tuple[Certification, str] | None,
    attacks: Sequence[Attacked],
    results: Path,
) -> list[Gallery]:
    """Return the example images of a study on one dataset: those of `farthest`, and those of the most robust network.

    folder: of the prepared dataset.  attacks: of the study, whose ways are taken for the first of these networks too;
    where there are none it is attacked in l2 up to the largest σ that it was certified at.
    results: where the checkpoints are; without weights nothing is attacked and nothing denoised.
    Raises ValueError for records of other images.
    """
    here = [each for each in attacks if each.run.dataset == dataset]
    if best is None and not here:
        return []
    images = load_images(str(folder), "test", None)
    made = []
    if best is not None:
        certified, words = best
        assert certified.run is not None
        network = _network(results / "train" / certified.run.path)
        cleaner: Any = network.denoiser if isinstance(network, Denoised) else None
        denoise = None if cleaner is None else cleaner.denoise
        ways = list(dict.fromkeys(map(_settings, here))) or [_nearby(float(certified.frame["sigma"].max()))]
        made.append(pictures(certified, dataset, images, words, denoise, network, ways))
    if here:
        robust = max(here, key=lambda each: float(each.frame["robust"].mean()))
        made.append(_attacked(robust, dataset, images, len({each.run for each in here}) > 1, results))
    return made


def pictures(
    certified: Certification,
    dataset: str,
    images: ImageSet,
    words: str,
    denoise: Denoise | None = None,
    network: nn.Module | None = None,
    attacks: Sequence[Settings] = (),
) -> Gallery:
    """Return the images that are certified farthest and least far.  Raises ValueError for records of other images.

    words: the network, in words.  denoise, network, attacks: as in `examples`.
    """
    _check(certified.frame, certified.path, images)
    groups = [
        (title, examples(certified.frame, chosen, images.fetch, images.classes, denoise, network, attacks))
        for title, chosen in zip(
            ("Certified farthest", "Certified least far"), extremes(certified.frame, EXAMPLES), strict=True
        )
    ]
    return Gallery(f"examples-{dataset}", dataset, words, groups)


def _attacked(attacked: Attacked, dataset: str, images: ImageSet, several: bool, results: Path) -> Gallery:
    """Return the images that an attack broke at the smallest distance, and some that it did not break."""
    _check(attacked.frame, attacked.path, images)
    network, ways = _network(results / "train" / attacked.run.path), [_settings(attacked)]
    titles = ("Broken at the smallest distance", "Robust to the attack")
    groups = [
        (title, examples(attacked.frame, chosen, images.fetch, images.classes, None, network, ways))
        for title, chosen in zip(titles, broken_and_robust(attacked.frame, EXAMPLES), strict=True)
        if chosen
    ]
    words = f"{run_text(attacked.run)}, seed {attacked.run.seed}"
    if several:
        words += ", which attacks break least here"
    return Gallery(f"examples-{dataset}-attacked", f"{dataset}, attacked", words, groups)


def _network(folder: Path) -> nn.Module | None:
    """The classifier of a checkpoint, behind its denoiser; None where its weights, or those of this, are not at hand.

    A function that it names as its denoiser is not run.
    """
    try:
        return load_classifier(folder)[0]
    except (OSError, ValueError):
        return None


def _settings(attacked: Attacked) -> Settings:
    """Return how the images of these records were attacked."""
    first = attacked.frame.iloc[0]
    whole = {name: int(first[name]) for name in ("steps", "restarts", "batch", "seed")}
    return Settings(first["norm"], float(first["epsilon"]), losses=tuple(first["losses"].split(", ")), **whole)


def _nearby(epsilon: float) -> Settings:
    """Return an attack in l2, as certificates are, for a study that has none."""
    return Settings("l2", epsilon, STEPS, tuple(LOSSES), restarts=1, batch=1, seed=0)


def _check(frame: pd.DataFrame, path: str, images: ImageSet) -> None:
    """Raise ValueError for records, of a certification or of an attack, that are not of these images."""
    first = frame.drop_duplicates("index")
    known = first[first["index"] < len(images)]
    if len(known) == len(first) and "picture" in known:
        hashed = known[known["picture"].notna()]
        there = images.pictures(hashed["index"].tolist())
        for index, picture in zip(hashed["index"].tolist(), hashed["picture"], strict=True):
            if there[index] != picture:
                raise ValueError(f"{path}: is not of the images {images.description}: image {index} is another")
    if len(known) < len(first) or (images.labels[known["index"].to_numpy()] != known["label"].to_numpy()).any():
        raise ValueError(f"{path}: is not of the images {images.description}: their labels differ")
