import copy

import pytest
import torch
from torch import nn

from tests.conftest import NETWORK
from transmooth.models.build import Network, build


def test_normalisation_is_inside(network: Network) -> None:
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(network(images), network.backbone((images - 0.5) / 0.25))


def test_cifar_stem_keeps_the_resolution() -> None:
    images = torch.rand(1, 3, 16, 16)
    cifar = build(NETWORK, 10, (0.0,) * 3, (1.0,) * 3)
    imagenet = build(NETWORK.model_copy(update={"stem": "imagenet"}), 10, (0.0,) * 3, (1.0,) * 3)
    for network, side in ((cifar, 16), (imagenet, 4)):
        stem = nn.Sequential(network.backbone.get_submodule("conv1"), network.backbone.get_submodule("maxpool"))
        assert stem(images).shape[-1] == side


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm), ("instance", nn.GroupNorm)]
)
def test_every_norm_layer_is_of_the_kind(norm: str, kind: type[nn.Module]) -> None:
    network = build(NETWORK.model_copy(update={"norm": norm}), 10, (0.0,) * 3, (1.0,) * 3)
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    assert len(layers) > 8
    assert all(isinstance(layer, kind) for layer in layers)


def test_any_timm_resnet_by_name() -> None:
    network = build(NETWORK.model_copy(update={"name": "resnet26", "options": {}}), 7, (0.0,) * 3, (1.0,) * 3)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_a_network_without_a_stem_to_replace_is_refused() -> None:
    spec = NETWORK.model_copy(update={"name": "convnext_atto", "options": {}})
    with pytest.raises(ValueError, match="stem: cifar fits ResNets"):
        build(spec, 10, (0.0,) * 3, (1.0,) * 3)


def test_reset_head_draws_a_new_head_and_nothing_else(network: Network) -> None:
    before = copy.deepcopy(network.state_dict())
    network.reset_head(4)
    after = network.state_dict()
    assert after["backbone.fc.weight"].shape == (4, 16)
    assert all(torch.equal(before[k], after[k]) for k in before if not k.startswith("backbone.fc"))
