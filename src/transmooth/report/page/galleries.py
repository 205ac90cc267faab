"""Example images of the network that is certified farthest on a dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transmooth.report.page.page import Gallery
from transmooth.report.page.provenance import Certification, run_text

if TYPE_CHECKING:
    from transmooth.loading.denoisers import LoadedDenoiser
    from transmooth.loading.images import ImageSet

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


def gallery(dataset: str, folder: Path, certified: Certification, network: str, results: Path) -> Gallery:
    """Return the example images of a network of a study.

    results: where its checkpoint is, whose denoiser the pictures go through, too, where it has one.
    """
    from transmooth.loading.denoisers import denoiser_of
    from transmooth.loading.images import load_images

    assert certified.run is not None
    denoiser = denoiser_of(results / "train" / certified.run.path)
    return pictures(certified, dataset, load_images(str(folder), "test", None), network, denoiser)


def pictures(
    certified: Certification,
    dataset: str,
    images: "ImageSet",
    network: str,
    denoiser: "LoadedDenoiser | None" = None,
) -> Gallery:
    """Return the images that are certified farthest and least far.  Raises ValueError for records of other images."""
    # They need torch, which nothing else here does.
    from transmooth.report.page.examples import examples, extremes

    first = certified.frame.drop_duplicates("index")
    known = first[first["index"] < len(images)]
    if len(known) == len(first):
        told = known[known["picture"].notna()]
        pictures = images.pictures(told["index"].tolist())
        for index, picture in zip(told["index"].tolist(), told["picture"], strict=True):
            if pictures[index] != picture:
                raise ValueError(
                    f"{certified.path}: is not of the images {images.description}: image {index} is another"
                )
    if len(known) < len(first) or (images.labels[known["index"].to_numpy()] != known["label"].to_numpy()).any():
        raise ValueError(f"{certified.path}: is not of the images {images.description}: their labels differ")
    most, least = (
        examples(certified.frame, chosen, images.fetch, images.classes, denoiser.module.denoise if denoiser else None)
        for chosen in extremes(certified.frame, EXAMPLES)
    )
    return Gallery(dataset, network, most, least)
