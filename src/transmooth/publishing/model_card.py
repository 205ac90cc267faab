"""The model card of a checkpoint, README.md on a hub: its card and its records, in words and tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from transmooth.loading.hub import PREFIX
from transmooth.params.values import Trainable
from transmooth.records import table as parquet
from transmooth.report.accuracy import RowResult, average_certified_radius, read_files
from transmooth.report.cells import cells
from transmooth.report.tables import markdown_table, methods
from transmooth.smoothing.bounds import share_interval
from transmooth.specs import ColumnSpec

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
NEEDED = {"spec", "network", "classes", "size", "mean", "std", "data", "start", "lr", "test", "versions", "commit"}
SHOWN = 20  # classes
TRAINED: dict[Trainable, str] = {
    "all": "the whole network",
    "frozen_statistics": "the whole network, with the statistics of batch norm as they were",
    "head": "the last layer alone",
    "head_moving": "the last layer alone, while the statistics of batch norm moved",
    "lora": "the last layer, and low-rank corrections of the queries and values, added into their weights",
}


@dataclass(frozen=True)
class Origin:
    """What no checkpoint knows: its licence and the data sets that it learned from, by the names that the Hub has."""

    license: str | None = None
    datasets: tuple[str, ...] = ()


def model_card(
    repository: str, card: Mapping[str, Any], records: Sequence[Path], origin: Origin, *, for_timm: bool
) -> str:
    """Markdown below YAML, in the Hub's form: what a network is, how it was made, what it reaches, and what not.

    repository: OWNER/NAME.  card: of a training, with all that is NEEDED.  records: of its certification, one
    file or one for each sigma; they give certified accuracies at each sigma, with 95 % intervals.  for_timm:
    timm loads it.  Raises ValueError as `accuracy.read_files`, and for records of other weights.
    """
    for path in records:
        if other := set(parquet.read(path)["model"].to_pylist()) - {card["weights_sha256"]}:
            raise ValueError(f"{path}: of other weights, {other.pop()}; the checkpoint's are {card['weights_sha256']}")
    certified = read_files(records, repository) if records else None
    if certified and any(map(math.isnan, certified.curves)):
        raise ValueError(f"{records[0]}: is transductive; a model card tells what one sigma certifies for all images")
    if certified and not certified.curves:
        raise ValueError(f"{records[0]}: is of a classifier of several sigmas; a model card tells those of each sigma")
    front = ModelCardData(
        library_name="transmooth",
        pipeline_tag="image-classification",
        license=origin.license,
        datasets=list(origin.datasets) or None,
        metrics=["accuracy"],
        tags=["randomized-smoothing", "certified-robustness", *(["timm"] if for_timm else [])],
    )
    network, size, classes = card["network"], card["size"], len(card["classes"])
    parts = [
        f"---\n{front.to_yaml().strip()}\n---",
        f"# {repository.split('/')[1]}",
        f"{_kind(network)} with {network['norm']} norm for {classes} classes and images of {size}×{size} pixels, made "
        "with transmooth to be smoothed by Gaussian noise: for each image a radius can be certified within which, "
        "with probability 1 − α, no ℓ2 perturbation changes the answer.",
        "## Use",
        *_use(repository, card, certified, for_timm),
        "## What it reaches",
        *_reached(card, certified),
        *_certified_images(records),
        "## How it was made",
        markdown_table(["", ""], _made(card)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(card, origin)),
    ]
    return "\n\n".join(parts) + "\n"


def _use(repository: str, card: Mapping[str, Any], certified: RowResult | None, for_timm: bool) -> list[str]:
    sigma = min(certified.curves) if certified else 0.25
    model = f"{PREFIX}{repository}"
    commands = [
        f"transmooth certify {model} pictures/ --size {card['size']} --sigma {sigma:g} --n 1000 --out records.parquet",
        "transmooth accuracy records.parquet",
        f"transmooth finetune pictures/ --from {model} --out model/",
    ]
    parts = [
        "Pictures are in a folder for each class. To be certified they are of the classes that the network knows; "
        "finetuned on clean pictures of other classes it keeps the robustness that noise in its training gave it.",
        "```sh\n" + "\n".join(commands) + "\n```",
    ]
    if for_timm:
        parts += [
            "timm builds the same network, for images normalised by the mean and std of its config. Noise is added "
            "before that, to images in [0, 1].",
            f'```python\nmodel = timm.create_model("{model}", pretrained=True)\n```',
        ]
    return parts


def _reached(card: Mapping[str, Any], certified: RowResult | None) -> list[str]:
    right, images = card["test"]["correct"], card["test"]["images"]
    low, high = share_interval(right, images)
    clean = _percent(right / images, float(low), float(high))
    parts = [f"Clean accuracy in percent, without noise or smoothing: {clean} of {images} test images."]
    if certified is None:
        return [*parts, "The certified accuracy is not known: no records were published with it."]
    grid = certified.settings.grid
    radii = grid or RADII
    columns = [ColumnSpec(measure="certified", radius=radius) for radius in radii]
    settings = methods(cells([certified], columns))
    rows = []
    for sigma, curves in certified.curves.items():
        shares = certified.accuracy(sigma, radii)[0].tolist()
        shown = [_percent(share, *certified.interval(share, certified.images)) for share in shares]
        rows.append([f"{sigma:g}", *shown, f"{average_certified_radius(curves):.3f}"])
    return [
        *parts,
        f"Certified accuracy in percent: how many of {certified.images} images the smoothed network has right, "
        "with a radius of at least ε. ACR: the mean radius, 0 where it is wrong.",
        markdown_table(["σ", *(f"ε = {radius:g}" for radius in radii), "ACR" if grid is None else "≥ ACR"], rows),
        f"In brackets 95 % intervals, over images. {settings} Each row is a smoothed network of its own; "
        "the largest value over σ would be an oracle, no certificate, and is left out.",
    ]


def _certified_images(records: Sequence[Path]) -> list[str]:
    """Of which set, where the records name a prepared one; for any other images they name a local path."""
    data = [parquet.metadata(path).get("data") or {} for path in records]
    sets = sorted(
        {f"the split {each['split']} of checksum `{each['checksum']}`" for each in data if "checksum" in each}
    )
    return [f"The certified images are of {' and of '.join(sets)}."] if sets else []


def _percent(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def _kind(network: Mapping[str, Any]) -> str:
    changed = network["options"] or network["stem"] != "imagenet"
    return f"A variant of timm's {network['name']}" if changed else f"A {network['name']}"


def _made(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    spec, network = card["spec"], card["network"]
    training = spec["schedule"]
    if card["start"]:
        start = f"the weights of SHA-256 `{card['start']}`; the last layer is new if the classes are not the same"
    elif network.get("weights") == "published":
        start = "timm's weights; the last layer is new where they are for another number of classes"
    else:
        start = "random weights"
    options = "".join(f", {key} {value}" for key, value in network["options"].items())
    schedule = f"{training['epochs']} epochs in batches of {training['batch']}, {training['optimizer']}, learning rate "
    schedule += f"{card['lr'] or 0:g}, weight decay {training['weight_decay']:g}, {training['precision']}"
    return [
        ("network", f"{network['name']} of timm{options}; stem: {network['stem']}"),
        ("norm", network["norm"] + (f" of {network['groups']} groups" if network["norm"] == "group" else "")),
        ("input", f"[0, 1]; inside, less {_numbers(card['mean'])} and divided by {_numbers(card['std'])}"),
        ("classes", _classes(card["classes"])),
        ("start", start),
        ("trained", TRAINED[spec["trainable"]]),
        ("noise", _noise(spec["sigmas"])),
        ("objective", spec["objective"]),
        ("schedule", schedule),
        ("augmentation", ", ".join(spec["augment"]) or "none"),
        ("seed", str(spec["seed"])),
        ("data", f"{spec.get('run', {}).get('dataset', 'a prepared set')}; checksum of its manifest `{card['data']}`"),
        ("commit", f"`{card['commit'] or 'unknown'}`"),
        ("versions", ", ".join(f"{name} {version}" for name, version in card["versions"].items())),
        ("weights", f"SHA-256 `{card['weights_sha256']}`"),
    ]


def _noise(sigmas: Sequence[float]) -> str:
    if not any(sigmas):
        return "none"
    return f"Gaussian, the σ of each image one of {', '.join(f'{sigma:g}' for sigma in sigmas)}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(name.replace("|", "\\|") for name in names[:SHOWN])
    return f"{shown}, … ({len(names)})" if len(names) > SHOWN else shown


def _limits(card: Mapping[str, Any], origin: Origin) -> list[str]:
    return [
        "A certificate is of the smoothed network, at one σ and for one image; its radius is too large with "
        "probability α at most. A single forward pass of the network is not certified.",
        f"Radii are in ℓ2, on images in [0, 1] of {card['size']}×{card['size']} pixels: after resizing. They tell "
        "nothing of other changes.",
        "The numbers are of one network, on test images of the kind that it learned from. It knows "
        f"{len(card['classes'])} classes, and calls everything one of them or abstains.",
        f"Licence: {origin.license or 'none was stated'}. The pictures that it learned from may set their own terms.",
    ]
