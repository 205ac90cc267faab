"""Anyone's model, by one line of text.

A checkpoint folder of transmooth; `hf-hub:OWNER/NAME[@REVISION]`, such a folder on a hub; `timm:NAME@FILE` with weights
in .safetensors or .pth; a TorchScript file (.pt or .ts); a torch.export file (.pt2); `package.module:function`, which
returns a module. All take images in [0, 1]: timm's get timm's normalisation, the others have their own inside.

Nothing is executed but TorchScript and export programs and the function that was named. Load none from a stranger.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from transmooth import files
from transmooth.loading import hub
from transmooth.loading.denoisers import behind, finetuned_at, load_classifier, load_denoiser
from transmooth.loading.functions import call, hash_of
from transmooth.loading.images import ImageSet
from transmooth.loading.programs import PROGRAMS
from transmooth.models.build import Network
from transmooth.models.build import resize as resize_to
from transmooth.models.denoiser import Denoised


@dataclass(frozen=True)
class LoadedModel:
    """A base classifier in eval mode: images [B, 3, H, W] in [0, 1] → logits.

    sha256: of its weights, or of the file that holds them. classes: their names, where the checkpoint knows them.
    finetuned_at: the sigmas that it was finetuned for behind a denoiser; None where any will do.
    """

    module: nn.Module
    description: str
    sha256: str
    classes: tuple[str, ...] | None = None
    finetuned_at: tuple[float, ...] | None = None

    def check(self, sigma: float, size: int) -> None:
        """Raise ValueError for a sigma, or a side of images, that it cannot be smoothed at.

        At each sigma a denoiser leaves other images: finetuned for one, a network knows nothing of another one's.
        """
        if self.finetuned_at is not None and sigma not in self.finetuned_at:
            trained = ", ".join(f"{each:g}" for each in self.finetuned_at)
            raise ValueError(f"{self.description}: was finetuned behind a denoiser for sigma {trained}, not {sigma:g}")
        if isinstance(self.module, Denoised):
            self.module.check(sigma, size)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this model from others, for JSON: the same weights may stand under another name or mean."""
        identity: dict[str, Any] = {"model": self.description, "sha256": self.sha256}
        classifier = self.module.classifier if isinstance(self.module, Denoised) else self.module
        classifier = classifier.module if isinstance(classifier, Resized) else classifier
        if isinstance(classifier, Network):
            identity |= {"mean": classifier.mean.flatten().tolist(), "std": classifier.std.flatten().tolist()}
        return identity


def load_model(text: str, denoiser: str | None = None, resize: int | None = None) -> LoadedModel:
    """The model that `text` names (see above), on the CPU, behind a denoiser where there is one.

    denoiser: see `loading.denoisers`; a checkpoint that was trained behind one finds it by itself.  resize: the side of
    the images that the model gets, after the denoiser; a checkpoint of transmooth knows its own.
    Raises ValueError or FileNotFoundError, naming the file, for one that is missing, of another kind, or does not fit;
    transmooth.hub.HubError where the hub cannot be reached or refuses.
    """
    path, name = Path(text), text
    if text.startswith(hub.PREFIX):
        _, _, path, name = hub.load(text)
    if path.is_dir():
        if resize is not None:
            raise ValueError(f"{text}: its card says what images are resized to; resize is for other models")
        module, card, sha256 = load_classifier(path, denoiser)
        return LoadedModel(module, name, sha256, tuple(card["classes"]), finetuned_at(card))
    loaded = _load(text, path)
    if resize is not None:
        loaded = LoadedModel(Resized(loaded.module, resize).eval(), f"{text} at {resize}", loaded.sha256)
    if denoiser is None:
        return loaded
    cleaner = load_denoiser(denoiser)
    module = Denoised(cleaner.module, loaded.module).eval()
    return LoadedModel(module, f"{loaded.description} behind {cleaner.text}", behind(cleaner, loaded.sha256))


class Resized(nn.Module):
    """A module after a change of the images' side."""

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, images: Tensor) -> Tensor:
        return self.module(resize_to(images, self.size))  # type: ignore[no-any-return]


def _load(text: str, path: Path) -> LoadedModel:
    """The model of a text that names no checkpoint of transmooth."""
    if text.startswith("timm:"):
        return _timm(text)
    if path.suffix in PROGRAMS:
        module = _read(path, PROGRAMS[path.suffix])
        return LoadedModel(module, text, files.sha256(path))
    if re.fullmatch(r"[\w.]+:\w+", text):
        module = call(text)
        return LoadedModel(module, text, hash_of(module))
    raise ValueError(
        f"no model {text!r}: a model is a checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@FILE, a file ending in "
        f"{', '.join(PROGRAMS)}, or package.module:function"
    )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return reader(path)
    except Exception as error:  # each format raises its own kinds for a file that is not one
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path}: not readable as what its name says ({reader.__name__[1:]}): {reason}") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def _weights(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):  # a training script's checkpoint
        state = state.get(key, state)
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _timm(text: str) -> LoadedModel:
    """NAME with as many classes as its weights have, and timm's mean and std for NAME before it."""
    match = re.fullmatch(r"timm:([^@]+)@(.+)", text)
    if not match:
        raise ValueError(f"a timm model is timm:NAME@FILE, with its weights in .safetensors or .pth, got {text!r}")
    name, path = match[1], Path(match[2])
    state = _read(path, _safetensors if path.suffix == ".safetensors" else _weights)
    try:
        model = timm.create_model(name)
        if head := model.pretrained_cfg.get("classifier"):
            first = head if isinstance(head, str) else head[0]
            classes = state[f"{first}.weight"].shape[0]
            model = timm.create_model(name, num_classes=classes)
        model.load_state_dict(state)
    except (RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: does not fit timm's {name}: {reason}") from error
    config = model.pretrained_cfg
    return LoadedModel(Network(model, config["mean"], config["std"]).eval(), text, files.sha256(path))


def check_classes(model: LoadedModel, outputs: int, images: ImageSet) -> None:
    """Raise ValueError unless the model's classes are those of the images: by name where known, else by number."""
    if model.classes is not None and model.classes != images.classes:
        raise ValueError(f"{model.description}: its classes are not those of {images.description}")
    if outputs != len(images.classes):
        raise ValueError(
            f"{model.description} has {outputs} classes, {images.description} has {len(images.classes)}: "
            f"{', '.join(images.classes[:5])}, …"
        )
