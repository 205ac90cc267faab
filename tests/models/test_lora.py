from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.conftest import NETWORK
from tests.helpers.specs import train_spec
from transmooth.checkpoint.card import read_card
from transmooth.models.build import Network, build
from transmooth.models.lora import LowRank, add_lora, merged_state
from transmooth.models.trainable import TRAINABLE, set_train_mode
from transmooth.training import loop

SIZES: dict[str, Any] = {"img_size": 8, "patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 3}


def vit(name: str = "vit_tiny_patch16_224", classes: int = 10, **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(timm.create_model(name, num_classes=classes, **options), (0.5,) * 3, (0.5,) * 3)


def trained(network: Network, steps: int = 3) -> None:
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], 0.1)
    for step in range(steps):
        images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), torch.arange(8)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("bias", [True, False])
def test_the_corrected_network_is_the_same_network_at_first(bias: bool) -> None:
    network, images = vit(**SIZES, qkv_bias=bias).eval(), torch.rand(4, 3, 8, 8)
    before, keys = network(images), [*network.state_dict()]
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    add_lora(network)
    assert torch.equal(network(images), before)
    merged = merged_state(network)
    assert [*merged] == keys
    assert all(torch.equal(tensor, plain[name]) for name, tensor in merged.items())


def test_the_network_of_the_paper_learns_as_many_parameters_as_it_says() -> None:
    with torch.device("meta"):
        network = vit("vit_base_patch16_224")
        add_lora(network)
    blocks = [module for module in network.modules() if isinstance(module, LowRank)]
    assert len(blocks) == 12
    learned = [(name, each) for name, each in network.named_parameters() if each.requires_grad]
    head = sum(each.numel() for each in network.head.parameters())
    assert head == 768 * 10 + 10
    assert sum(each.numel() for _, each in learned) - head == 147_456
    assert {name.rsplit(".", 1)[1] for name, _ in learned} == {"a_q", "b_q", "a_v", "b_v", "weight", "bias"}


def test_queries_and_values_learn_and_nothing_else_but_the_head() -> None:
    network = vit(**SIZES)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    add_lora(network)
    trained(network)
    after = merged_state(network)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    head = {"backbone.head.weight", "backbone.head.bias"}
    assert changed == head | {f"backbone.blocks.{block}.attn.qkv.weight" for block in range(2)}
    for block in range(2):
        name = f"backbone.blocks.{block}.attn.qkv.weight"
        q, k, v = (after[name] - before[name]).split(24)
        assert torch.equal(k, torch.zeros_like(k))
        for part in (q, v):  # every row learns, by a matrix of rank 4
            assert (part != 0).any(1).all()
            assert torch.linalg.matrix_rank(part, rtol=1e-4) == 4


@pytest.mark.parametrize("rank", [1, 4, 7])
def test_merged_is_what_was_trained(rank: int) -> None:
    network, images = vit(**SIZES), torch.rand(4, 3, 8, 8)
    start = network.eval()(images)
    add_lora(network, rank)
    trained(network.train())
    for module in network.modules():
        if isinstance(module, LowRank):  # far from the start, to see what is merged
            nn.init.normal_(module.b_q)
            nn.init.normal_(module.b_v)
    expected = network.eval()(images)
    plain = vit(**SIZES).eval()
    plain.load_state_dict(merged_state(network))
    torch.testing.assert_close(plain(images), expected, atol=1e-5, rtol=1e-5)
    assert (expected - start).abs().max() > 0.1


def test_corrections_start_from_the_seed() -> None:
    first, second, other = (vit(**SIZES) for _ in range(3))
    for network, seed in ((first, 1), (second, 1), (other, 2)):
        torch.manual_seed(seed)
        add_lora(network)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
        if name.endswith(("a_q", "a_v")):
            assert not torch.equal(tensor, other.state_dict()[name])
            assert 0.8 < tensor.abs().max() * 24**0.5 < 1  # Kaiming's bound for a = sqrt 5 is 1/sqrt(D)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "beit_base_patch16_224", "resnet18"])
def test_networks_that_make_q_k_and_v_otherwise_are_refused(name: str) -> None:
    with torch.device("meta"):
        network = vit(name)
        with pytest.raises(ValueError, match="trainable: lora fits timm's vision transformers"):
            add_lora(network)


def test_without_corrections_the_state_is_that_of_the_network() -> None:
    network = build(NETWORK, 10, (0.5,) * 3, (0.25,) * 3)
    state, merged = network.state_dict(), merged_state(network)
    assert [*merged] == [*state]
    assert all(torch.equal(tensor, merged[name]) for name, tensor in state.items())


def test_everything_is_in_train_mode() -> None:
    network = vit(**SIZES).eval()
    TRAINABLE["lora"](network)
    set_train_mode(network, "lora")
    assert all(module.training for module in network.modules())


def test_the_loop_leaves_the_weights_of_a_plain_network(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Network] = []

    def begin(*_: Any) -> Network:
        made.append(vit(**SIZES))
        made[-1].spec = NETWORK
        return made[-1]

    monkeypatch.setattr(loop, "begin", begin)
    loop.train(train_spec(trainable="lora", lr=[0.01]), digits, tmp_path)
    learned, written, _ = made
    assert any(isinstance(module, LowRank) for module in learned.modules())
    assert not any(isinstance(module, LowRank) for module in written.modules())
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(written.cpu()(images), learned.eval()(images), atol=1e-5, rtol=1e-5)
    card = read_card(tmp_path)
    assert card["test"]["correct"] > 100
    # Of two blocks: four matrices of rank 4 each, and the head; merged, the network has none of its own any more.
    learning = 2 * 4 * (4 * 24) + 24 * 10 + 10
    assert card["parameters"] == {"all": sum(each.numel() for each in written.parameters()), "trained": learning}
