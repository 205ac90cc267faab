import pytest
import torch
from torch import nn

from transmooth.models.norms import GroupNorm, create_norm

# Dimensions (of B, C/G, G, H, W) over which each layer takes mean and variance: Table 2 of the mixed-noise paper.
STATISTICS = {"batch": (8, (0, 3, 4)), "instance": (8, (3, 4)), "group": (2, (2, 3, 4)), "layer": (1, (2, 3, 4))}


def made(norm: str, groups: int, channels: int) -> nn.Module:
    layer = create_norm(norm, groups)
    assert layer is not None
    return layer(channels)


@pytest.mark.parametrize("norm", STATISTICS)
def test_statistics_are_those_of_the_definition(norm: str) -> None:
    features = torch.randn(5, 8, 4, 4) * 3 + 1
    groups, over = STATISTICS[norm]
    grouped = features.view(5, groups, 8 // groups, 4, 4)
    variance, mean = torch.var_mean(grouped, over, correction=0, keepdim=True)
    expected = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(features)
    torch.testing.assert_close(made(norm, 2, 8).train()(features), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", STATISTICS)
def test_all_have_one_weight_and_one_bias_per_channel(norm: str) -> None:
    layer = made(norm, 4, 16)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (16,), "bias": (16,)}


@pytest.mark.parametrize("norm", ["instance", "group", "layer"])
def test_an_image_is_normalised_alike_alone_and_among_others(norm: str) -> None:
    layer, features = made(norm, 2, 8).train(), torch.randn(6, 8, 4, 4)
    torch.testing.assert_close(layer(features)[:1], layer(features[:1]))


@pytest.mark.parametrize("norm", STATISTICS)
def test_what_comes_out_lies_in_memory_as_what_came_in(norm: str) -> None:
    layer, features = made(norm, 2, 8), torch.randn(5, 8, 4, 4)
    last = features.contiguous(memory_format=torch.channels_last)
    normalised = layer(last)
    torch.testing.assert_close(normalised, layer(features))
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert layer(features).is_contiguous()


@pytest.mark.parametrize(("channels", "size"), [(8, 40), (64, 4), (8, 4)])
@pytest.mark.parametrize("norm", ["instance", "group", "layer"])
@torch.no_grad()
def test_every_kernel_and_order_of_memory_gives_the_same(norm: str, channels: int, size: int) -> None:
    layer, features = made(norm, 4, channels), torch.randn(2, channels, size, size)
    last = layer(features.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, layer(features))
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "size"), [(8, 40), (64, 4), (8, 4)])
@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_what_a_compiler_is_given_is_the_same_group_norm(affine: bool, channels: int, size: int) -> None:
    layer = GroupNorm(4, channels, affine=affine)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(channels))
    features = (torch.randn(3, channels, size, size) * 3 + 1).contiguous(memory_format=torch.channels_last)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=backend, dynamic=False)(features)
    torch.testing.assert_close(compiled, torch.group_norm(features, 4, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)
    assert compiled.is_contiguous(memory_format=torch.channels_last)
    assert "group_norm" not in graphs[0].code  # for which Inductor has slow loops in this order of memory


@torch.no_grad()
def test_a_group_norm_of_sequences_is_pytorchs() -> None:
    """Attention in a U-Net normalises pixels in a row, which lie in memory one after the other, channels first."""
    layer, features = GroupNorm(4, 16), torch.randn(2, 10, 16).transpose(1, 2)
    torch.testing.assert_close(layer(features), layer(features.contiguous()))
