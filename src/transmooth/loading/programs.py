"""Networks that are programs: TorchScript and torch.export files.

An export program is code as much as a function is: pickled and compiled code in a .pt2 is refused, but torch evaluates
the Python expressions that it holds about sizes.  Load none from a stranger.
"""

import logging
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from transmooth.loading.state import HoldsAnotherError

# What torch calls members of a .pt2 that are code.  Of its own constants older versions lack some.
COMPILED = "data/aotinductor/"
PICKLED = "opaque_obj_"


def _script(path: Path) -> nn.Module:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2] for name in archive.namelist()}
        if "data.pkl" in members and "constants.pkl" not in members:
            raise HoldsAnotherError(
                "holds what torch.save wrote, weights, not a program of torch.jit; a network of timm is "
                f"timm:NAME@{path}, any other a function of yours that loads them, package.module:function"
            )
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
    members = _members(path)
    if any(PICKLED in name for name in members):  # read with plain pickle
        raise ValueError("it holds pickled code")
    if any(COMPILED in name for name in members):
        raise ValueError("it holds compiled code")
    try:
        with _weights_only(), _without_log():
            program = torch.export.load(path)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds pickled code") from error
    if fixed := _fixed_batch(program):
        raise HoldsAnotherError(
            f"was exported for exactly {fixed} images at once; export it anew with "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )
    return _Exported(program.module())


def _members(path: Path) -> list[str]:
    """Return the names of an archive's members without case, as torch looks them up.

    None of an archive without a folder, as torch 2.7 and older made them: of it torch.export.load reads tensors and
    the program alone.
    """
    try:
        return [name.lower() for name in torch._C.PyTorchFileReader(str(path)).get_all_records()]
    except RuntimeError:
        with zipfile.ZipFile(path) as archive:
            if "serialized_exported_program.json" in archive.namelist():
                return []
        raise


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """Return how many images a program takes, where it takes no other number."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs and isinstance(value := node.meta.get("val"), Tensor):
            return value.shape[0] if value.ndim and isinstance(value.shape[0], int) else None
    return None


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


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep torch.export from printing a traceback before it reads an archive of the older form."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


PROGRAMS: Mapping[str, Callable[[Path], nn.Module]] = {".pt": _script, ".ts": _script, ".pt2": _exported}
