"""Denoisers that others trained, by one line of text.

A folder of diffusers: config.json, diffusion_pytorch_model.safetensors and scheduler_config.json, or a pipeline's, with
the first two in unet/ and the last in scheduler/.  `diffusers:OWNER/NAME[@REVISION]`: such a folder on a hub.  A U-Net
of OpenAI's, in .pt or .safetensors (see `openai_unet`).  Of none is anything executed.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from transmooth import files, hub
from transmooth.models.denoiser import UNET, Denoiser, of_config
from transmooth.models.openai_unet import convert
from transmooth.specs import NetworkSpec

PREFIX = "diffusers:"
CONFIG, WEIGHTS, SCHEDULER = "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"
FETCHED = (CONFIG, WEIGHTS, SCHEDULER, f"unet/{CONFIG}", f"unet/{WEIGHTS}", f"scheduler/{SCHEDULER}")
# What the betas and the target depend on; the rest is about how images are sampled.
SCHEDULE = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    *("rescale_betas_zero_snr", "prediction_type"),
)
# Names that layers of attention had in the first versions of diffusers.
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# What diffusers and torch raise for configurations and shapes that mean nothing to them.
FAULTS = (LookupError, TypeError, AttributeError, RuntimeError, ValueError, ArithmeticError, NotImplementedError)


@dataclass(frozen=True)
class Published:
    """A denoiser in eval mode.  name: what loads it again, with the commit of a hub; sha256: of the file of weights."""

    module: Denoiser
    name: str
    sha256: str


def load(text: str) -> Published:
    """Return the denoiser that `text` names (see above), on the CPU; `~` in a path is the home folder.

    Raises ValueError or FileNotFoundError, in one line that names the file, if it is missing, of another kind or
    class-conditional, has NaN, or has weights that do not fit; hub.HubError where the hub cannot be reached or refuses.
    """
    if text.startswith(PREFIX):
        folder, name = hub.fetch(text, PREFIX, FETCHED)
        try:
            module, weights = _of_diffusers(folder)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{name}: {str(error).replace(f'{folder}/', '')}") from error
        return Published(module, name, files.sha256(weights))
    path = Path(text).expanduser()
    if path.is_dir():
        module, weights = _of_diffusers(path)
        return Published(module, str(path), files.sha256(weights))
    if path.suffix in (".pt", ".safetensors"):
        return Published(_of_openai(path), str(path), files.sha256(path))
    raise ValueError(
        f"no denoiser {text!r}: a denoiser is a checkpoint folder of one, a folder of diffusers or "
        f"{PREFIX}OWNER/NAME, a .pt file of OpenAI's, or package.module:function"
    )


def source(network: NetworkSpec) -> str:
    """Return what `load` takes for a spec whose weights are published: its option `from`, the only one.

    Raises ValueError, naming the option, for others.
    """
    if unknown := network.options.keys() - {"from"}:
        raise ValueError(f"options.{min(unknown)}: a published {UNET} has `from` alone; its file says the rest")
    text = network.options.get("from")
    if not isinstance(text, str) or not text:
        raise ValueError(
            f"options.from: should name a denoiser: a folder, a file or {PREFIX}OWNER/NAME, found {text!r}"
        )
    return text


def _of_diffusers(folder: Path) -> tuple[Denoiser, Path]:
    """Return the denoiser of a folder, and its file of weights."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config, weights = _config(unet / CONFIG), unet / WEIGHTS
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise ValueError(f"{unet / CONFIG}: should be of a UNet2DModel, is of {kind!r}")
    schedule = _schedule(scheduler / SCHEDULER)
    if not weights.is_file():
        there = sorted(path.name for path in unet.glob("*.bin"))
        raise FileNotFoundError(
            f"{weights}: no such file" + (f"; {there[0]} is a pickle, which is not read" if there else "")
        )
    try:
        tensors = {_renamed(name): tensor for name, tensor in safetensors.torch.load_file(weights).items()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{weights}: not weights: {error}") from error
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    return _filled(options, schedule, 1.0, tensors, weights), weights


def _config(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, "a configuration")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file; a folder of diffusers has {CONFIG}, {WEIGHTS} and {SCHEDULER}"
        ) from None


def _schedule(path: Path) -> dict[str, Any]:
    """Return the keywords of a DDPMScheduler, from the file of any scheduler with betas."""
    config = _config(path)
    if config.get("beta_schedule") is None and config.get("trained_betas") is None:
        raise ValueError(f"{path}: {config.get('_class_name')} has no betas: there is no `beta_schedule`")
    if "timesteps" in config:  # as the first versions of diffusers called it
        config = {"num_train_timesteps": config["timesteps"]} | config
    return {key: config[key] for key in SCHEDULE if config.get(key) is not None}


def _renamed(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    before, _, last = layer.rpartition(".")
    return f"{before}.{RENAMED[last]}.{leaf}" if ".attentions." in name and last in RENAMED else name


def _of_openai(path: Path) -> Denoiser:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: holds more than weights, which is not read, as it could execute") from error
    except Exception as error:  # each format raises its own kinds for a file that is not one
        raise ValueError(f"{path}: not weights: {_one_line(error)}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        found = f"a dict of {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path}: should hold a U-Net as OpenAI's are saved, names and tensors; found {found}")
    try:
        made = convert(state)
    except FAULTS as error:
        raise ValueError(f"{path}: {_one_line(error)}") from error
    return _filled(made.unet, made.schedule, made.timestep_scale, made.weights, path)


def _filled(
    unet: dict[str, Any], schedule: dict[str, Any], timestep_scale: float, weights: Mapping[str, Tensor], path: Path
) -> Denoiser:
    """Return the denoiser of a configuration with these weights, which are those of `path`."""
    try:
        with torch.device("meta"):  # a configuration could ask for any memory
            wanted = {name: tuple(value.shape) for name, value in of_config(unet, schedule).unet.state_dict().items()}
        if wrong := sorted(_differing(wanted, {name: tuple(value.shape) for name, value in weights.items()})):
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ValueError(f"does not fit the U-Net of its configuration: {wrong[0]}{more}")
        made = of_config(unet, schedule, timestep_scale)
        made.unet.load_state_dict(dict(weights))
    except FAULTS as error:
        raise ValueError(f"{path}: {_one_line(error)}") from error
    if broken := next((name for name, value in weights.items() if value.isnan().any()), None):
        raise ValueError(f"{path}: the weights are NaN ({broken})")
    return made.eval()


def _differing(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> set[str]:
    missing = {f"{name} is missing" for name in wanted.keys() - found.keys()}
    unknown = {f"{name} is unknown to it" for name in found.keys() - wanted.keys()}
    shapes = {
        f"{name} should be {list(wanted[name])}, is {list(found[name])}"
        for name in wanted.keys() & found.keys()
        if wanted[name] != found[name]
    }
    return missing | unknown | shapes


def _one_line(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
