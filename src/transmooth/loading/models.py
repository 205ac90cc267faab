"""Anyone's model, by one line of text.

A checkpoint folder of transmooth; `hf-hub:OWNER/NAME[@REVISION]`, such a folder on a hub; `timm:NAME@FILE` with its
weights in .safetensors or of torch.save; a TorchScript file (.pt or .ts); a torch.export file (.pt2);
`package.module:function`, which returns a module. All take images in [0, 1]: timm's get a normalisation, the others
have their own inside.

Nothing is executed but TorchScript and export programs and the function that was named. Load none from a stranger.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
from torch import Tensor, nn

from transmooth import files
from transmooth.data.listing import out_of_order
from transmooth.loading import hub
from transmooth.loading.denoisers import behind, finetuned_at, load_classifier, load_denoiser
from transmooth.loading.functions import call, hash_of, hash_of_call
from transmooth.loading.images import ImageSet
from transmooth.loading.programs import PROGRAMS
from transmooth.loading.state import Containers, HoldsAnotherError, State, find_state, read_containers
from transmooth.models.build import Network
from transmooth.models.build import resize as resize_to
from transmooth.models.denoiser import Denoised
from transmooth.specs import NetworkSpec


@dataclass(frozen=True)
class LoadedModel:
    """A base classifier in eval mode: images [B, 3, H, W] in [0, 1] → logits.

    sha256: of its weights, or of the file that holds them. architecture: what they are weights of: timm's name, the
    function, `checkpoint` or `program`. classes: their names, where the checkpoint knows them. finetuned_at: the sigmas
    that it was finetuned for behind a denoiser; None where any will do. notes: what should be known of how it was read.
    """

    module: nn.Module
    description: str
    sha256: str
    architecture: str
    classes: tuple[str, ...] | None = None
    finetuned_at: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

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
        """What tells this model from others, for JSON: wherever the file of its weights is."""
        identity: dict[str, Any] = {"architecture": self.architecture, "sha256": self.sha256}
        classifier = self.module.classifier if isinstance(self.module, Denoised) else self.module
        if isinstance(classifier, Resized):
            identity |= {"resize": classifier.size}
            classifier = classifier.module
        if isinstance(classifier, Network):
            identity |= {"mean": classifier.mean.flatten().tolist(), "std": classifier.std.flatten().tolist()}
        return identity


def load_model(
    text: str, denoiser: str | None = None, resize: int | None = None, arguments: "TimmArguments | None" = None
) -> LoadedModel:
    """The model that `text` names (see above), on the CPU, behind a denoiser where there is one.

    denoiser: see `loading.denoisers`; a checkpoint that was trained behind one finds it by itself.  resize: the side of
    the images that the model gets, after the denoiser; a checkpoint of transmooth knows its own.  arguments: of timm.
    Raises ValueError or FileNotFoundError, naming the file, for one that is missing, of another kind, or does not fit;
    transmooth.hub.HubError where the hub cannot be reached or refuses.
    """
    path, name, arguments = Path(text), text, arguments or TimmArguments()
    if text.startswith(hub.PREFIX):
        _, _, path, name = hub.load(text)
    if path.is_dir():
        if resize is not None or arguments != TimmArguments():
            raise ValueError(
                f"{text}: its card says what images are resized to and normalised by; resize, mean, std and options "
                "are for other models"
            )
        module, card, sha256 = load_classifier(path, denoiser)
        return LoadedModel(module, name, sha256, "checkpoint", tuple(card["classes"]), finetuned_at(card))
    loaded = _load(text, path, arguments)
    if resize is not None:
        resized = Resized(loaded.module, resize).eval()
        loaded = replace(loaded, module=resized, description=f"{text} at {resize}")
    if denoiser is None:
        return loaded
    cleaner = load_denoiser(denoiser)
    module = Denoised(cleaner.module, loaded.module).eval()
    description = f"{loaded.description} behind {cleaner.text}"
    return replace(loaded, module=module, description=description, sha256=behind(cleaner, loaded.sha256))


class Resized(nn.Module):
    """A module after a change of the images' side."""

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, images: Tensor) -> Tensor:
        return self.module(resize_to(images, self.size))  # type: ignore[no-any-return]


def _load(text: str, path: Path, arguments: "TimmArguments") -> LoadedModel:
    """The model of a text that names no checkpoint of transmooth."""
    if text.startswith("timm:"):
        return _timm(text, arguments)
    if arguments != TimmArguments():
        raise ValueError(f"{text}: mean, std and options are for timm:NAME@FILE; other models have theirs inside")
    if path.suffix in PROGRAMS:
        module = _read(path, PROGRAMS[path.suffix])
        return LoadedModel(module, text, files.sha256(path), "program")
    if re.fullmatch(r"[\w.]+:\w+", text):
        module = call(text)
        return LoadedModel(module, text, hash_of_call(text, module), text)
    if path.is_file():
        raise ValueError(
            f"{text}: is no network by itself; where it holds weights of one of timm, that is timm:NAME@{text}, any "
            "other is a function of yours that loads them, package.module:function"
        )
    raise ValueError(
        f"no model {text!r}: a model is a checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@FILE, a file ending in "
        f"{', '.join(PROGRAMS)}, or package.module:function"
    )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        return reader(path)
    except HoldsAnotherError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # each format raises its own kinds for a file that is not one
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path}: not readable as what its name says ({reader.__name__[1:]}): {reason}") from error


@dataclass(frozen=True)
class TimmArguments:
    """What a network of timm is made with, where its file and timm do not say it, or say it wrong.

    mean, std: per channel, of images in [0, 1].  options: keywords of timm's model, such as img_size.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def _timm(text: str, arguments: TimmArguments) -> LoadedModel:
    """NAME with the classes, channels and image side that its weights have, behind a normalisation.

    Mean and std are those of the arguments, else those that stand beside the weights, else of timm's config.json in the
    same folder, else, which is said, timm's own for NAME.
    """
    match = re.fullmatch(r"timm:([^@]+)@(.+)", text)
    if not match:
        raise ValueError(f"a timm model is timm:NAME@FILE, with its weights in .safetensors or .pth, got {text!r}")
    name, path = match[1], Path(match[2])
    containers = _read(path, _weights)
    options = dict(arguments.options)
    if own := options.keys() & inspect.signature(timm.create_model).parameters.keys():
        raise ValueError(f"options.{min(own)}: is not of a network, but of how timm makes one")
    try:
        first = timm.create_model(name, **options)
        network_state = first.state_dict()
        state = find_state(containers, list(network_state))
        for key, tensor in state.weights.items():
            if network_state[key].is_floating_point() and not tensor.is_floating_point():
                raise ValueError(f"its {key!r} is of {tensor.dtype}, not of floats, as of a network that was quantised")
        options = _shapes(first, state.weights) | options
        model = timm.create_model(name, **options)
        model.load_state_dict(state.weights)
    except ValueError as error:
        raise ValueError(f"{path}: does not fit timm's {name}: {error}") from error
    except (RuntimeError, LookupError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: does not fit timm's {name}: {reason}") from error
    channels = options.get("in_chans", 3)
    try:
        mean, std, note = _normalisation(arguments, state, path, name, model.pretrained_cfg, channels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    network = Network(model, mean, std).eval()
    kept = {key: value for key, value in options.items() if key != "num_classes"}
    network.spec = NetworkSpec(name=name, stem="imagenet", norm="own", groups=1, options=kept)
    notes = tuple(f"{path}: {each}" for each in (*state.notes, *note))
    # An index of weights in several files is none of them.
    sha256 = hash_of(network) if path.suffix == ".json" else files.sha256(path)
    return LoadedModel(network, text, sha256, f"timm:{name}", notes=notes)


def _weights(path: Path) -> Containers:
    return read_containers(path)


def _shapes(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the keywords of timm's model that weights tell by their shapes, where they are not the usual ones."""

    def one(key: str) -> str | None:
        named = model.pretrained_cfg.get(key)
        return named if named is None or isinstance(named, str) else named[0]

    keywords: dict[str, Any] = {}
    head, stem, place = (one("classifier"), one("first_conv"), weights.get("pos_embed"))
    if head and f"{head}.weight" in weights:
        keywords["num_classes"] = weights[f"{head}.weight"].shape[0]
    if stem and f"{stem}.weight" in weights and (channels := weights[f"{stem}.weight"].shape[1]) in (1, 2, 4):
        keywords["in_chans"] = channels
    patches = getattr(model, "patch_embed", None)
    if place is not None and patches is not None and place.ndim == 3 and place.shape != model.pos_embed.shape:
        others = model.pos_embed.shape[1] - patches.num_patches  # class token and registers
        side = math.isqrt(max(place.shape[1] - others, 0))
        if side and side**2 == place.shape[1] - others:
            keywords["img_size"] = side * patches.patch_size[0]
    return keywords


def _normalisation(
    arguments: TimmArguments, state: State, path: Path, name: str, config: Mapping[str, Any], channels: int
) -> tuple[Sequence[float], Sequence[float], list[str]]:
    """Return mean and std for `channels`, and a note where they were assumed."""
    card = _card_beside(path)
    sides: dict[str, tuple[Sequence[float], bool]] = {}
    for key in ("mean", "std"):
        given = getattr(arguments, key)
        if given is not None and len(given) != channels:
            raise ValueError(f"{key}: should have a number for each channel, {channels}, found {len(given)}")
        known = given or getattr(state, key) or card.get(key)
        values = known or config[key]
        if len(values) != channels:  # of colour, for a network of grey images
            values = [sum(values) / len(values)] * channels
        sides[key] = values, known is None
    mean, std = sides["mean"][0], sides["std"][0]
    if not all(0 < each < math.inf for each in std) or not all(0 <= each <= 1 for each in mean):
        scaled = "; those of images in [0, 255] become such by / 255" if max(mean) > 1 else ""
        raise ValueError(
            f"mean and std: should be of images in [0, 1], std above 0, found {list(mean)} and {list(std)}{scaled}"
        )
    assumed = [key for key, (_, is_assumed) in sides.items() if is_assumed]
    if not assumed:
        return mean, std, []
    shown = " and ".join(f"{key} {','.join(f'{each:g}' for each in sides[key][0])}" for key in assumed)
    verb, them = ("are", "them") if len(assumed) == 2 else ("is", "it")
    return mean, std, [f"{shown} {verb} assumed, as timm has {them} for {name}; --mean and --std say others"]


def _card_beside(path: Path) -> dict[str, Any]:
    """Return what timm's config.json in the folder of the weights says of images; nothing where there is none."""
    try:
        config = files.read_json(path.parent / "config.json", "a configuration")
        found = config.get("pretrained_cfg", config)
        return {key: [float(each) for each in found[key]] for key in ("mean", "std") if key in found}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def match_classes(model: LoadedModel, outputs: int, images: ImageSet, classes: Sequence[str] | None = None) -> ImageSet:
    """Return the images with labels that are numbers of the model's outputs.

    classes: the names of the outputs, in their order, else those that the checkpoint knows: then classes are matched by
    name, and the images may be of some only.  Without names their number must be that of the outputs, folders without
    images aside; images of fewer classes, whose names are numbers of outputs, are matched by these.  Raises ValueError
    otherwise.
    """
    names = tuple(classes) if classes is not None else model.classes
    if not images.classes:
        return images
    if names is not None:
        if len(names) != outputs:
            raise ValueError(f"{model.description} has {outputs} classes, {len(names)} names of classes were given")
        if names == images.classes:
            return images
        if lacking := [name for name in images.classes if name not in names]:
            raise ValueError(
                f"{model.description}: its classes are not those of {images.description}: "
                f"it has no {', '.join(map(repr, lacking[:5]))}" + ", …" * (len(lacking) > 5)
            )
        return images.among(names, f"{len(images.classes)} of the {outputs} classes, matched by their names")
    there = [images.classes[label] for label in np.unique(images.labels)]
    if outputs == len(images.classes):
        if not out_of_order(_numbers_in(images.classes)):
            return images
        return images.noted(
            f"the classes are numbered in the order of text, as torchvision does: {', '.join(images.classes[:4])}, …; "
            "--classes FILE gives another order"
        )
    if outputs == len(there):
        empty = ", ".join(name for name in images.classes if name not in there)
        return images.without_empty(f"{empty}: without images, and no class of {model.description}")
    spelled = {int(name): name for name in images.classes if name.isascii() and name.isdigit()}
    if len(spelled) == len(images.classes) and max(spelled) < outputs:
        by_number = [spelled.get(number, str(number)) for number in range(outputs)]
        return images.among(
            by_number, f"{len(there)} of the {outputs} classes, matched by the numbers that they are called"
        )
    raise ValueError(
        f"{model.description} has {outputs} classes, {images.description} has {len(images.classes)}: "
        f"{', '.join(images.classes[:5])}, …; --classes FILE names those of the network, one a line, to match them"
    )


def _numbers_in(classes: Sequence[str]) -> list[str]:
    """Return the numbers of classes that are called by one, alike but for it, such as class_10; else none."""
    parts = [re.fullmatch(r"(\D*)(\d+)(\D*)", name, re.ASCII) for name in classes]
    known = [match for match in parts if match]
    alike = len(known) == len(parts) and len({match.group(1, 3) for match in known}) == 1
    return [match[2] for match in known] if alike else []
