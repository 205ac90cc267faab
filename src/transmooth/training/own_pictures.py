"""One training on one's own pictures: what `transmooth train` and `transmooth finetune` do.

The pictures become a prepared set, and this becomes a checkpoint folder.  The functions are those that the jobs of a
study call; `plan` makes their specs from params that are checked like a study's.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm

from transmooth import files
from transmooth.checkpoint import resume, weights
from transmooth.checkpoint.card import CheckpointError, read_card
from transmooth.data.labelled import is_table
from transmooth.data.loader import open_split
from transmooth.data.manifest import read_manifest
from transmooth.data.parts import left_beside, parts_below
from transmooth.data.prepare import OtherSetError, prepare, verify
from transmooth.loading import hub
from transmooth.loading.denoisers import load_denoiser
from transmooth.loading.models import TimmArguments, load_model
from transmooth.models.build import Network
from transmooth.params.checks.objectives import needs, unknown_option
from transmooth.params.datasets import Dataset
from transmooth.params.messages import validate
from transmooth.params.recipes import Recipe
from transmooth.params.study import Schedule
from transmooth.params.values import Augmentation, Trainable
from transmooth.plan import prepare_spec, schedule_spec
from transmooth.specs import NetworkSpec, TrainSpec
from transmooth.training.loop import train

CHECKPOINT_SECONDS = 60.0


def source_of(pictures: str, test: float, seed: int) -> dict[str, Any]:
    """The source, as in params/datasets.yaml, that a folder of images or the name of a torchvision dataset means.

    A folder with train/ and test/ keeps them: val/ is the test set where there is no test/, and more training images
    where there is.  Of a folder of classes the share `test` is set aside, drawn per class by `seed`.
    Raises ValueError for splits without training or test images, FileNotFoundError for what is not there.
    """
    folder = Path(pictures)
    if is_table(folder):
        return {"kind": "onefolder", "root": pictures, "test": test, "seed": seed}
    if not folder.is_dir():
        name, _, root = pictures.partition("@")
        if not name.isidentifier():
            raise FileNotFoundError(f"{pictures}: no such folder, and no name of a torchvision dataset")
        return {"kind": "torchvision", "name": name, "root": root or "~/datasets"}
    parts = parts_below(folder)
    root = str(folder)
    if not parts:
        return {"kind": "onefolder", "root": root, "test": test, "seed": seed}
    held_out = [name for name, part in parts.items() if part == ("test" if "test" in parts.values() else "val")]
    training = [name for name in parts if name not in held_out]
    if "train" not in parts.values() or not held_out:
        raise ValueError(f"{folder}: should have train/ and test/ (or val/), or no splits at all; has {[*parts]}")
    return {"kind": "imagefolder", "root": root, "splits": {"train": training, "test": held_out}}


def prepared(
    pictures: str,
    out: Path,
    size: int,
    augment: Sequence[str],
    test: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of the prepared set of `pictures`: itself if it is one, else `out`, made anew from the pictures.

    Images are squares of `size`, a little larger before a random crop and resize; a tenth of the training images is set
    aside to choose by.  `progress(done, total)` is called as images are decoded.  Raises what `prepare` does, and
    ValueError for a prepared set of another size, for one without validation images or without a training image of some
    class, for an `out` inside a folder of classes, and for one beside a training, begun or finished, on another set,
    which stays.
    """
    folder = Path(pictures)
    if (folder / "manifest.json").is_file():
        if (found := verify(folder)["size"]) != size:
            raise ValueError(f"{folder} was prepared at size {found}, not {size}")
    else:
        stored = size * 8 // 7 if "resized_crop" in augment else size  # as 256 for 224
        source = source_of(pictures, test, seed)
        entry = {"source": source, "size": size, "stored": stored, "seed": seed}
        entry["augment"] = list(augment)
        dataset = validate(Dataset, entry, pictures)
        if source["kind"] == "onefolder" and out.resolve().is_relative_to(folder.resolve()):  # as a class of them
            raise ValueError(f"{out.parent}: is inside the pictures, {pictures}; choose another --out")
        spec = {key: value for key, value in prepare_spec(dataset).items() if key != "sha256"}
        held = any((out.parent / name).is_file() for name in ("model.json", "resume.pt"))
        pin = files.sha256(there) if held and (there := out / "manifest.json").is_file() else None
        try:
            prepare(spec, out, Path(), pin, progress)
        except OtherSetError as error:
            raise ValueError(f"{out.parent}: holds another training (its data); choose another --out") from error
        folder = out
    if "validation" not in (counts := read_manifest(folder)["counts"]):
        raise ValueError(f"{pictures}: {counts['train']} training images are too few to set some aside to choose by")
    split = open_split(folder, "train")
    if lacking := sorted(set(range(len(split.classes))) - set(split.labels.tolist())):
        raise ValueError(
            f"{pictures}: class {split.classes[lacking[0]]!r} has no image to train on beside those that are set "
            "aside, to choose by and to test; it needs more of them"
        )
    return folder


FEW_STEPS = 100


def account(pictures: str, data: Path, spec: TrainSpec) -> list[str]:
    """Return how many images of a prepared set are for what, and notes on a training that can learn little of them."""
    counts = read_manifest(data)["counts"]
    train, batch = counts["train"], min(spec.schedule.batch, counts["train"])
    lines = [
        f"{pictures}: {sum(counts.values())} images: {train} to train, {counts['validation']} to choose by, "
        f"{counts['test']} to test"
    ]
    folder = Path(pictures)
    if folder.is_dir() and not (folder / "manifest.json").is_file():
        lines += [f"note: {each}" for each in left_beside(folder, [*parts_below(folder)])]
    if (steps := train // batch * spec.schedule.epochs) < FEW_STEPS:
        lines.append(f"note: {steps} steps in all are few to learn from; more epochs or a smaller batch give more")
    if rest := train % batch:
        lines.append(f"note: each epoch leaves out {rest} of {train} images, others each time, which fill no batch")
    return lines


@contextmanager
def start_from(
    text: str,
    resize: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Iterator[tuple[NetworkSpec | None, Path | None, int]]:
    """Give what a finetuning starts from, checked: what to build, or a checkpoint folder, and the side of its images.

    text: a checkpoint folder; `hf-hub:OWNER/NAME[@REVISION]`, one of a hub; `timm:NAME@WEIGHTS`, a network of timm with
    weights in .safetensors or .pth; `timm:NAME`, with the weights that timm serves.  resize: the side that one of timm
    gets, to which images are resized inside it.  mean, std: of the weights in a file, per channel; what was assumed of
    them is reported.  Raises ValueError or FileNotFoundError for any other,
    transmooth.hub.HubError where the hub cannot be reached or refuses.
    """
    if not (text.startswith("timm:") and "@" in text) and not (mean is std is None):
        raise ValueError(f"{text}: --mean and --std are for timm:NAME@WEIGHTS; what it starts from has its own")
    if not text.startswith("timm:"):
        if resize is not None:
            raise ValueError(f"{text}: its card says what images are resized to; --resize is for networks of timm")
        init = Path(text)
        if text.startswith(hub.PREFIX):
            _, card, init, _ = hub.load(text)
        else:
            _, card = weights.load_network(init)
        if "size" not in card:
            raise CheckpointError(f"{text}: its card should tell the size of its images")
        yield None, init, card["size"]
        return
    name = text.removeprefix("timm:").split("@")[0]
    network = NetworkSpec(name=name, stem="imagenet", norm="own", groups=1, options={}, size=resize)
    if "@" not in text:
        if not timm.is_model_pretrained(name):
            raise ValueError(f"{text}: timm serves no weights for {name!r}")
        published = network.model_copy(update={"weights": "published"})
        yield published, None, timm.get_pretrained_cfg(name).input_size[-1]
        return
    loaded = load_model(text, arguments=TimmArguments(mean, std))
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    model = loaded.module
    assert isinstance(model, Network)
    assert model.spec is not None
    options: dict[str, Any] = dict(model.spec.options)
    if "in_chans" in options:
        raise ValueError(f"{text}: takes {options['in_chans']} channels; images are prepared in three")
    network = network.model_copy(update={"options": options})
    backbone: Any = model.backbone
    with tempfile.TemporaryDirectory(prefix="transmooth-") as folder:
        sides = {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
        outputs = [str(number) for number in range(backbone.num_classes)]
        weights.save(Path(folder), model, {"network": network.dump(), "classes": outputs} | sides)
        try:
            weights.load(Path(folder))
        except Exception as error:  # other families of timm fail in ways of their own
            reason = str(error).split("\n")[0]
            raise ValueError(f"{text}: timm builds another network from its card: {reason}") from error
        yield None, Path(folder), options.get("img_size", backbone.pretrained_cfg["input_size"][-1])


def train_spec(
    network: NetworkSpec | None,
    schedule: dict[str, Any],
    *,
    sigmas: Sequence[float],
    trainable: Trainable,
    augment: Sequence[Augmentation],
    seed: int,
    objective: str = "cross_entropy",
    options: dict[str, Any] | None = None,
    denoiser: str | None = None,
) -> TrainSpec:
    """Return the spec of a training.  schedule: keys of `Schedule`, which are checked, as objective and options are."""
    checked = validate(Schedule, {"optimizer": "adamw", "weight_decay": 0.01} | schedule, "training")
    recipe = validate(Recipe, {"objective": objective, "options": options or {}}, "training")
    if fault := unknown_option(recipe.objective, recipe.options):
        raise ValueError(f"options.{fault}")
    return TrainSpec(
        seed=seed,
        network=network,
        objective=recipe.objective,
        options=recipe.options,
        denoiser=denoiser,
        sigmas=tuple(sigmas),
        noise="uniform",
        **needs(recipe.objective),
        trainable=trainable,
        schedule=schedule_spec(checked),
        augment=tuple(augment),
    )


def fit(out: Path, data: Path, spec: TrainSpec, start: Path | None, denoiser: str | None = None) -> dict[str, Any]:
    """Train on a prepared set as a job of a study does, and return the card of the checkpoint `out`.

    denoiser: what the spec names.

    An interrupted call goes on where it was last saved; a finished one has nothing left to do.  Raises ValueError
    for an `out` that holds another training, finished or not.
    """
    finished = (out / "model.json").is_file()
    made = read_card(out) if finished else resume.job_of(out / "resume.pt")
    if made is not None:
        asked = {
            "spec": spec.dump(),
            "data": read_manifest(data)["checksum"],
            "start": read_card(start)["weights_sha256"] if start else None,
            "denoiser": load_denoiser(denoiser).sha256 if denoiser else None,
        }
        found = made | {"denoiser": (made.get("denoiser") or {}).get("sha256")}
        if differing := [key for key in asked if found.get(key) != asked[key]]:
            begun = "another training" if finished else "another training, interrupted"
            raise ValueError(f"{out}: holds {begun} (its {', '.join(differing)}); choose another --out")
        if finished and (out / "model.safetensors").is_file():
            return made
    train(spec, data, out, start, CHECKPOINT_SECONDS, denoiser)
    (out / "resume.pt").unlink(missing_ok=True)
    return read_card(out)
