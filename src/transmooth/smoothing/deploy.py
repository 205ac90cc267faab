"""The network as it is deployed, and so the one that a certificate is about: prepared once, then only called.

Each step changes rounding, never what is computed in exact arithmetic, and depends on nothing but the model and the
settings: every shard and rank deploys the same network.
"""

import copy
import shutil
import warnings
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Deployed(nn.Module):
    """Noisy images float32 [B, H, W, 3], contiguous -> logits [B, K] in the deployed dtype."""

    def __init__(self, network: nn.Module, dtype: str) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, noisy: Tensor) -> Tensor:
        # Height x width x channels in memory is channels-last to a convolution: the permutation moves nothing.
        logits: Tensor = self.network(noisy.permute(0, 3, 1, 2).to(DTYPES[self.dtype]))
        return logits


def deploy(model: nn.Module, dtype: str, *, compile: bool = False) -> Deployed:
    """A fast copy of an eval-mode model (images [B, 3, H, W] in [0, 1] -> logits [B, K]), which stays as it is.

    BatchNorms are folded into the convolutions before them in float32, then the weights are cast to `dtype` and laid
    out channels-last.  compile: also fuse the rest with torch.compile, at the first batch; no command asks for it.
    Without a C++ compiler it warns and goes on uncompiled.

    A deployed network is returned as it is, so that samplers at several sigmas can share one.
    Raises ValueError for a model in train mode, or one that was deployed in another dtype.
    """
    if isinstance(model, Deployed):
        if model.dtype != dtype:
            raise ValueError(f"the network is deployed in {model.dtype}, not {dtype}: deploy the model again")
        return model
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode: its BatchNorm or dropout would void the theorem; call eval()")
    network = fold_batch_norms(copy.deepcopy(model))
    network.to(dtype=DTYPES[dtype], memory_format=torch.channels_last)  # type: ignore[call-overload]
    deployed = Deployed(network, dtype).eval()
    if compile:
        _compile(deployed)
    return deployed


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """The eval-mode model with every BatchNorm after a convolution made part of the convolution.

        y = γ (W ∗ x + b − μ) / √(v + ε) + β   =   W' ∗ x + b'

    Done only where the dataflow is certain: not behind a convolution whose result
    or weights are used elsewhere too, nor in a model that torch.fx cannot follow (control flow on data) or would
    change (hooks, tensors made during the call): that one is returned as it is.
    """
    modules = dict(model.named_modules())
    if not any(type(module) is nn.BatchNorm2d for module in modules.values()):
        return model  # never traced: its forward is run by no one but the caller
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules.values()):
        return model
    try:
        traced = fx.symbolic_trace(model)
    except Exception:  # whatever the model's own code raises when it is handed a symbol
        return model
    # What forward() computes without its input, at worst a random number, was frozen into a constant.
    if any(str(node.target).startswith("_tensor_constant") for node in traced.graph.nodes):
        return model
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


def _compile(network: Deployed) -> None:
    if any(tensor.is_cuda for tensor in network.parameters()):
        network.compile(dynamic=False, mode="reduce-overhead")  # CUDA graphs: one launch a batch, not one a kernel
        return
    compiler = torch._inductor.config.cpp.cxx[1]
    if shutil.which(compiler) is None:
        warnings.warn(f"torch.compile needs a C++ compiler, {compiler}: the network is not compiled", stacklevel=3)
        return
    # Not `freezing`: on ResNets whose BatchNorms are folded it gains nothing measurable.
    network.compile(dynamic=False)
