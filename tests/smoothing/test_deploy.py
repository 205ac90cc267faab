import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import NETWORK
from transmooth.models.build import build
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.deploy import deploy, fold_batch_norms
from transmooth.smoothing.sampler import Sampler


class Residual(nn.Module):
    """Two convolutions whose BatchNorms can be folded, and one that must not be: its result is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = x + torch.relu(self.bn1(self.conv1(x)))
        y = self.conv2(x)
        return self.head((self.bn2(y) + y).mean((2, 3)))  # type: ignore[no-any-return]


def settled(model: nn.Module) -> nn.Module:
    """The model in eval mode, with statistics and weights of its BatchNorms that are far from neutral."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def residual() -> nn.Module:
    torch.manual_seed(0)
    return settled(Residual())


@torch.inference_mode()
def test_a_folded_network_is_the_same_function(residual: nn.Module, images: Tensor) -> None:
    before, expected = copy.deepcopy(residual.state_dict()), residual(images)
    folded = fold_batch_norms(copy.deepcopy(residual))
    assert norms(folded) == 1
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deploy(residual, "fp32")(images.permute(0, 2, 3, 1).contiguous()), expected)
    half = deploy(residual, "bf16")(images.permute(0, 2, 3, 1).contiguous())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert residual.state_dict().keys() == before.keys()  # the caller's model was not touched
    assert all(torch.equal(value, before[name]) for name, value in residual.state_dict().items())


@torch.inference_mode()
def test_every_batch_norm_of_a_resnet_is_folded(images: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(build(NETWORK.model_copy(update={"norm": "batch"}), 10, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)))
    expected = model(images)
    folded = fold_batch_norms(model)
    assert norms(model) > 0
    assert norms(folded) == 0
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Branching(Residual):
    """Control flow on data."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.mean() > 0 else -images)


class Random(Residual):
    """A tensor made during the call: tracing would freeze it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.rand(1))


class Shared(Residual):
    """One convolution behind two BatchNorms."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        return self.head((self.bn1(self.conv1(x)) + self.bn2(self.conv1(x))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Branching, Random])
def test_a_model_that_cannot_be_followed_is_left_alone(kind: type[nn.Module]) -> None:
    model = settled(kind())
    assert fold_batch_norms(model) is model


def test_a_model_with_hooks_is_left_alone(residual: nn.Module) -> None:
    residual.get_submodule("conv1").register_forward_hook(lambda module, inputs, output: 2 * output)
    assert fold_batch_norms(residual) is residual


@torch.inference_mode()
def test_a_convolution_that_is_used_twice_keeps_its_batch_norms(images: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(Shared())
    folded = fold_batch_norms(copy.deepcopy(model))
    assert norms(folded) == 2
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """A decoder that reads the weights of the encoder's convolution, or a result scaled like its BatchNorm."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.part = part

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(images)))
        if self.part == "conv":
            return nn.functional.conv_transpose2d(x, self.conv.weight, padding=1).mean((2, 3))
        return x.mean((2, 3)) * self.norm.weight


@pytest.mark.parametrize("part", ["conv", "norm"])
@torch.inference_mode()
def test_weights_that_are_read_elsewhere_too_stay_what_they_are(part: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(Tied(part))
    torch.testing.assert_close(deploy(model, "fp32")(images.permute(0, 2, 3, 1).contiguous()), model(images))


def test_train_mode_is_refused(residual: nn.Module) -> None:
    residual.get_submodule("bn1").train()
    with pytest.raises(ValueError, match="train mode"):
        deploy(residual, "fp32")


def test_a_compiled_network_counts_like_itself_and_nearly_like_the_eager_one(residual: nn.Module) -> None:
    def image(index: int) -> Tensor:
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))

    def ask(sampler: Sampler, *indices: int) -> Any:
        return sampler(ESTIMATION, np.array(indices), np.full(len(indices), 50), np.full(len(indices), 300))

    compiled = Sampler(residual, image, 0.5, batch=64, compile=True)
    together, alone = ask(compiled, 1, 2), ask(compiled, 2)
    assert np.array_equal(together[1:], alone)
    eager = ask(Sampler(residual, image, 0.5, batch=64), 1, 2)
    assert np.abs(together - eager).max() <= 3  # rounding moves predictions on a decision boundary, hardly ever


def test_without_a_compiler_it_warns_and_goes_on(residual: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match=r"needs a C\+\+ compiler"):
        network = deploy(residual, "fp32", compile=True)
    assert network(torch.rand(2, 8, 8, 3)).shape == (2, 4)
