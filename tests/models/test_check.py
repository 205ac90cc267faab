"""A network that cannot be built or run is refused at once, in one line, and takes no memory to know."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import timm

from tests.conftest import NETWORK
from tests.helpers.calls import call
from tests.helpers.checkpoints import CARD
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.loading.models import load_model
from transmooth.models.build import Network
from transmooth.models.check import check, planned
from transmooth.specs import NetworkSpec


def changed(**changes: Any) -> NetworkSpec:
    return NETWORK.model_copy(update=changes)


def optional(**options: Any) -> NetworkSpec:
    return changed(options=NETWORK.options | options)


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        *(changed(norm=norm, groups=4) for norm in ("batch", "instance", "group")),
        changed(name="resnet50", stem="imagenet", norm="batch", options={}),
        changed(name="resnet50", stem="imagenet", norm="batch", options={}, weights="published"),
        changed(
            name="resnet50", stem="imagenet", norm="batch", options={"from": "~/a.safetensors"}, weights="published"
        ),
        optional(drop_rate=0.5, act_layer="gelu"),
    ],
    ids=lambda network: f"{network.name} {network.norm} {network.weights} {len(network.options)}",
)
def test_a_network_that_can_be_built_is_good(network: NetworkSpec) -> None:
    check(network)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (optional(stem_type="deeep"), "options.stem_type: 'deeep' changes nothing of resnet18; is it misspelt?"),
        (optional(layers=[1, 1]), "AttributeError: 'ResNet' object has no attribute 'layer3'"),
        (optional(channels=[8]), "AttributeError: 'ResNet' object has no attribute 'layer2'"),
        (optional(layers=[0, 0, 0, 0]), "RuntimeError: "),
        (optional(layers=[1.5, 1, 1, 1]), "TypeError: 'float' object cannot be interpreted as an integer"),
        (optional(chanels=[8]), "TypeError: ResNet.__init__() got an unexpected keyword argument 'chanels'"),
        (optional(global_pool="avvg"), "AssertionError: Invalid pool type: avvg"),
        (optional(act_layer="reluu"), "KeyError: 'reluu'"),
        (optional(features_only=True), "it gives no logits [images, classes]"),
        (changed(norm="group", groups=3), "num_channels (4) must be divisible by num_groups (3)"),
        (changed(name="resnot18"), "name: timm has no 'resnot18'"),
        (changed(name="hf-hub:timm/resnet18"), "name: timm has no 'hf-hub:timm/resnet18'"),
        (changed(name="local-dir:model"), "name: timm has no 'local-dir:model'"),
        (changed(name="convnext_atto", options={}), "stem: cifar fits ResNets; ConvNeXt has no conv1 and maxpool"),
        (optional(layers=[10**9, 1, 1, 1]), "options: 1e+09 is more than any network has of anything"),
        (optional(channels=[10**5, 10**5, 1, 1]), "it has more than 5000 parameters, or 20000000000 values in them"),
        (optional(checkpoint_path="w.pth"), "options.checkpoint_path: is not of a network, but of how timm makes one"),
        (optional(pretrained=True), "options.pretrained: is not of a network, but of how timm makes one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_built_or_run_is_refused_in_one_line(network: NetworkSpec, message: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011  (the whole line is compared)
        check(network)
    assert str(told.value).startswith(message)
    assert "\n" not in str(told.value)


def test_nothing_is_fetched_or_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    real = timm.create_model

    def noted(name: str, **arguments: Any) -> Any:
        asked.append(arguments)
        return real(name, **arguments)

    monkeypatch.setattr(timm, "create_model", noted)
    network = planned(changed(weights="published", norm="batch", stem="imagenet"), 10)
    assert [arguments["pretrained"] for arguments in asked] == [False]
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_there_are_no_more_parameters_than_asked_for() -> None:
    count = len(list(planned(NETWORK, 10).parameters()))
    values = sum(parameter.numel() for parameter in planned(NETWORK, 10).parameters())
    # The first convolution of timm, which the cifar stem replaces, counts too.
    assert planned(NETWORK, 10, 2 * count, 2 * values)
    for fewer in ((count - 1, 2 * values), (2 * count, values - 1)):
        with pytest.raises(ValueError, match=f"it has more than {fewer[0]} parameters, or {fewer[1]} values in them"):
            planned(NETWORK, 10, *fewer)


@pytest.mark.parametrize(
    "options",
    [{"layers": [10**9, 1, 1, 1]}, {"channels": [512] * 4}, {"layers": [40, 40, 40, 40]}, {"channels": [10**9] * 4}],
    ids=json.dumps,
)
def test_a_card_of_a_network_far_larger_than_its_weights_is_refused_at_once(
    network: Network, tmp_path: Path, options: dict[str, Any]
) -> None:
    weights.save(tmp_path, network, CARD | {"network": optional(**options).dump()})
    started = time.process_time()
    with pytest.raises(
        CheckpointError, match=r"model\.json: describes no network: .* more than (\d+ parameters|any network)"
    ):
        weights.load(tmp_path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_a_card_does_not_say_what_timm_loads(network: Network, tmp_path: Path, name: str) -> None:
    card = CARD | {"network": optional(**{name: str(tmp_path / "w.pth")}).dump()}
    weights.save(tmp_path / "model", network, card)
    with pytest.raises(CheckpointError, match=rf"describes no network: options\.{name}: is not of a network"):
        load_model(str(tmp_path / "model"))


def test_the_job_tells_all_faults_by_the_name_of_the_network() -> None:
    networks = {"good": NETWORK, "typo": optional(stem_type="deeep"), "gone": changed(name="resnot18")}
    spec = {name: network.dump() for name, network in networks.items()}
    assert call("job", "networks", "--spec", json.dumps(spec), status=1).stdout.splitlines() == [
        "typo: options.stem_type: 'deeep' changes nothing of resnet18; is it misspelt?",
        "gone: name: timm has no 'resnot18'",
    ]
    assert call("job", "networks", "--spec", json.dumps({"good": NETWORK.dump()})).stdout == ""


def test_a_training_of_ones_own_pictures_is_refused_before_they_are_read(tmp_path: Path) -> None:
    options = json.dumps({"stem_type": "deeep"})
    done = call("train", "no/such/pictures", "--out", tmp_path / "out", "--options", options, status=1)
    assert done.stderr == (
        f"transmooth: --network resnet18 --options {options}: options.stem_type: 'deeep' changes nothing of resnet18; "
        "is it misspelt?\n"
    )
