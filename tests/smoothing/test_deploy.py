import copy
import re
import warnings

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import NETWORK
from transmooth.models.build import build
from transmooth.smoothing.deploy import SLACK, _precision, deploy, fold_batch_norms


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
def pixels(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


@pytest.fixture
def residual() -> nn.Module:
    torch.manual_seed(0)
    return settled(Residual())


@torch.inference_mode()
def test_a_folded_network_is_the_same_function(residual: nn.Module, images: Tensor, pixels: Tensor) -> None:
    before, expected = copy.deepcopy(residual.state_dict()), residual(images)
    folded = fold_batch_norms(copy.deepcopy(residual))
    assert norms(folded) == 1
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deploy(residual, "fp32", pixels)(pixels), expected)
    half = deploy(residual, "bf16", pixels)(pixels)
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
@torch.inference_mode()
def test_of_a_model_that_cannot_be_followed_the_parts_are_folded(kind: type[nn.Module], images: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(kind())
    folded = fold_batch_norms(copy.deepcopy(model))
    assert norms(model) - norms(folded) == 1  # the stem's
    torch.manual_seed(1)
    expected = model(images)
    torch.manual_seed(1)
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5)


def test_what_has_hooks_is_left_alone(residual: nn.Module) -> None:
    residual.get_submodule("conv1").register_forward_hook(lambda module, inputs, output: 2 * output)
    residual.get_submodule("stem.0").register_forward_hook(lambda module, inputs, output: 2 * output)
    assert norms(fold_batch_norms(copy.deepcopy(residual))) == norms(residual)


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
def test_weights_that_are_read_elsewhere_too_stay_what_they_are(part: str, images: Tensor, pixels: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(Tied(part))
    torch.testing.assert_close(deploy(model, "fp32", pixels)(pixels), model(images))


def test_train_mode_is_refused(residual: nn.Module, pixels: Tensor) -> None:
    residual.get_submodule("bn1").train()
    with pytest.raises(ValueError, match="train mode"):
        deploy(residual, "fp32", pixels)


class Flat(nn.Module):
    """The view after a convolution that tutorials end with: it reads the memory of channels-last features wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 8 * 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images)
        return self.head(features.view(len(features), -1))  # type: ignore[no-any-return]


class Strided(Flat):
    """Reads its features as they lie in memory: no error, another function."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images)
        return self.head(features.as_strided((len(features), 256), (256, 1)))  # type: ignore[no-any-return]


class Casting(Flat):
    """Casts by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head.bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).flatten(1).bfloat16()).float()  # type: ignore[no-any-return]


class Uncopyable(Flat):
    """Keeps what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.head.weight.sum() * 0 + 1

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).flatten(1)) * self.scale  # type: ignore[no-any-return]


class Volume(nn.Module):
    """Convolutions in three dimensions know no channels-last of four."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images[:, None]).mean((2, 3, 4)))  # type: ignore[no-any-return]


class Outside(Residual):
    """Calls the stem's convolution past its BatchNorm, and is not to be followed: folding the stem would change it."""

    def forward(self, images: Tensor) -> Tensor:
        bare = self.stem[0](images if images.mean() > 0 else -images)
        return super().forward(images) + bare.mean((1, 2, 3))[:, None]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "dtype", "left_out"),
    [
        (Flat, "fp32", "deployed without channels-last: view size is not compatible"),
        (Flat, "bf16", "deployed without channels-last: view size is not compatible"),
        (Strided, "fp32", "deployed without channels-last: its logits in fp32 move by up to"),
        (Casting, "fp32", "deployed as it is, not in fp32"),
        (Casting, "bf16", "deployed as it is, not in bf16"),
        (Uncopyable, "fp32", "deployed as it is, not in fp32 by a faster copy: Only Tensors created explicitly"),
        (Volume, "fp32", "deployed without channels-last"),
        (Outside, "fp32", "deployed without folding: "),
    ],
)
def test_what_does_not_hold_is_left_out_and_said(
    kind: type[nn.Module], dtype: str, left_out: str, images: Tensor, pixels: Tensor
) -> None:
    torch.manual_seed(0)
    model = settled(kind())
    with pytest.warns(UserWarning, match=re.escape(left_out)) as said:
        deployed = deploy(model, dtype, pixels)
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    with torch.no_grad():
        expected, logits = model(images), deployed(pixels).float()
    slack = SLACK[deployed.dtype or "fp32"] * float(expected.max() - expected.min())
    torch.testing.assert_close(logits, expected, rtol=0, atol=slack)


def test_the_products_of_a_gpu_by_default_are_rounding_to_it_alone() -> None:
    """TF32 has 11 significant bits: factors are rounded to them here, as a GPU does."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(256, 256, generator=generator) / 16 for _ in range(8)]
    exact = rounded = torch.randn(64, 256, generator=generator)
    for weight in weights:
        exact, rounded = (exact @ weight).relu(), (tf32(rounded) @ tf32(weight)).relu()
    moved = float((rounded - exact).abs().max() / (exact.max() - exact.min()))
    assert 1e-4 < moved < SLACK[_precision("fp32", "cuda")] < SLACK["bf16"]
    assert _precision("fp32", "cpu") == "fp32"
    assert _precision("bf16", "cuda") == "bf16"


def tf32(values: Tensor) -> Tensor:
    """Round float32 to 10 bits behind the leading one."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_a_contiguous_copy_is_asked_for_without_a_warning(residual: nn.Module, pixels: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deployed = deploy(residual, "fp32", pixels, torch.contiguous_format)
    assert deployed.layout is torch.contiguous_format
    torch.testing.assert_close(deployed(pixels), deploy(residual, "fp32", pixels)(pixels))
