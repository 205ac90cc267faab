"""The weights in anyone's file, under whatever names a training script gave them.

A file holds containers (dicts of tensors, in dicts), and a container the weights of a network, each behind one prefix:
`state_dict` and `1.module.` in locuslab's checkpoints, `net` and `module.` in the CIFAR tutorial's, `state_dict` and
`model.` in lightning's, `_orig_mod.` of torch.compile.  Which prefix is found by the names that the network has.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from transmooth import files

Containers = Mapping[str, Mapping[str, Tensor]]

# Parts of names that wrappers add anywhere: DataParallel, torch.compile, FSDP, DeepSpeed.
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module"))
AVERAGED = re.compile(r"(^|[._-])(ema|ema_model|model_ema|shadow|averaged?|swa)([._-]|$)")
MEANS = frozenset(("mean", "means", "mu", "pixel_mean", "image_mean"))
DEVIATIONS = frozenset(("std", "stds", "sd", "sds", "sigma", "sigmas", "pixel_std", "image_std"))
LISTED = frozenset(name for name in MEANS | DEVIATIONS if "mean" in name or "std" in name)  # sigmas may be of noise
PLAIN = frozenset(("complex", "dict", "float", "int", "list", "object", "range", "slice", "str", "tuple"))
FIRST = 4  # names that a message shows


@dataclass(frozen=True)
class State:
    """The weights of a network by its own names, and the mean and std per channel that stand beside them, if any.

    notes: what was left out or chosen.
    """

    weights: Mapping[str, Tensor]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    notes: tuple[str, ...]


class HoldsAnotherError(ValueError):
    """A file that can be read and holds something else than its name says, and what to do with it."""


class Inert(dict[Any, Any]):
    """What stands in for an object of a class that is not loaded, such as the argparse.Namespace of a script."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep attributes, of which a module is known; other states, such as an array's, are nothing here."""
        if isinstance(state, Mapping):
            vars(self).update(state)


# torch fills no others than plain ones.
CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "collections.defaultdict": lambda *_: {},
    "collections.deque": lambda *_: [],
}


def read_containers(path: Path) -> Containers:
    """Return the tensors of a file, by container and name; the outermost container is ''.

    A file is taken for what it is, whatever it is called: safetensors, the index.json of several, or of torch.save.  Of
    the latter only tensors and plain values are made; objects of classes become empty.  Raises ValueError where that
    cannot be done, or where there are no tensors.
    """
    with path.open("rb") as file:
        start = file.read(200)
    if start[8:9] == b"{":  # after the length of the header
        if (part := re.search(r"-(\d+)-of-(\d+)$", path.stem)) and int(part[2]) > 1:
            raise HoldsAnotherError(f"is one of {int(part[2])} files; name their index, which ends in .index.json")
        return {"": safetensors.torch.load_file(path)}
    if start[:1] == b"{":
        return {"": _shards(path)}
    if fault := _no_weights(path, start):
        raise HoldsAnotherError(fault)
    content = _load(path)
    containers: dict[str, dict[str, Tensor]] = {}
    _collect(content, "", containers)
    if not containers and (pickled := next(iter(_modules(content)), None)):
        raise HoldsAnotherError(
            f"holds a pickled module ({pickled}), which is code and not loaded; where it was made, "
            "torch.save(model.state_dict(), FILE) writes its weights alone"
        )
    if not containers:
        raise HoldsAnotherError(f"holds no weights, but {type(content).__name__}{_first(content)}")
    return containers


def _shards(path: Path) -> dict[str, Tensor]:
    """Return the weights of all the files that an index names, which lie beside it."""
    try:
        shards = sorted({Path(name).name for name in files.read_json(path, "an index")["weight_map"].values()})
    except (ValueError, LookupError, TypeError, AttributeError):
        raise HoldsAnotherError("is no index of safetensors: it should have a weight_map") from None
    if lacking := [name for name in shards if not (path.parent / name).is_file()]:
        raise HoldsAnotherError(f"names {len(shards)} files, of which {lacking[0]} is not there")
    return {key: value for name in shards for key, value in safetensors.torch.load_file(path.parent / name).items()}


def _no_weights(path: Path, start: bytes) -> str | None:
    """What a file is that torch.save did not write, from how it starts; None where it may have."""
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file; `git lfs pull` fetches it"
    if start.lstrip()[:1] == b"<":
        return "is a page of the web, not the file that was to be downloaded"
    if start.startswith(b"\x1f\x8b"):
        return "is packed by gzip; unpack it first"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2] for name in archive.namelist()}
        if "constants.pkl" in members:
            return f"is a program of torch.jit, a network of its own: call it {path.stem}.ts, and name it without timm:"
        if "data.pkl" not in members:
            return "is a zip archive, but not of torch.save"
    return None


def _load(path: Path) -> Any:
    """Return what torch.save wrote, with Inert objects for those of classes."""
    names = ["argparse.Namespace"]
    while True:
        stand_ins: list[Any] = [(_stand_in(name), name) for name in names]
        try:
            with torch.serialization.safe_globals(stand_ins), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            unknown = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
            if unknown and unknown[1] in PLAIN and f"builtins.{unknown[1]}" not in names:
                names.append(f"builtins.{unknown[1]}")
                continue
            if unknown and unknown[1] in names:  # a function of Python itself
                raise HoldsAnotherError(
                    f"holds code ({unknown[1]}), which is not run; save the weights alone"
                ) from error
            if not unknown:
                reason = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
                raise HoldsAnotherError(
                    "holds no weights, or beside them what is not read"
                    f"{f' ({reason[1]})' if reason else ''}; where it was made, "
                    "torch.save(model.state_dict(), FILE) writes the weights alone"
                ) from error
            names.append(unknown[1])
        except (LookupError, EOFError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise HoldsAnotherError(f"is not what torch.save writes: {type(error).__name__}: {error}") from error


def _stand_in(name: str) -> Callable[..., Any]:
    """Return what makes the object that stands in for one of a class."""
    if name in CONTAINERS:
        return CONTAINERS[name]
    module, _, own = name.rpartition(".")
    return type(own, (Inert,), {"__module__": module})


def _collect(content: Any, name: str, containers: dict[str, dict[str, Tensor]]) -> None:
    """Add the tensors in a dict or list, and in those within it.  A mean or std may be a list of numbers."""
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return
    if isinstance(content, Inert):  # of attributes no more than a mean and std: objects may hold each other
        content = {**content, **{key: value for key, value in vars(content).items() if _are_numbers(value)}}
    tensors = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif _last(str(key)) in LISTED and _are_numbers(value):
            tensors[str(key)] = torch.tensor(value, dtype=torch.float32)
        else:
            _collect(value, f"{name}.{key}" if name else str(key), containers)
    if tensors:
        containers[name] = tensors


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(type(each) in (int, float) for each in value)


def _modules(content: Any) -> Iterable[str]:
    """Give the classes of the modules that stand, inert, in a file."""
    for value in content.values() if type(content) is dict else [content]:
        if isinstance(value, Inert) and "_modules" in vars(value):
            yield f"{type(value).__module__}.{type(value).__name__}"


def _first(names: Any) -> str:
    """The first names, to be shown in a message."""
    if not isinstance(names, Mapping) or not names:
        return ""
    return f" with {', '.join(map(repr, list(names)[:FIRST]))}" + ", …" * (len(names) > FIRST)


def find_state(containers: Containers, names: Sequence[str], channels: int = 3) -> State:
    """Return the weights of the network whose state has these names.

    Of two copies the running average (EMA) is taken, as timm does.  channels: how many values a mean has, unless it has
    one.  Raises ValueError, naming what the file holds, where no container has all of them, several have, or one has
    others behind the same prefix.
    """
    wanted = {_plain(name): name for name in names if not name.endswith("num_batches_tracked")}
    found = [
        (container, prefix)
        for container, tensors in containers.items()
        for prefix in _prefixes(set(map(_plain, tensors)), wanted)
    ]
    if not found:
        lacking = {name: _lacking(name, tensors, wanted) for name, tensors in containers.items()}
        raise ValueError(min(lacking.values(), key=lambda each: each[0])[1])
    (container, prefix), notes = _chosen(containers, found, wanted)
    notes += [
        f"passed over a running average (EMA): {_lacking(name, tensors, wanted)[1]}"
        for name, tensors in containers.items()
        if AVERAGED.search(name.lower()) and name not in dict(found) and 2 * len(tensors) > len(wanted)
    ]
    plain: dict[str, Tensor] = {}
    for name, tensor in containers[container].items():
        if (other := plain.setdefault(_plain(name), tensor)) is not tensor and not torch.equal(other, tensor):
            raise ValueError(f"holds several networks: of {_plain(name)!r} there are two")
    state = {}
    for name in names:
        if (key := prefix + _plain(name)) in plain:
            state[name] = plain.pop(key)
    mean, std = _normalisation(plain, channels)
    named = MEANS | DEVIATIONS if mean else frozenset()
    rest = [name for name, tensor in plain.items() if tensor.numel() > 1 and _last(name) not in named]
    if strange := [name for name in rest if name.startswith(prefix) and _last(name) not in MEANS | DEVIATIONS]:
        raise ValueError(f"has weights that the network has not: {', '.join(map(repr, strange[:FIRST]))}")
    others = tuple(other for place, other in found if (place, other) != (container, prefix) and place == container)
    if rest := [name for name in rest if not name.startswith(others)]:
        notes.append(f"left out, beside the network: {', '.join(rest[:FIRST])}" + ", …" * (len(rest) > FIRST))
    if mean is None:
        mean, std = _normalisation(_outside(containers, container), channels)
        if mean is not None and std is not None:
            shown = f"mean {','.join(f'{each:g}' for each in mean)} and std {','.join(f'{each:g}' for each in std)}"
            notes.append(f"took {shown}, which stand in the file")
    return State(state, mean, std, tuple(notes))


def _outside(containers: Containers, container: str) -> dict[str, Tensor]:
    """The tensors that may be a mean and std, of images in [0, 1], in other containers than the network's."""
    return {
        f"{place}.{name}": tensor
        for place, tensors in containers.items()
        if place != container
        for name, tensor in tensors.items()
        if _last(name) in LISTED and tensor.numel() > 1 and tensor.min() >= 0 and tensor.max() <= 1
    }


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _last(name: str) -> str:
    return name.rpartition(".")[2].strip("_").lower()


def _prefixes(there: set[str], wanted: Mapping[str, str]) -> list[str]:
    """Return the prefixes behind which all wanted names are."""
    longest = max(wanted, key=len)
    behind = [name.removesuffix(longest) for name in there if f".{name}".endswith(f".{longest}")]
    return sorted(prefix for prefix in behind if all(prefix + name in there for name in wanted))


def _chosen(
    containers: Containers, found: Sequence[tuple[str, str]], wanted: Mapping[str, str]
) -> tuple[tuple[str, str], list[str]]:
    """Return the container and prefix to take, and what should be said of the choice."""
    averaged = [each for each in found if AVERAGED.search(".".join(each).strip(".").lower())]
    plain = [each for each in found if each not in averaged]
    for candidates in (averaged, plain):
        if len(candidates) > 1 and not all(_equal(containers, candidates[0], each, wanted) for each in candidates[1:]):
            shown = ", ".join(_shown(each) for each in candidates)
            raise ValueError(f"holds several networks, {shown}: save the weights of one of them alone")
    if not averaged:
        return plain[0], []
    if not plain:
        return averaged[0], []
    return averaged[0], [f"took the running average (EMA) {_shown(averaged[0])}, not {_shown(plain[0])}"]


def _shown(place: tuple[str, str]) -> str:
    return repr(".".join(part for part in (place[0], place[1].strip(".")) if part) or "the outermost")


def _equal(containers: Containers, one: tuple[str, str], other: tuple[str, str], wanted: Mapping[str, str]) -> bool:
    first, second = ({_plain(k): v for k, v in containers[each[0]].items()} for each in (one, other))
    return all(torch.equal(first[one[1] + name], second[other[1] + name]) for name in wanted)


def _normalisation(
    rest: Mapping[str, Tensor], channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and std per channel of the one pair that stands beside the weights."""
    sides: list[list[tuple[float, ...]]] = [[], []]
    for side, words in zip(sides, (MEANS, DEVIATIONS), strict=True):
        for name, tensor in rest.items():
            if _last(name) in words and tensor.numel() in (1, channels):
                side.append(tuple(tensor.flatten().float().tolist()))
    means, deviations = sides
    if len(set(means)) != 1 or len(set(deviations)) != 1:
        return None, None
    scale = 255 if max(means[0]) > 1 else 1  # of images in [0, 255]
    return tuple(each / scale for each in means[0]), tuple(each / scale for each in deviations[0])


def _lacking(name: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, str]) -> tuple[int, str]:
    """Return how many names a container has not, and a text that says which, and what it has instead."""
    ends = {end for each in map(_plain, tensors) for end in _ends(each)}
    missing = [name for name in wanted if name not in ends]
    where = f"its {name!r}" if name else "it"
    lacks = (
        f"lacks {len(missing)} of {len(wanted)}, such as {missing[0]!r}" if missing else "has them behind no one prefix"
    )
    return len(missing), f"{where} {lacks}; there are {len(tensors)} tensors{_first(tensors)}"


def _ends(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))
