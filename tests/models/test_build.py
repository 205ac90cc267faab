import copy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from tests.conftest import NETWORK
from transmooth.models.build import PROJECTED, Network, Projection, build
from transmooth.specs import NetworkSpec


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


VIT = NetworkSpec(
    name="vit_tiny_patch16_224",
    stem="imagenet",
    norm="own",
    groups=1,
    options={"depth": 1, "embed_dim": 12, "num_heads": 2, "img_size": 16, "patch_size": 8},
)


@pytest.mark.parametrize("described", [NETWORK, VIT], ids=lambda each: each.name)
def test_a_projection_is_an_mlp_of_the_features_and_goes_with_the_next_head(described: NetworkSpec) -> None:
    torch.manual_seed(0)
    network = build(described, 3, (0.5,) * 3, (0.25,) * 3).eval()
    images, features = torch.rand(4, 3, 16, 16), list[Tensor]()
    hook = network.head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    network(images)
    hook.remove()
    body = {name: tensor for name, tensor in network.state_dict().items() if tensor is not None}
    network.reset_head(3, "projection")
    projection = network.head
    assert isinstance(projection, Projection)
    assert network.spec == described.model_copy(update={"head": "projection"})
    first, last = projection[0], projection[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    size = features[0].shape[1]
    assert (first.weight.shape, last.weight.shape) == ((size, size), (PROJECTED, size))
    expected = last(first(features[0]).clamp(0))
    torch.testing.assert_close(network(images), expected)
    assert expected.shape == (4, PROJECTED)
    network.reset_head(3)
    assert network.spec == described
    after = network.state_dict()
    assert after.keys() == body.keys()
    head = {name for name in body if network.get_submodule(name.rpartition(".")[0]) is network.head}
    assert {name for name in body if not torch.equal(after[name], body[name])} <= head
    assert network(images).shape == (4, 3)


def test_a_network_that_is_described_with_a_projection_is_built_with_it() -> None:
    described = NETWORK.model_copy(update={"head": "projection"})
    with torch.device("meta"):
        network = build(described, 10**9, (0.5,) * 3, (0.25,) * 3)  # how many classes there are does not matter to it
    assert isinstance(network.head, Projection)
    other = build(NETWORK, 10, (0.5,) * 3, (0.25,) * 3)
    other.reset_head(10, "projection")
    assert {n: t.shape for n, t in network.state_dict().items()} == {n: t.shape for n, t in other.state_dict().items()}


def test_published_weights_of_a_file_are_timms_for_other_classes_with_a_new_head(tmp_path: Path) -> None:
    """Images are normalised as timm has it for the name, whatever those of the data set are."""
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    spec = {"name": "tf_efficientnet_lite0", "norm": "own", "stem": "imagenet", "groups": 1, "weights": "published"}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def built(classes: int, path: Path = file) -> Network:
        options = {"from": str(path)}
        return build(NetworkSpec.of(spec | {"options": options}), classes, [0.1] * 3, [0.2] * 3).eval()

    with torch.no_grad():
        torch.testing.assert_close(built(7)(images), theirs((images - 0.5) / 0.5))
        other = built(3)
        assert other(images).shape == (2, 3)
        head: Any = other.head
        assert head.weight.abs().max() <= head.in_features**-0.5  # as on transfer; timm's own here: 20 times that
        features: Any = other.backbone
        torch.testing.assert_close(features.forward_features(images), theirs.forward_features(images))
    (tmp_path / "p.pth").write_bytes(b"no weights")
    for path in (tmp_path / "none.safetensors", tmp_path / "p.pth"):
        with pytest.raises(ValueError, match=f"options.from: should be a .safetensors file of timm's, {path} is none"):
            built(7, path)
