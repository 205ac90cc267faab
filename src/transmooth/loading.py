"""Anyone's model and images, by one line of text each.

Models: a checkpoint folder of transmooth; `hf-hub:OWNER/NAME[@REVISION]`, such a folder on a hub; `timm:NAME@FILE` with
weights in .safetensors or .pth; a TorchScript file (.pt or .ts); a torch.export file (.pt2); `package.module:function`,
which returns a module. All take images in [0, 1]: timm's get timm's normalisation, the others have their own inside.

Images: a prepared folder; a folder of images, one folder per class, below <split>/ or not; the name of a torchvision
dataset, `CIFAR10` or `CIFAR10@ROOT`.

Nothing is executed but TorchScript and export programs and the function that was named. An export program is code as
much as the function is: pickled and compiled code in a .pt2 is refused, but torch evaluates the Python expressions
that it holds about sizes. Load none from a stranger.
"""

import hashlib
import importlib
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.export.pt2_archive.constants import AOTINDUCTOR_DIR, OPAQUE_OBJ_FILENAME_PREFIX

from transmooth import files, hub
from transmooth.checkpoint import weights
from transmooth.data import open_split, verify
from transmooth.data.picture import to_rgb, to_square
from transmooth.data.sources import open_source
from transmooth.data.sources.imagefolder import image_files
from transmooth.models import Network


@dataclass(frozen=True)
class LoadedModel:
    """A base classifier in eval mode: images [B, 3, H, W] in [0, 1] → logits.

    sha256: of its weights, or of the file that holds them. classes: their names, where the checkpoint knows them.
    """

    module: nn.Module
    description: str
    sha256: str
    classes: tuple[str, ...] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this model from others, for JSON: the same weights may stand under another name or mean."""
        identity: dict[str, Any] = {"model": self.description, "sha256": self.sha256}
        if isinstance(self.module, Network):
            identity |= {"mean": self.module.mean.flatten().tolist(), "std": self.module.std.flatten().tolist()}
        return identity


@dataclass(frozen=True)
class ImageSet:
    """Labelled images: `fetch(index)` gives float32 [3, H, W] in [0, 1]; labels int64 [N].

    identity: what tells these images from others, for JSON. A prepared folder has its manifest's checksum, wherever it
    lies; a folder of files has a hash of their paths, sizes and times of change; a torchvision set, one of its labels.
    """

    fetch: Callable[[int], Tensor]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    description: str
    identity: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)


def load_model(text: str) -> LoadedModel:
    """The model that `text` names (see above), on the CPU.

    Raises ValueError or FileNotFoundError, naming the file, for one that is missing, of another kind, or does not fit;
    hub.HubError where the hub cannot be reached or refuses.
    """
    path = Path(text)
    if text.startswith("timm:"):
        return _timm(text)
    if text.startswith(hub.PREFIX):
        network, card, _, name = hub.load(text)
        return LoadedModel(network, name, card["weights_sha256"], tuple(card["classes"]))
    if path.is_dir():
        network, card = weights.load(path)
        return LoadedModel(network, text, card["weights_sha256"], tuple(card["classes"]))
    if path.suffix in PROGRAMS:
        module = _read(path, PROGRAMS[path.suffix])
        return LoadedModel(module, text, files.sha256(path))
    if re.fullmatch(r"[\w.]+:\w+", text):
        return _factory(text)
    raise ValueError(
        f"no model {text!r}: a model is a checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@FILE, a file ending in "
        f"{', '.join(PROGRAMS)}, or package.module:function"
    )


def _script(path: Path) -> nn.Module:
    module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # copies of scripted parameters are no leaves: torch would warn of gradients
    return module.eval()


class _Exported(nn.Module):
    """An exported program.  Its mode was fixed at export: its flags say nothing, and train() and eval() raise."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        for part in self.modules():
            part.training = False

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.program(images)
        return logits

    def train(self, mode: bool = True) -> "_Exported":
        return self


def _exported(path: Path) -> nn.Module:
    # Names without case, as torch looks them up.
    members = [name.lower() for name in torch._C.PyTorchFileReader(str(path)).get_all_records()]
    if any(OPAQUE_OBJ_FILENAME_PREFIX in name for name in members):  # read with plain pickle
        raise ValueError("it holds pickled code")
    if any(AOTINDUCTOR_DIR in name for name in members):
        raise ValueError("it holds compiled code")
    try:
        with _weights_only():
            program = torch.export.load(path)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds pickled code") from error
    return _Exported(program.module())


@contextmanager
def _weights_only() -> Iterator[None]:
    """Every torch.load reads tensors only: torch.export.load else runs what is pickled in inputs and constants."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


PROGRAMS: Mapping[str, Callable[[Path], nn.Module]] = {".pt": _script, ".ts": _script, ".pt2": _exported}


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


def _factory(text: str) -> LoadedModel:
    """package.module:function, found below the working directory too, as with `python -m`.

    Raises ValueError for whatever importing or calling it raises.
    """
    module_name, function = text.split(":")
    sys.path.insert(0, "")
    try:
        module = getattr(importlib.import_module(module_name), function)()
    except Exception as error:  # it is anyone's code
        raise ValueError(f"{text}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    if not isinstance(module, nn.Module):
        raise ValueError(f"{text}: should return a torch.nn.Module, returned {type(module).__name__}")
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return LoadedModel(module.eval(), text, digest.hexdigest())


def load_images(text: str, split: str = "test", size: int | None = None) -> ImageSet:
    """The images that `text` names (see above), resized and cropped to squares of `size` unless it is None.

    A prepared folder has a size of its own, and is compared with its manifest. Raises ValueError or FileNotFoundError
    with what there is instead.
    """
    folder = Path(text)
    if size is not None and size < 1:
        raise ValueError(f"size: should be at least 1 pixel, found {size}")
    if (folder / "manifest.json").is_file():
        checksum = verify(folder, [split])["checksum"]
        prepared = open_split(folder, split)
        if size not in (None, prepared.size):
            raise ValueError(f"{folder} was prepared at size {prepared.size}, not {size}")
        identity = {"split": split, "checksum": checksum}
        return ImageSet(
            lambda index: prepared[index][0], prepared.labels, prepared.classes, f"{text} {split}", identity
        )
    if folder.is_dir():
        inner = _inner(folder, split)
        spec = {"kind": "imagefolder", "root": text, "splits": {"train": [inner], "test": [inner]}}
        part = "test"
    elif match := re.fullmatch(r"(\w+)(?:@(.+))?", text):
        spec = {"kind": "torchvision", "name": match[1], "root": match[2] or "~/datasets"}
        part = split
    else:
        raise FileNotFoundError(f"{text}: no such folder, and no name of a torchvision dataset")
    source = open_source(spec, Path.cwd())
    if part not in source.splits:
        raise ValueError(f"{text} has no split {split!r}; there is: {', '.join(source.splits)}")
    images = source.splits[part]
    first = images.load(0).size

    def fetch(index: int) -> Tensor:
        picture = to_rgb(images.load(index))
        if size is None and picture.size != first:
            raise ValueError(f"{text}: images 0 and {index} differ in size, {first} and {picture.size}: give a size")
        pixels = np.asarray(picture if size is None else to_square(picture, size))
        return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)

    description = f"{text} {split} {size or 'as stored'}"
    identity = {
        "images": description,
        "number": len(images.labels),
        "classes": _digest(source.classes),
        "labels": _digest(images.labels.tolist()),
    }
    if folder.is_dir():
        identity["files"] = _digest(_stats(folder / inner))
    return ImageSet(fetch, images.labels, source.classes, description, identity)


SPLITS = frozenset(("train", "val", "valid", "validation", "test"))


def _inner(folder: Path, split: str) -> str:
    """Where below the folder the classes are. Raises ValueError if there are splits but not this one."""
    if (folder / split).is_dir():
        return split
    if there := sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name in SPLITS):
        raise ValueError(f"{folder} has no split {split!r}; there is: {', '.join(there)}")  # they are no classes
    return "."


def _stats(folder: Path) -> list[tuple[str, int, int]]:
    """(path below the folder, bytes, nanoseconds of the last change) of every image file, sorted."""
    stats = [(Path(path).relative_to(folder).as_posix(), os.stat(path)) for path in image_files(folder)]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _digest(items: Iterable[Any]) -> str:
    return hashlib.sha256(repr(tuple(items)).encode()).hexdigest()


def check_classes(model: LoadedModel, outputs: int, images: ImageSet) -> None:
    """Raise ValueError unless the model's classes are those of the images: by name where known, else by number."""
    if model.classes is not None and model.classes != images.classes:
        raise ValueError(f"{model.description}: its classes are not those of {images.description}")
    if outputs != len(images.classes):
        raise ValueError(
            f"{model.description} has {outputs} classes, {images.description} has {len(images.classes)}: "
            f"{', '.join(images.classes[:5])}, …"
        )
