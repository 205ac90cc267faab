"""The network as it is deployed, and so the one that a certificate is about: prepared once, then only called.

Each step changes rounding, never what is computed in exact arithmetic.  What comes out is compared with the network as
it was given, on the same noisy images; a step that does not hold is left out.
"""

import copy
import warnings
from collections import Counter
from itertools import product

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from transmooth.models.norms import GroupNorm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# How far logits may move, in shares of the range of the network's logits: by another order of float32 sums, by products
# of 11 significant bits, which a GPU takes for float32 by default, and by weights and features of 8.  A network that
# reads memory in another order is off by the whole range.
SLACK = {"fp32": 0.002, "tf32": 0.025, "bf16": 0.2}


class Deployed(nn.Module):
    """Noisy images float32 [B, H, W, 3], contiguous -> logits [B, K].

    dtype: that images and weights have; None where the network is the given one, which takes float32 images.
    layout: of the images and weights.
    """

    def __init__(self, network: nn.Module, dtype: str | None, layout: torch.memory_format) -> None:
        super().__init__()
        self.network, self.dtype, self.layout = network, dtype, layout

    @property
    def named(self) -> str:
        """The dtype as records name it: `own` for a given network that is not in one of ours."""
        if self.dtype is None:
            found = {tensor.dtype for tensor in self.network.parameters()}
            return next((name for name, dtype in DTYPES.items() if found == {dtype}), "own")
        return self.dtype

    def forward(self, noisy: Tensor) -> Tensor:
        # Height x width x channels in memory is channels-last to a convolution: the permutation moves nothing.
        images = noisy.permute(0, 3, 1, 2).to(DTYPES[self.dtype or "fp32"])
        logits: Tensor = self.network(images if self.layout is torch.channels_last else images.contiguous())
        return logits


def deploy(model: nn.Module, dtype: str, noisy: Tensor, layout: torch.memory_format = torch.channels_last) -> Deployed:
    """Return a fast copy of an eval-mode model (images [B, 3, H, W] in [0, 1] -> logits [B, K]), which stays as it is.

    BatchNorms are folded into the convolutions before them in float32, then the weights are cast to `dtype` and laid
    out as `layout` says: channels-last, for which group norms are ours, or contiguous.  noisy: images float32
    [B, H, W, 3] on the model's device, on which copy and model are compared: logits must agree within SLACK of their
    range, and so must the classes, but where two logits are that near.  Where folding or channels-last does not hold,
    the copy goes without; where no copy holds (a module that cannot be copied, one that casts by itself), the model
    itself is deployed.  A warning of one line says so.

    Raises ValueError for a model in train mode, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode: its BatchNorm or dropout would void the theorem; call eval()")
    itself = Deployed(model, None, torch.contiguous_format).eval()
    expected = _logits(itself, noisy)
    reasons: dict[str, str] = {}
    for fold, laid_out in product((True, False), dict.fromkeys((layout, torch.contiguous_format))):
        left_out = ["folding"] * (not fold) + ["channels-last"] * (laid_out is not layout)
        try:
            deployed = _prepared(model, dtype, fold, laid_out, noisy, expected)
        except Exception as error:  # whatever someone's module raises when it is copied, cast or laid out
            reasons["without " + " and ".join(left_out) if left_out else "as usual"] = _first_sentence(error)
            continue
        if reasons:
            _say(f"the network is deployed without {' and '.join(left_out)}: {reasons['as usual']}")
        return deployed
    _say(f"the network is deployed as it is, not in {dtype} by a faster copy: {next(reversed(reasons.values()))}")
    return itself


def _prepared(
    model: nn.Module, dtype: str, fold: bool, layout: torch.memory_format, noisy: Tensor, expected: Tensor
) -> Deployed:
    """Return the copy, compared in float32 before it is cast.  Raises ValueError where it is another function."""
    network = copy.deepcopy(model)
    if fold:
        network = fold_batch_norms(network)
    for module in network.modules():
        if type(module) is nn.GroupNorm:  # a U-Net's
            module.__class__ = GroupNorm
    for step in dict.fromkeys(("fp32", dtype)):
        network.to(dtype=DTYPES[step], memory_format=layout)  # type: ignore[call-overload]
        deployed = Deployed(network, step, layout).eval()
        compare(_logits(deployed, noisy), expected, step)
    return deployed


def compare(logits: Tensor, expected: Tensor, dtype: str) -> None:
    """Raise ValueError unless logits [B, K] are `expected`, but for the rounding of `dtype`."""
    if logits.shape != expected.shape:
        raise ValueError(f"its logits are {list(logits.shape)}, not {list(expected.shape)}")
    slack = SLACK[_precision(dtype, logits.device.type)] * float(expected.amax() - expected.amin()) + 1e-6
    moved = float((logits - expected).abs().max())
    if not moved <= slack:  # NaN is not
        raise ValueError(f"its logits in {dtype} move by up to {moved:.3g}, where rounding explains {slack:.3g}")


def _precision(dtype: str, device: str) -> str:
    """Return the name in SLACK of what a network of a dtype computes in."""
    return "tf32" if (dtype, device) == ("fp32", "cuda") else dtype


@torch.no_grad()
def _logits(network: Deployed, noisy: Tensor) -> Tensor:
    return network(noisy).float()  # type: ignore[no-any-return]


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__


def _say(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return the eval-mode model with every BatchNorm after a convolution made part of the convolution.

        y = γ (W ∗ x + b − μ) / √(v + ε) + β   =   W' ∗ x + b'

    This is done only where the dataflow is certain.  A convolution is left alone if its result or weights are used
    elsewhere, too.  A module is left alone if it has hooks, if torch.fx cannot follow it (control flow on data), or if
    torch.fx would change it (tensors made during the call); then each of its parts is tried by itself.
    """
    if not any(type(module) is nn.BatchNorm2d for module in model.modules()):
        return model  # never traced: only the caller runs its forward
    graph = _trace(model)
    if graph is not None:
        return _fold(graph)
    for name, part in list(model.named_children()):
        model.add_module(name, fold_batch_norms(part))
    return model


def _trace(model: nn.Module) -> fx.GraphModule | None:
    """Return the graph of a model, or None where there is none that is certain to be the same function."""
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return None
    try:
        traced = fx.symbolic_trace(model)
    except Exception:  # whatever the model's own code raises when it is handed a symbol
        return None
    # What forward() computes without its input, at worst a random number, was frozen into a constant.
    frozen = any(str(node.target).startswith("_tensor_constant") for node in traced.graph.nodes)
    return None if frozen else traced


def _fold(traced: fx.GraphModule) -> fx.GraphModule:
    modules = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    # Modules whose own weights the graph also reads directly, as a decoder does that shares them.
    read = {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module"):
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        alone = len(before.users) == 1 and calls[before.target] == 1 and before.target not in read
        if alone and type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.track_running_stats:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
