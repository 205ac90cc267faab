import copy
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import NETWORK
from tests.helpers.checkpoints import CARD
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.data.loader import open_split
from transmooth.evaluation import shift
from transmooth.evaluation.shift import adapt_statistics, measure, normalised
from transmooth.models.build import Network, build
from transmooth.records import table as records
from transmooth.specs import RunSpec, ShiftSpec


def network(norm: str) -> Network:
    torch.manual_seed(0)
    made = build(NETWORK.model_copy(update={"norm": norm, "groups": 2}), 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    for module in made.modules():  # affine parameters that the normalised features must not contain
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, -1, 2)
            nn.init.normal_(module.bias)
    return made.eval()


@pytest.mark.parametrize("norm", ["instance", "group", "layer"])
def test_features_have_mean_0_and_variance_1_over_what_the_norm_takes_them_from(norm: str) -> None:
    features = dict(normalised(network(norm), torch.rand(4, 3, 16, 16)))
    assert len(features) == 12  # the stem, two in each of four blocks, three shortcuts
    first = next(iter(features.values()))
    groups = {"instance": first.shape[1], "group": 2, "layer": 1}[norm]
    grouped = first.reshape(4, groups, -1)
    assert torch.allclose(grouped.mean(-1), torch.zeros(4, groups), atol=1e-4)
    assert torch.allclose(grouped.var(-1, unbiased=False), torch.ones(4, groups), atol=0.05)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
def test_only_batch_norm_moves_with_the_statistics_and_all_with_the_weights(norm: str, digits: Path) -> None:
    before = network(norm)
    after = copy.deepcopy(before)
    with torch.no_grad():
        for parameter in after.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    train, test = open_split(digits, "train"), open_split(digits, "test")
    lines = measure(before, after, train, test, [0.0, 0.5], 40, seed=0)
    by = lines.groupby(["cause", "sigma"])["shift"]
    assert ((by.min()["statistics"] > 0) == (norm == "batch")).all()
    assert (by.max()["statistics"] == 0).all() == (norm != "batch")
    assert (by.mean()["finetuning"] > 0).all()
    assert lines["depth"].max() == 11
    same = measure(before, before, train, test, [0.0], 40, seed=0)
    assert (same[same["cause"] == "finetuning"]["shift"] == 0).all()


def test_adapted_statistics_are_those_of_clean_images(digits: Path) -> None:
    train = open_split(digits, "train")
    adapted = adapt_statistics(network("batch"), train)
    assert not any(module.training for module in adapted.modules())
    first = next(iter(dict(normalised(adapted, train.batch(range(len(train)))[0])).values()))
    assert torch.allclose(first.mean((0, 2, 3)), torch.zeros(first.shape[1]), atol=0.05)
    assert torch.allclose(first.var((0, 2, 3)), torch.ones(first.shape[1]), atol=0.1)


def test_a_job_compares_a_run_with_what_it_starts_from(digits: Path, tmp_path: Path) -> None:
    run = RunSpec(network="n", stages=("a@b", "c@d"), seed=5, dataset="digits", path="n/a@b/c@d/5")
    spec = ShiftSpec(run=run, sigmas=(0.0, 0.25), images=30)
    networks = {"start": network("batch"), "end": network("batch")}
    with torch.no_grad():
        networks["end"].backbone.get_parameter("conv1.weight").mul_(2)
    for name, made in networks.items():
        description = NETWORK.model_copy(update={"norm": "batch", "groups": 2}).dump()
        weights.save(tmp_path / name, made, CARD | {"network": description})
    part, out = tmp_path / "1-of-1.parquet", tmp_path / "records.parquet"
    shift.run(spec, digits, tmp_path / "end", tmp_path / "start", part, 0, 1, 256)
    shift.finish(spec, digits, [part], out)
    train, test = open_split(digits, "train"), open_split(digits, "test")
    expected = measure(networks["start"], networks["end"], train, test, (0.0, 0.25), 30, seed=5)
    pd.testing.assert_frame_equal(records.unseal(out).to_pandas(), expected)
    made_with = records.metadata(out)
    assert ShiftSpec.of(made_with["spec"]) == spec
    assert made_with["model"] == read_card(tmp_path / "end")["weights_sha256"]
