"""Modules that a function of anyone's returns, by `package.module:function`."""

import hashlib
import importlib
import sys
from pathlib import Path

import torch
from torch import nn


def call(text: str) -> nn.Module:
    """Return the module, in eval mode, of package.module:function, found below the working directory too.

    Raises ValueError for whatever importing or calling it raises, and for what is no module.
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
    return module.eval()


def hash_of_call(text: str, module: nn.Module) -> str:
    """Return the SHA-256 that names what `call` returned: of its tensors and of the file that the function is in.

    Tensors say nothing of what is done with them.  Files that this one imports are not looked at.
    """
    digest = hashlib.sha256(hash_of(module).encode())
    if file := getattr(sys.modules[text.split(":")[0]], "__file__", None):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def hash_of(module: nn.Module) -> str:
    """Return the SHA-256 of the names, shapes and values of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
