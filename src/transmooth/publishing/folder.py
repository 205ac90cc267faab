"""What is published of a checkpoint: a folder of

README.md                        the model card, see model_card.py
model.json, model.safetensors    the checkpoint, as it is
config.json, timm.safetensors    the same network for timm, where timm's own parts make it up
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm

from transmooth import files
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.hub import checked
from transmooth.loading import hub
from transmooth.publishing.model_card import NEEDED, Origin, model_card

# timm's name of a norm and its groups.  It has no other groups by name, and no instance norm with weights.
TIMM_NORMS = {
    ("own", 1): {},
    ("batch", 1): {"norm_layer": "batchnorm2d"},
    ("layer", 1): {"norm_layer": "groupnorm1"},
    ("group", 32): {"norm_layer": "groupnorm"},
}
TIMM_FILES = ("config.json", "timm.safetensors")
UNTOLD = Origin()


def publish(
    folder: Path,
    repository: str,
    records: Sequence[Path] = (),
    origin: Origin = UNTOLD,
    *,
    private: bool = False,
) -> str:
    """Upload the checkpoint `folder` to OWNER/NAME on a hub, made if need be, and return `hf-hub:OWNER/NAME@COMMIT`.

    records: of its certification, for the model card, which takes the place of one that is there.  Raises as `write`
    and `hub.upload`.
    """
    with tempfile.TemporaryDirectory(prefix="transmooth-") as temporary:
        out = Path(temporary, "out")
        write(folder, repository, out, records, origin)
        return hub.upload(out, repository, private=private, obsolete=TIMM_FILES)


def write(folder: Path, repository: str, out: Path, records: Sequence[Path] = (), origin: Origin = UNTOLD) -> None:
    """Write the folder `out`, which is what `publish` uploads.  It appears complete or not at all.

    Raises CheckpointError if the checkpoint is damaged or transmooth did not train it.  Raises ValueError if the name
    is no repository's or the records are of other weights, and FileExistsError if `out` is there.
    """
    checked(repository)
    if out.exists():
        raise FileExistsError(f"{out}: is there already; remove it or choose another --out")
    network, card = weights.load(folder)
    if "denoiser" in card:
        raise CheckpointError(f"{folder}: was trained behind a denoiser, without which its users would be misled")
    if lacking := NEEDED - card.keys():
        raise CheckpointError(
            f"{folder / 'model.json'}: should be of a training by transmooth; it lacks {', '.join(sorted(lacking))}"
        )
    try:
        config = timm_config(card)
        text = model_card(repository, card, records, origin, for_timm=config is not None)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder / 'model.json'}: holds values that no training writes: {type(error).__name__}: {error}"
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as temporary:
        made = Path(temporary, out.name)
        made.mkdir()
        files.write_text(made / "README.md", text)
        for name in hub.FETCHED:
            shutil.copyfile(folder / name, made / name)
        if config is not None:
            files.write_text(made / "config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")
            tensors = {name: tensor.contiguous() for name, tensor in network.backbone.state_dict().items()}
            files.write_bytes(made / "timm.safetensors", safetensors.torch.save(tensors))
        made.rename(out)


def timm_config(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """config.json, by which timm builds the network and finds its weights; None where it cannot.

    It cannot where the stem was changed, the norm is none of timm's, or images are resized inside.
    """
    network = card["network"]
    norm = TIMM_NORMS.get((network["norm"], network["groups"]))
    if norm is None or network["stem"] != "imagenet" or network.get("size") is not None:
        return None
    arguments = {"num_classes": len(card["classes"]), **norm, **network["options"]}
    model = timm.create_model(network["name"], **arguments)
    # timm's own writer would add the licence and the origin of the weights that timm has for this name.
    return {
        "architecture": model.pretrained_cfg["architecture"],
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "label_names": card["classes"],
        "model_args": arguments,
        "pretrained_cfg": {
            "hf_hub_filename": "timm.safetensors",
            "num_classes": model.num_classes,
            "input_size": [3, card["size"], card["size"]],
            "mean": card["mean"],
            "std": card["std"],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "first_conv": model.pretrained_cfg["first_conv"],
            "classifier": model.pretrained_cfg["classifier"],
        },
    }
