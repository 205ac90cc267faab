import gzip
import json
import zipfile
from argparse import Namespace
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from transmooth.loading.state import State, find_state, read_containers


class Net(nn.Sequential):
    """Names 0.weight, 1.weight, 1.running_mean, 1.num_batches_tracked, …"""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


class Mine(list[int]):
    """A list of a script's own."""


NAMES = list(Net().state_dict())


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Net().state_dict()


def behind(prefix: str, seed: int = 0) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights(seed).items()}


def read(content: Any, folder: Path) -> State:
    torch.save(content, folder / "w.pth")
    return find_state(read_containers(folder / "w.pth"), NAMES)


def same(state: State, expected: dict[str, Tensor]) -> bool:
    return state.weights.keys() == expected.keys() and all(torch.equal(state.weights[k], expected[k]) for k in expected)


LAYOUTS = {
    "plain": weights(),
    "locuslab": {"epoch": 1, "arch": "resnet50", "state_dict": behind("1.module."), "optimizer": {"state": {}}},
    "DataParallel": {"net": behind("module."), "acc": 95.1},
    "the tutorial's": {"model_state_dict": weights(), "epoch": 3, "loss": torch.tensor(0.1)},
    "lightning": {"state_dict": behind("model.") | {"criterion.weight": torch.ones(2)}, "hyper_parameters": {"lr": 1}},
    "torch.compile": behind("_orig_mod."),
    "compiled in DDP": {"model": behind("_orig_mod.module.")},
    "a part of it in DataParallel": {name.replace("1.", "1.module."): tensor for name, tensor in weights().items()},
    "a Namespace beside": {"state_dict": weights(), "args": Namespace(lr=0.1, paths=[Path("x")])},
    "before num_batches_tracked": {k: v for k, v in weights().items() if not k.endswith("tracked")},
    "twice the same": {"model": weights(), "best": weights()},
    "NumPy beside": {"model": weights(), "best": np.float64(0.9), "random": np.random.RandomState(0).get_state()},
    "in a tuple": (weights(), 3),
    "in a list of tuples": [("epoch", 3), ("weights", {"net": behind("module.")})],
    "the same in DataParallel too": behind("module.") | weights(),
    "dicts of other kinds beside": {"model": weights(), "log": defaultdict(deque, {1: deque([2])}), "seen": {1, 2}},
    "plain values of Python beside": {"model": weights(), "crop": slice(1, 2), "epochs": range(3), "z": 1j},
    "beside a whole module": {"model": Net(), "state_dict": weights()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_training_scripts_are_read(layout: str, tmp_path: Path) -> None:
    state = read(LAYOUTS[layout], tmp_path)
    expected = weights()
    if layout.startswith("before"):
        del expected["1.num_batches_tracked"]
    assert same(state, expected)
    assert (state.mean, state.std) == (None, None)
    left = ("left out, beside the network: criterion.weight",) if layout == "lightning" else ()
    assert state.notes == left
    Net().load_state_dict(dict(state.weights))


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(["module", "model", "0", "net", "_orig_mod", "encoder"]), max_size=4),
    st.text("ab", max_size=3),
)
def test_any_prefix_in_any_container_is_found(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], key: str
) -> None:
    content: Any = behind("".join(f"{part}." for part in parts))
    state = read({key: content, "other": {"weight": torch.ones(3)}} if key else content, tmp_path_factory.mktemp("w"))
    assert same(state, weights())


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": weights(1), "state_dict_ema": weights()},
        {"model": weights(1), "model_ema": behind("module.")},
        {"state_dict": behind("model.", 1) | behind("ema_model.")},
        {"net": weights(1), "ema": {"decay": 0.9, "shadow": weights()}},
    ],
)
def test_a_running_average_is_taken_and_told(content: Any, tmp_path: Path) -> None:
    state = read(content, tmp_path)
    assert same(state, weights())
    (note,) = state.notes
    assert note.startswith("took the running average (EMA) '")


def test_the_normalisation_beside_the_weights_is_theirs(tmp_path: Path) -> None:
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.1])
    beside = {"0._mean": mean.view(1, 3, 1, 1), "0._std": std.view(1, 3, 1, 1)}
    state = read({"state_dict": behind("1.module.") | beside}, tmp_path)
    assert state.mean == pytest.approx([0.4, 0.5, 0.6])
    assert state.std == pytest.approx([0.2, 0.3, 0.1])
    assert state.notes == ()
    state = read(weights() | {"pixel_mean": mean * 255, "pixel_std": std * 255}, tmp_path)
    assert state.mean == pytest.approx([0.4, 0.5, 0.6])
    assert state.std == pytest.approx([0.2, 0.3, 0.1])
    twice = behind("1.") | beside | {"2.mean": mean + 0.1, "2.std": std}
    assert read(twice, tmp_path).mean is None


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": weights(), "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]},
        {"state_dict": weights(), "mean": torch.tensor([0.4, 0.5, 0.6]), "std": torch.tensor([0.2, 0.3, 0.1])},
        {"state_dict": weights(), "args": Namespace(image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.3, 0.1))},
        {"state_dict": weights(), "hyper_parameters": {"data": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}}},
    ],
)
def test_a_mean_and_std_elsewhere_in_the_file_are_taken_and_told(content: Any, tmp_path: Path) -> None:
    state = read(content, tmp_path)
    assert state.mean == pytest.approx([0.4, 0.5, 0.6])
    assert state.std == pytest.approx([0.2, 0.3, 0.1])
    assert state.notes == ("took mean 0.4,0.5,0.6 and std 0.2,0.3,0.1, which stand in the file",)


@pytest.mark.parametrize(
    "beside",
    [
        {"results": {"mean": [93.0, 92.0, 94.0], "std": [0.1, 0.2, 0.3]}},  # of accuracies
        {"mean": [0.4, 0.5, 0.6], "sigmas": [0.25, 0.5, 1.0]},  # of the noise
        {"mean": [0.4, 0.5, 0.6]},
        {"mean": [0.5], "std": [0.5]},  # of three channels, or of anything
        {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "other": {"mean": [0.1, 0.1, 0.1]}},
        {"mean": "rgb", "std": [0.2, True, "a"]},
    ],
)
def test_numbers_that_may_be_of_something_else_are_no_mean_and_std(beside: Any, tmp_path: Path) -> None:
    state = read({"state_dict": weights()} | beside, tmp_path)
    assert (state.mean, state.std, state.notes) == (None, None, ())


def test_a_running_average_that_cannot_be_taken_is_told(tmp_path: Path) -> None:
    parameters = {name: tensor for name, tensor in weights().items() if "running" not in name and "num" not in name}
    assert len(parameters) == 6
    for ema, lacks in (({"shadow": parameters}, "2 of 8"), ({"shadow": list(parameters.values())}, "8 of 8")):
        state = read({"model": weights(1), "ema": ema}, tmp_path)
        assert same(state, weights(1))
        (note,) = state.notes
        assert note.startswith(f"passed over a running average (EMA): its 'ema.shadow' lacks {lacks}, such as ")
    assert read({"model": weights(), "ema": {"step": torch.ones(1)}}, tmp_path).notes == ()


def test_a_mean_without_a_std_is_left_out_and_told(tmp_path: Path) -> None:
    state = read(behind("1.") | {"0.mean": torch.tensor([0.4, 0.5, 0.6])}, tmp_path)
    assert (state.mean, state.notes) == (None, ("left out, beside the network: 0.mean",))


def test_a_file_is_taken_for_what_it_is(tmp_path: Path) -> None:
    def found(name: str) -> State:
        return find_state(read_containers(tmp_path / name), NAMES)

    tensors = {name: tensor.contiguous() for name, tensor in weights().items()}
    safetensors.torch.save_file(tensors, tmp_path / "W.pth", metadata={"format": "pt"})
    torch.save(weights(), tmp_path / "w.safetensors")
    torch.save(weights(), tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("W.pth", "w.safetensors", "old"):
        assert same(found(name), weights()), name
    first, second = (dict(list(tensors.items())[part]) for part in (slice(4), slice(4, None)))
    parts = {"w-00001-of-00002.safetensors": first, "w-00002-of-00002.safetensors": second}
    for name, part in parts.items():
        safetensors.torch.save_file(part, tmp_path / name)
    names = {key: f"elsewhere/{name}" for name, part in parts.items() for key in part}
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert same(found(index.name), weights())
    with pytest.raises(ValueError, match=r"is one of 2 files; name their index"):
        found("w-00001-of-00002.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "w-00001-of-00001.safetensors")
    assert same(found("w-00001-of-00001.safetensors"), weights())
    (tmp_path / "w-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names 2 files, of which w-00002-of-00002.safetensors is not there"):
        found(index.name)


def zipped(*names: str) -> bytes:
    with zipfile.ZipFile("made.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return Path("made.zip").read_bytes()


def test_what_is_no_file_of_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content, message in (
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html>", "is a page of the web"),
        (gzip.compress(b"x"), "is packed by gzip"),
        (b'{"a": 1}', "is no index of safetensors: it should have a weight_map"),
        (b'{"weight_map": [1]}', "is no index of safetensors"),
        (zipped("w/data.pkl", "w/constants.pkl"), "is a program of torch.jit, .*: call it w.ts, .* without timm:"),
        (zipped("a.txt"), "is a zip archive, but not of torch.save"),
        (b"hello", "is not what torch.save writes: KeyError"),
    ):
        Path("w.pth").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_containers(Path("w.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            behind("module.") | weights(1),
            r"holds several networks: of '0.weight' there are two",
        ),
        (
            {"losses": [torch.ones(1)] * 20, "net": {k: v for k, v in weights().items() if k != "3.bias"}},
            r"its 'net' lacks 1 of 8, such as '3.bias'",
        ),
        (
            {"model": weights(), "meter": Mine([1])},
            r"beside them what is not read \(Can only append to lists, .*Mine.*\); .*the weights alone",
        ),
        (Net(), r"holds a pickled module \(.*Net\), which is code and not loaded; .*state_dict\(\)"),
        ({"model": Net(), "epoch": 1}, r"holds a pickled module \(.*Net\)"),
        ({"epoch": 1, "acc": 2.0}, r"holds no weights, but dict with 'epoch', 'acc'"),
        ([1, 2], "holds no weights, but list"),
        ({"a": weights(), "b": weights(1)}, r"holds several networks, 'a', 'b': save the weights of one"),
        ({"a_ema": weights(), "b_ema": weights(1)}, r"holds several networks, 'a_ema', 'b_ema'"),
        (
            {k: v for k, v in weights().items() if k != "3.bias"},
            r"it lacks 1 of 8, such as '3.bias'; there are 8 tensors with '0.weight', '0.bias', '1.weight', '1.bias'",
        ),
        (
            {"x": {"fc.weight": torch.ones(2)}},
            r"its 'x' lacks 8 of 8, such as '0.weight'; there are 1 tensors",
        ),
        (weights() | {"4.weight": torch.ones(2)}, "has weights that the network has not: '4.weight'"),
    ],
)
def test_what_does_not_fit_says_what_is_there(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(content, tmp_path)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, ("open('ran', 'w')",))

    with pytest.raises(ValueError, match=r"holds code \(exec\), which is not run"):
        read({"state_dict": weights(), "code": Evil()}, tmp_path)
    assert not Path("ran").exists()
