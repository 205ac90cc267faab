import importlib
import io
import json
import logging
import os
import pickle
import runpy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch._export.serde import schema, serialize
from torch.nn import functional

from tests.helpers.checkpoints import CARD
from transmooth.checkpoint import weights
from transmooth.loading import programs
from transmooth.loading.images import ImageSet
from transmooth.loading.models import LoadedModel, TimmArguments, load_model, match_classes
from transmooth.models.build import Network
from transmooth.smoothing.smoothed import certify, check_model

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
    weights.save(tmp_path / "model", network, CARD | {"classes": list(CLASSES)})
    loaded = load_model(str(tmp_path / "model"))
    same(loaded, network)
    assert loaded.classes == CLASSES
    identity = {"architecture": "checkpoint", "sha256": loaded.sha256, "mean": [0.5] * 3, "std": [0.25] * 3}
    assert loaded.identity == identity == json.loads(json.dumps(loaded.identity))


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
        torch.jit.script(small).save(str(path))  # type: ignore[no-untyped-call]
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
    with pytest.raises(ValueError, match=r"m.pt2: was exported for exactly \d images at once; .*Dim\('batch'\)"):
        load_model(str(tmp_path / "m.pt2"))


FACTORY = """
import torch
def model():
    torch.manual_seed({seed})
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(768, 10))
def number():
    return 3
def identity():
    return torch.nn.Identity()
def flatten():
    return torch.nn.Flatten()
def broken():
    raise RuntimeError("no GPU")
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
    with Path("theirs0.py").open("a") as code:
        code.write("# The same tensors, and perhaps another function of them.\n")
    assert load_model("theirs0:model").sha256 != loaded.sha256
    with pytest.raises(ValueError, match=r"theirs0:number: should return a torch.nn.Module, returned int"):
        load_model("theirs0:number")
    with pytest.raises(ValueError, match=r"theirs0:gone: AttributeError: module 'theirs0' has no attribute 'gone'"):
        load_model("theirs0:gone")
    with pytest.raises(ValueError, match="nowhere:model: ModuleNotFoundError: No module named 'nowhere'"):
        load_model("nowhere:model")
    with pytest.raises(ValueError, match=r"^theirs0:broken: RuntimeError: no GPU$"):
        load_model("theirs0:broken")
    assert sys.path == before


def test_models_of_the_same_weights_have_identities_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs2.py").write_text(FACTORY.format(seed=2))
    one, other = load_model("theirs2:identity"), load_model("theirs2:flatten")
    assert one.sha256 == other.sha256
    assert one.identity == {"architecture": "theirs2:identity", "sha256": one.sha256}
    assert other.identity == {"architecture": "theirs2:flatten", "sha256": one.sha256}
    timm_model = timm.create_model("test_resnet", num_classes=10)
    safetensors.torch.save_file(timm_model.state_dict(), "w.safetensors")
    named = load_model("timm:test_resnet@w.safetensors").identity
    assert named["mean"] == pytest.approx(timm_model.pretrained_cfg["mean"])
    assert named["std"] == pytest.approx(timm_model.pretrained_cfg["std"])


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_weights(name: str = "test_resnet", **keywords: Any) -> None:
    torch.save(timm.create_model(name, num_classes=3, **keywords).state_dict(), "w.pth")


def test_a_network_of_timm_has_the_shapes_of_its_weights(in_folder: Path) -> None:
    write_weights(in_chans=1)
    grey = load_model("timm:test_resnet@w.pth")
    assert grey.module(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert grey.identity["mean"] == [0.5]
    write_weights(in_chans=4)
    assert load_model("timm:test_resnet@w.pth").module(torch.rand(2, 4, 32, 32)).shape == (2, 3)
    write_weights("test_vit", img_size=32)
    small = load_model("timm:test_vit@w.pth")
    assert small.module(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    write_weights("test_vit", img_size=64, patch_size=8)
    with pytest.raises(ValueError, match="does not fit timm's test_vit"):
        load_model("timm:test_vit@w.pth")
    patches = TimmArguments(options={"patch_size": 8})
    assert load_model("timm:test_vit@w.pth", arguments=patches).module(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_mean_and_std_are_given_or_beside_or_assumed(in_folder: Path) -> None:
    write_weights()
    assumed = load_model("timm:test_resnet@w.pth")
    assert assumed.identity["mean"] == [0.5] * 3
    assert assumed.notes == (
        "w.pth: mean 0.5,0.5,0.5 and std 0.5,0.5,0.5 are assumed, as timm has them for test_resnet; "
        "--mean and --std say others",
    )
    half = load_model("timm:test_resnet@w.pth", arguments=TimmArguments(std=(0.2, 0.3, 0.4)))
    assert half.identity["mean"] == [0.5] * 3
    assert half.notes == (
        "w.pth: mean 0.5,0.5,0.5 is assumed, as timm has it for test_resnet; --mean and --std say others",
    )
    half = load_model("timm:test_resnet@w.pth", arguments=TimmArguments((0.2, 0.3, 0.4)))
    assert half.notes[0].startswith("w.pth: std 0.5,0.5,0.5 is assumed")
    (in_folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}))
    carded = load_model("timm:test_resnet@w.pth")
    assert carded.identity["mean"] == pytest.approx([0.1] * 3)
    assert carded.notes == ()
    given = load_model("timm:test_resnet@w.pth", arguments=TimmArguments((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    assert given.identity["mean"] == pytest.approx([0.4, 0.5, 0.6])
    assert given.identity["std"] == pytest.approx([0.2, 0.3, 0.4])
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    beside = {"0.mean": torch.full((3,), 0.7), "0.std": torch.full((3,), 0.8)}
    torch.save({f"1.module.{k}": v for k, v in weights.items()} | beside, "w.pth")
    assert load_model("timm:test_resnet@w.pth").identity["mean"] == pytest.approx([0.7] * 3)
    for arguments, message in (
        (TimmArguments((0.5,)), "mean: should have a number for each channel, 3, found 1"),
        (TimmArguments(std=(0.5, 0.0, 0.5)), "^w.pth: mean and std: should .*std above 0"),
        (TimmArguments((123.7, 116.3, 103.5)), r"of images in \[0, 1\], .*in \[0, 255\] become such by / 255"),
        (TimmArguments((0.5, -0.1, 0.5)), r"of images in \[0, 1\], .*-0.1, 0.5\] and \[[^;]*$"),
        (TimmArguments(options={"checkpoint_path": "x"}), "options.checkpoint_path: is not of a network"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model("timm:test_resnet@w.pth", arguments=arguments)
    with pytest.raises(ValueError, match="mean, std and options are for timm:NAME@FILE"):
        load_model("nets:three", arguments=TimmArguments((0.5,)))


def test_numbers_that_are_no_floats_are_not_taken_for_them(in_folder: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    for dtype, fault in ((torch.int8, True), (torch.complex64, True), (torch.bfloat16, False)):
        torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, "w.pth")
        if fault:
            with pytest.raises(ValueError, match=f"its 'conv1.0.weight' is of {dtype}, not of floats"):
                load_model("timm:test_resnet@w.pth")
        else:
            assert next(load_model("timm:test_resnet@w.pth").module.parameters()).dtype == torch.float32


def test_weights_in_several_files_are_known_by_their_values(in_folder: Path) -> None:
    hashes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), "w.safetensors")
        Path("w.index.json").write_text(json.dumps({"weight_map": {"all": "w.safetensors"}}))
        hashes.add(load_model("timm:test_resnet@w.index.json").sha256)
    assert len(hashes) == 2


def test_weights_without_their_network_say_what_to_do(in_folder: Path) -> None:
    torch.save({"a": torch.ones(2)}, "w.pt")
    with pytest.raises(ValueError, match=r"^w.pt: holds what torch.save wrote, .*timm:NAME@w.pt, .*package.module"):
        load_model("w.pt")
    torch.save({"a": torch.ones(2)}, "w.pth")
    with pytest.raises(ValueError, match=r"^w.pth: is no network by itself; .*timm:NAME@w.pth, .*package.module"):
        load_model("w.pth")
    torch.save(nn.Linear(2, 2), "w.pth")
    with pytest.raises(ValueError, match=r"^w.pth: holds a pickled module \(torch.nn.modules.linear.Linear\)"):
        load_model("timm:test_resnet@w.pth")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("ran").touch, ())


def test_loading_weights_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "w.pth")
    with pytest.raises(ValueError, match=r"w.pth: holds code \(getattr\), which is not run; save the weights alone"):
        load_model("timm:test_resnet@w.pth")
    assert not Path("ran").exists()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def pickled_inputs(members: dict[str, bytes]) -> None:
    members["m/data/sample_inputs/model.pt"] = saved(({"images": Evil()},))


def old_pickled_inputs(members: dict[str, bytes]) -> None:
    members["m/data/sample_inputs/model.pt"] = pickle.dumps(Evil(), protocol=0)  # begins with a letter


def constant(members: dict[str, bytes], name: str, content: bytes) -> None:
    meta = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    members["m/data/constants/model_constants_config.json"] = json.dumps({"config": {"c": meta}}).encode()
    members[f"m/data/constants/{name}"] = content


def pickled_constant(members: dict[str, bytes]) -> None:
    constant(members, "tensor_0", saved(Evil()))


def opaque_constant(members: dict[str, bytes]) -> None:
    constant(members, "opaque_obj_0", pickle.dumps(Evil()))


def compiled_model(members: dict[str, bytes]) -> None:
    members["m/data/aotinductor/model/model.so"] = b""


@pytest.mark.parametrize("change", [pickled_inputs, old_pickled_inputs, pickled_constant, opaque_constant])
def test_a_program_with_pickled_code_is_refused(
    change: Callable[[dict[str, bytes]], None], small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(small, change)
    with pytest.raises(ValueError, match=r"^m.pt2: .*: it holds pickled code$"):
        load_model("m.pt2")
    assert not Path("ran").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_program_with_compiled_code_is_refused(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(small, compiled_model)
    with pytest.raises(ValueError, match=r"^m.pt2: .*: it holds compiled code$"):
        load_model("m.pt2")


def test_members_that_are_code_are_called_as_torch_calls_them() -> None:
    """Older versions of torch that are declared lack the name of one or of both."""
    constants = importlib.import_module("torch.export.pt2_archive.constants")
    assert getattr(constants, "AOTINDUCTOR_DIR", programs.COMPILED) == programs.COMPILED
    assert getattr(constants, "OPAQUE_OBJ_FILENAME_PREFIX", programs.PICKLED) == programs.PICKLED


def test_the_module_is_imported_without_torchs_own_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 has no OPAQUE_OBJ_FILENAME_PREFIX; what is simulated here has none at all."""
    monkeypatch.setitem(sys.modules, "torch.export.pt2_archive.constants", None)
    assert runpy.run_path(programs.__file__)["PROGRAMS"].keys() == programs.PROGRAMS.keys()


def old_archive(path: Path, program: torch.export.ExportedProgram, **changes: bytes) -> None:
    """Write a program as torch 2.7 did: the same four parts, in no folder."""
    parts = serialize.serialize(program)
    members: dict[str, str | bytes] = {
        "serialized_exported_program.json": parts.exported_program,
        "serialized_state_dict.pt": parts.state_dict,
        "serialized_constants.pt": parts.constants,
        "serialized_example_inputs.pt": parts.example_inputs,
        "version": ".".join(map(str, schema.SCHEMA_VERSION)),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | changes).items():
            archive.writestr(name, content)


def test_a_program_of_an_older_torch_is_read_and_its_code_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    program = torch.export.export(Scaled().eval(), (BATCH,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    old_archive(Path("m.pt2"), program)
    assert torch.equal(load_model("m.pt2").module(BATCH), Scaled()(BATCH))
    assert "torch.export" not in {record.name for record in caplog.records}  # it would log a traceback
    assert not logging.getLogger("torch.export").disabled
    for part in ("state_dict", "constants", "example_inputs"):
        old_archive(Path("m.pt2"), program, **{f"serialized_{part}.pt": saved(Evil())})
        with pytest.raises(ValueError, match=r"^m.pt2: .*: it holds pickled code$"):
            load_model("m.pt2")
    assert not Path("ran").exists()


def rewrite(model: nn.Module, change: Callable[[dict[str, bytes]], None]) -> None:
    """Export the model to m.pt2 and change the members of that archive."""
    model(BATCH)
    torch.export.save(torch.export.export(model, (BATCH,)), "m.pt2")
    with zipfile.ZipFile("m.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile("m.pt2", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Scaled(nn.Module):
    """A buffer that is not saved becomes a constant of the program, and so does a tensor made in forward()."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.5, -2.0]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * self.scale + torch.tensor([1.0, 3.0])


def test_a_program_with_constants_is_read(tmp_path: Path) -> None:
    program = torch.export.export(Scaled().eval(), (BATCH,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "m.pt2")
    assert torch.equal(load_model(str(tmp_path / "m.pt2")).module(BATCH), Scaled()(BATCH))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.pt", "gone.pt: no such file"),
        ("timm:test_resnet", "a timm model is timm:NAME@FILE"),
        ("timm:test_resnet@gone.pth", "gone.pth: no such file"),
        (
            "weights.onnx",
            "a model is a checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@FILE, a file ending in .pt, .ts, .p",
        ),
        (".", "model.json: no such card"),
    ],
)
def test_what_is_no_model_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_model(text)


def images_of(*classes: str, labels: tuple[int, ...] = (0, 1)) -> ImageSet:
    def fetch(index: int) -> Tensor:
        return BATCH[index]

    return ImageSet(fetch, np.array(labels), classes, "two")


def matched(images: ImageSet, outputs: int, names: list[str] | None = None) -> tuple[list[int], tuple[str, ...]]:
    found = match_classes(LoadedModel(nn.Identity(), "m", "", ""), outputs, images, names)
    return found.labels.tolist(), found.notes


def test_other_classes_are_refused() -> None:
    images = images_of("a", "b")
    assert matched(images, 2) == ([0, 1], ())
    match_classes(LoadedModel(nn.Identity(), "m", "", "", ("a", "b")), 2, images)
    with pytest.raises(ValueError, match="m has 10 classes, two has 2: a, b, …; --classes FILE names"):
        matched(images, 10)
    with pytest.raises(ValueError, match="m: its classes are not those of two: it has no 'a'"):
        match_classes(LoadedModel(nn.Identity(), "m", "", "", ("b", "c")), 2, images)
    with pytest.raises(ValueError, match="m has 2 classes, 3 names"):
        matched(images, 2, ["a", "b", "c"])


def test_images_of_some_classes_are_matched_by_name_or_number() -> None:
    assert matched(images_of("0", "11", "5", labels=(0, 1, 2)), 12)[0] == [0, 11, 5]
    assert matched(images_of("00", "03"), 4)[0] == [0, 3]
    for classes in (("0", "4"), ("0", "x"), ("3", "03")):
        with pytest.raises(ValueError, match=r"m has 4 classes, two has 2: .*--classes FILE"):
            matched(images_of(*classes), 4)
    labels, notes = matched(images_of("a", "c"), 4, ["c", "b", "a", "d"])
    assert (labels, len(notes)) == ([2, 0], 1)
    named = match_classes(LoadedModel(nn.Identity(), "m", "", "", ("b", "x", "a")), 3, images_of("a", "b"))
    assert (named.labels.tolist(), named.classes) == ([2, 0], ("b", "x", "a"))


def test_a_class_without_images_is_one_if_the_network_has_it() -> None:
    images = images_of("a", "empty", "z", labels=(0, 2))
    assert matched(images, 3) == ([0, 2], ())
    labels, notes = matched(images, 2)
    assert labels == [0, 1]
    assert notes == ("empty: without images, and no class of m",)


def test_numbers_in_the_order_of_text_are_told() -> None:
    assert matched(images_of("0", "1", "2"), 3)[1] == ()
    assert matched(images_of("class_1", "class_2", "klass_10"), 3)[1] == ()
    assert matched(images_of("1a", "a", "2a"), 3)[1] == ()
    assert matched(images_of("class_1", "class_10", "class_2"), 3)[1] != ()
    (note,) = matched(images_of("0", "1", "10", "2"), 4)[1]
    assert "the order of text, as torchvision does: 0, 1, 10, 2" in note


def test_images_are_resized_for_a_model_of_larger_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("test_vit", num_classes=3).eval()
    safetensors.torch.save_file(model.state_dict(), "w.safetensors")
    loaded = load_model("timm:test_vit@w.safetensors", resize=160)
    images = torch.rand(2, 3, 32, 32)
    large = functional.interpolate(images, (160, 160), mode="bicubic", antialias=True)
    same = load_model("timm:test_vit@w.safetensors")
    assert torch.equal(loaded.module(images), same.module(large))
    assert loaded.description == "timm:test_vit@w.safetensors at 160"
    assert loaded.identity["mean"] == same.identity["mean"]
    assert loaded.identity != same.identity
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder: its card says what images are resized to"):
        load_model("folder", resize=160)
