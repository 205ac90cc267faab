import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from tests.conftest import NETWORK
from transmooth import checkpoint
from transmooth.loading import ImageSet, LoadedModel, check_classes, load_images, load_model
from transmooth.models import Network
from transmooth.smoothed import certify, check_model

BATCH = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(10)).eval()


def same(loaded: LoadedModel, model: nn.Module) -> None:
    assert not any(module.training for module in loaded.module.modules())
    assert len(loaded.sha256) == 64
    torch.testing.assert_close(loaded.module(BATCH), model(BATCH))
    assert check_model(loaded.module, BATCH[0]) == 10


def test_a_checkpoint_folder_knows_its_classes(network: Network, tmp_path: Path) -> None:
    card = {"network": NETWORK, "classes": list(CLASSES), "mean": [0.5] * 3, "std": [0.25] * 3}
    checkpoint.save(tmp_path / "model", network, card)
    loaded = load_model(str(tmp_path / "model"))
    same(loaded, network)
    assert loaded.classes == CLASSES


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_timm_model_has_the_classes_of_its_weights_and_its_own_normalisation(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        safetensors.torch.save_file(model.state_dict(), path)
    else:  # as a training script leaves it
        state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, path)
    config = model.pretrained_cfg
    same(load_model(f"timm:test_resnet@{path}"), Network(model, config["mean"], config["std"]))
    with pytest.raises(ValueError, match=r"w\.\w+: does not fit timm's test_vit"):
        load_model(f"timm:test_vit@{path}")


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch deprecates what people have on disk
@pytest.mark.parametrize("suffix", ["pt", "ts", "pt2"])
def test_programs_are_run_as_they_were_saved(small: nn.Module, suffix: str, tmp_path: Path) -> None:
    small(BATCH)
    path = tmp_path / f"m.{suffix}"
    if suffix == "pt2":
        dynamic = ({0: torch.export.Dim("batch")},)
        torch.export.save(torch.export.export(small, (BATCH,), dynamic_shapes=dynamic), path)
    else:
        torch.jit.script(small).save(str(path))
    loaded = load_model(str(path))
    same(loaded, small)
    frame = certify(loaded.module, BATCH, sigma=0.1, n=50, n0=20)  # it also deploys
    assert frame["evaluations"].tolist() == [70, 70]
    path.write_bytes(b"PK not a program")
    with pytest.raises(ValueError, match=f"m.{suffix}: not readable as what its name says"):
        load_model(str(path))


def test_a_program_exported_for_one_batch_size_is_refused(small: nn.Module, tmp_path: Path) -> None:
    small(BATCH)
    torch.export.save(torch.export.export(small, (BATCH,)), tmp_path / "m.pt2")
    with pytest.raises(ValueError, match=r"the model fails on images \[4, 3, 16, 16\] or on one of them alone"):
        check_model(load_model(str(tmp_path / "m.pt2")).module, BATCH[0])


FACTORY = """
import torch
def model():
    torch.manual_seed({seed})
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(768, 10))
def number():
    return 3
"""


def test_a_factory_is_called_only_when_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        Path(f"theirs{seed}.py").write_text(FACTORY.format(seed=seed))
    before = list(sys.path)
    loaded = load_model("theirs0:model")
    same(loaded, loaded.module)
    assert sys.path == before
    assert load_model("theirs0:model").sha256 == loaded.sha256 != load_model("theirs1:model").sha256
    with pytest.raises(ValueError, match=r"theirs0:number: should return a torch.nn.Module, returned int"):
        load_model("theirs0:number")
    with pytest.raises(ValueError, match=r"theirs0:gone: module 'theirs0' has no attribute 'gone'"):
        load_model("theirs0:gone")
    with pytest.raises(ValueError, match="nowhere:model: No module named 'nowhere'"):
        load_model("nowhere:model")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("ran").touch, ())


def test_loading_weights_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "w.pth")
    with pytest.raises(ValueError, match=r"w.pth: not readable as what its name says \(weights\)"):
        load_model("timm:test_resnet@w.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.pt", "gone.pt: no such file"),
        ("timm:test_resnet", "a timm model is timm:NAME@FILE"),
        ("timm:test_resnet@gone.pth", "gone.pth: no such file"),
        ("weights.onnx", "a model is a checkpoint folder, timm:NAME@FILE, a file ending in .pt, .ts, .pt2, or package"),
        (".", "model.json: no such card"),
    ],
)
def test_what_is_no_model_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_model(text)


def pictures(folder: Path, side: int = 16) -> None:
    for label, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((side, side, 3), 100 * label + k, np.uint8)).save(folder / name / f"{k}.png")


def test_a_prepared_folder(digits: Path) -> None:
    images = load_images(str(digits))
    assert len(images) == 300
    assert images.classes == tuple("0123456789")
    assert images.fetch(7).shape == (3, 8, 8)
    with pytest.raises(ValueError, match="was prepared at size 8, not 32"):
        load_images(str(digits), size=32)
    with pytest.raises(FileNotFoundError, match="has no split 'val'; there is: test, train, validation"):
        load_images(str(digits), split="val")


@pytest.mark.parametrize("inner", ["val", "."])
def test_a_folder_of_images_with_and_without_splits(inner: str, tmp_path: Path) -> None:
    pictures(tmp_path / inner)
    images = load_images(str(tmp_path), split="val")
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.fetch(3).dtype == torch.float32
    assert images.fetch(3).unique().tolist() == pytest.approx([101 / 255])
    assert images.fetch(3).shape == (3, 16, 16)
    assert load_images(str(tmp_path), split="val", size=4).fetch(0).shape == (3, 4, 4)


def test_images_of_different_sizes_need_one(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("RGB", (20, 30)).save(tmp_path / "b" / "2.png")
    with pytest.raises(ValueError, match=r"images 0 and 4 differ in size, \(16, 16\) and \(20, 30\): give a size"):
        load_images(str(tmp_path)).fetch(4)
    assert load_images(str(tmp_path), size=8).fetch(4).shape == (3, 8, 8)


def test_what_are_no_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/where: no such folder, and no name of a torchvision dataset"):
        load_images("no/where")
    with pytest.raises(ValueError, match=r"torchvision.datasets has no class 'NoSuchSet'"):
        load_images("NoSuchSet")
    with pytest.raises(FileNotFoundError, match=r"torchvision's CIFAR10 .* is not under"):
        load_images(f"CIFAR10@{tmp_path}")


def test_other_classes_are_refused() -> None:
    def fetch(index: int) -> Tensor:
        return BATCH[index]

    images = ImageSet(fetch, np.array([0, 1]), ("a", "b"), "two")
    check_classes(LoadedModel(nn.Identity(), "m", ""), 2, images)
    check_classes(LoadedModel(nn.Identity(), "m", "", ("a", "b")), 2, images)
    with pytest.raises(ValueError, match="m has 10 classes, two has 2: a, b"):
        check_classes(LoadedModel(nn.Identity(), "m", ""), 10, images)
    with pytest.raises(ValueError, match="m: its classes are not those of two"):
        check_classes(LoadedModel(nn.Identity(), "m", "", ("b", "a")), 2, images)
