"""Checkpoints and other people's weights."""

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
from huggingface_hub import constants

from tests.bad_inputs import Case, Code
from tests.conftest import NETWORK
from tests.helpers.checkpoints import CARD as SOUND
from transmooth import files
from transmooth.checkpoint import resume, weights
from transmooth.loading.models import load_model
from transmooth.models.build import build

MODEL = Path("model")
CARD, WEIGHTS = MODEL / "model.json", MODEL / "model.safetensors"
DESCRIBES = f"{CARD}: describes no network: "
FITS = f"{WEIGHTS}: does not fit resnet18: "


@cache
def network() -> Any:
    torch.manual_seed(0)
    return build(NETWORK, 10, (0.5,) * 3, (0.25,) * 3)


def load() -> str:
    loaded = load_model(str(MODEL))
    return f"{len(loaded.classes or ())} classes"


def card(**changes: Any) -> Callable[[], str]:
    """A sound checkpoint whose card says something else."""

    def use() -> str:
        weights.save(MODEL, network(), SOUND | changes)
        return load()

    return use


def described(**changes: Any) -> Callable[[], str]:
    return card(network=NETWORK.dump() | changes)


def without_classes() -> str:
    described = NETWORK.model_copy(update={"head": "projection"})
    weights.save(MODEL, build(described, 10, (0.5,) * 3, (0.25,) * 3), SOUND | {"network": described.dump()})
    return load()


def carded(content: str | None) -> Callable[[], str]:
    """A card of another content, or a folder in its place."""

    def use() -> str:
        weights.save(MODEL, network(), SOUND)
        CARD.unlink()
        CARD.mkdir() if content is None else CARD.write_text(content)
        return load()

    return use


def other_weights(content: Callable[[], bytes]) -> Callable[[], str]:
    """Other weights, with a card that has their hash: somebody meant it."""

    def use() -> str:
        path = Path("other")
        path.write_bytes(content())
        weights.save(MODEL, network(), SOUND)
        path.rename(WEIGHTS)
        text = json.loads(CARD.read_text()) | {"weights_sha256": files.sha256(WEIGHTS), "format": 1}
        text.pop("checksum", None)
        CARD.write_text(json.dumps(text))
        return load()

    return use


def state(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], bytes]:
    return lambda: safetensors.torch.save({name: change(tensor) for name, tensor in network().state_dict().items()})


def named(text: str) -> Callable[[], object]:
    return lambda: load_model(text).description


def offline(text: str) -> Callable[[], object]:
    """A model of a hub that was never fetched, with no network; the same wherever the tests run."""

    def use() -> object:
        with patch.multiple(constants, HF_HUB_OFFLINE=True, HF_HUB_CACHE="cache"):
            return load_model(text).description

    return use


def timm_weights() -> object:
    safetensors.torch.save_file({"x": torch.zeros(1)}, "w.safetensors")
    return load_model("timm:resnet18@w.safetensors").description


def resumed() -> object:
    Path("resume.pt").write_bytes(pickle.dumps(Code()))
    return resume.load_state(Path("resume.pt"), {})


CASES = [
    Case("a card that is a list", f"{CARD}: not a card: …", carded("[]")),
    Case("a card with half a character", f"{CARD}: not a card: … surrogates not allowed", carded('{"a": "\\ud800"}')),
    Case(
        "a card of lists in lists in lists, 100 000 deep",
        f"{CARD}: not a card: nested too deeply",
        carded('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ),
    Case(
        "a card of 40 MB",
        f"{CARD}: not a card: it has 41943049 bytes, should have at most 33554432",
        carded('{"a": "' + " " * 40 * 2**20 + '"}'),
    ),
    Case("a card that is a folder", f"[Errno 21] Is a directory: '{CARD}'", carded(None)),
    Case(
        "a card that lacks keys",
        f"{CARD}: not a card: it should name classes, mean, network, std, weights_sha256",
        carded('{"format": 1}'),
    ),
    Case(
        "a card of a network that timm has not",
        f"{DESCRIBES}name: timm has no 'resnot18'",
        described(name="resnot18"),
    ),
    Case(
        "a card that names a network on a hub",
        f"{DESCRIBES}name: timm has no 'hf-hub:a/b'",
        described(name="hf-hub:a/b"),
    ),
    Case(
        "a card of published weights: they are here, none are fetched",
        "read: 10 classes",
        described(weights="published"),
    ),
    Case(
        "a card of an unknown norm",
        f"{DESCRIBES}network.norm: Input should be 'batch', 'instance', 'group', 'layer' or 'own'",
        described(norm="weight"),
    ),
    Case(
        "a card with a key that no network has",
        f"{DESCRIBES}network.stems: Extra inputs are not permitted",
        described(stems="cifar"),
    ),
    Case(
        "a card of a billion layers",
        f"{DESCRIBES}options: 1e+09 is more than any network has of anything",
        described(options={"layers": [10**9, 1, 1, 1]}),
    ),
    Case(
        "a card of a network far larger than its weights",
        f"{DESCRIBES}it has more than … parameters, or … values in them",
        described(options={"layers": [40, 40, 40, 40]}),
    ),
    Case(
        "a card that has timm load another file",
        f"{DESCRIBES}options.checkpoint_path: is not of a network, but of how timm makes one",
        described(options={"checkpoint_path": "w.pth"}),
    ),
    Case("a card of another norm than the weights", f"{FITS}…backbone.bn1.running_mean…", described(norm="batch")),
    Case(
        "a network that learned without classes, by SimCLR, and was not finetuned",
        f"{MODEL}: was pretrained without classes; finetune it first",
        without_classes,
    ),
    Case(
        "a card of another head than the weights",
        f"{FITS}Error(s) in loading state_dict for Network: Missing key(s) in state_dict: "
        '"backbone.fc.0.weight", "backbone.fc.0.bias", "backbone.fc.2.weight", "backbone.fc.2.bias". …',
        described(head="projection"),
    ),
    Case("a card of an unknown option", f"{DESCRIBES}TypeError: …'depth'", described(options={"depth": 3})),
    Case(
        "a card with a number for the classes",
        f"{DESCRIBES}TypeError: object of type 'int' has no len()",
        card(classes=10),
    ),
    Case(
        "a card of other classes than the weights",
        f"{FITS}…size mismatch for backbone.fc.weight…",
        card(classes=["a", "b"]),
    ),
    Case(
        "a card with one number for the mean",
        "model/model.safetensors: does not fit resnet18: … size mismatch for mean: …",
        card(mean=[0.5]),
    ),
    Case(
        "a pickle with code in it, called model.safetensors",
        f"{WEIGHTS}: not weights: Error while deserializing header: …",
        other_weights(lambda: pickle.dumps(Code())),
    ),
    Case(
        "weights that are cut off",
        f"{WEIGHTS}: not weights: Error while deserializing header: …",
        other_weights(lambda: state(torch.clone)()[:-100]),
    ),
    Case(
        "weights of no bytes",
        f"{WEIGHTS}: not weights: Error while deserializing header: …",
        other_weights(lambda: b""),
    ),
    Case(
        "weights that are NaN",
        f"{WEIGHTS}: the weights are NaN (backbone.…): the training diverged",
        other_weights(state(lambda tensor: tensor * float("nan"))),
    ),
    Case("a state to resume from that is a pickle with code in it: training starts anew", "read: None", resumed),
    Case("a network that timm has not", "w.safetensors: no such file", named("timm:resnot18@w.safetensors")),
    Case(
        "weights of another network",
        "w.safetensors: does not fit timm's resnet18: it lacks 102 of 102, such as 'conv1.weight'; there are 1 tensors "
        "with 'x'",
        timm_weights,
    ),
    Case(
        "a .pth without the network that it is for",
        "no model 'w.pth': a model is a checkpoint folder, hf-hub:OWNER/NAME, timm:NAME@FILE, a file ending in .pt, "
        ".ts, .pt2, or package.module:function",
        named("w.pth"),
    ),
    Case(
        "a model of a hub without its owner",
        "a repository on a hub is OWNER/NAME, of letters, digits, '-', '_' and '.'; found 'digits'",
        named("hf-hub:digits"),
    ),
    Case(
        "a revision of a hub with a blank in it",
        "a model of a hub is hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION, found 'hf-hub:a/b@c d'",
        named("hf-hub:a/b@c d"),
    ),
    Case(
        "a model of a hub, without a network",
        "hf-hub:a/b: not in the cache, and the hub cannot be reached: …",
        offline("hf-hub:a/b"),
    ),
    Case(
        "a function that returns no network",
        "os:getcwd: should return a torch.nn.Module, returned str",
        named("os:getcwd"),
    ),
]
