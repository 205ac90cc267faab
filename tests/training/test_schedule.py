"""The course of learning rate and weight decay, the shares of layers, and the clipping of gradients."""

import math
from pathlib import Path

import pytest
import timm
import torch
from accelerate import Accelerator

from tests.helpers.specs import train_spec
from transmooth.data.loader import open_split
from transmooth.models.build import Network
from transmooth.training import loop
from transmooth.training.schedule import Course, create_optimizer
from transmooth.training.task import Task


def test_a_course_that_is_planned_for_more_epochs_ends_on_the_way() -> None:
    schedule = train_spec(epochs=2, of_epochs=4, warmup_epochs=1, weight_decay=0.04, weight_decay_end=0.4).schedule
    course = Course(schedule, epoch_steps=10)
    weight, bias = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups = [{"params": [weight], "lr_scale": 0.5}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.04)
    found = []
    for step in range(20):
        course.set(optimizer, 2.0, step)
        decayed, plain = optimizer.param_groups
        assert decayed["lr"] == plain["lr"] / 2
        assert plain["weight_decay"] == 0  # of norms and biases
        found.append((plain["lr"], decayed["weight_decay"]))
    assert [lr for lr, _ in found[:10]] == pytest.approx([0.2 * k for k in range(1, 11)])
    # Half a cosine from 2 over the 30 steps after the warm-up, of which 10 are taken.
    assert found[19][0] == pytest.approx(1 + math.cos(math.pi * 9 / 30))
    assert found[0][1] == 0.04
    assert found[10][1] == pytest.approx(0.04 + 0.36 * (1 - math.cos(math.pi * 10 / 40)) / 2)


def test_without_these_keys_nothing_of_them_is_in_a_spec() -> None:
    new = {"of_epochs", "weight_decay_end", "layer_decay", "clip"}
    assert not new & train_spec().schedule.dump().keys()
    assert train_spec(clip=0.3).schedule.dump()["clip"] == 0.3


def test_each_layer_learns_slower_than_the_one_after_it() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, num_classes=4)
    schedule = train_spec(layer_decay=0.5, weight_decay=0.1).schedule
    optimizer = create_optimizer(Network(vit, (0.5,) * 3, (0.5,) * 3), schedule, 1.0)
    scale = {id(each): group["lr_scale"] for group in optimizer.param_groups for each in group["params"]}
    decay = {id(each): group["weight_decay"] for group in optimizer.param_groups for each in group["params"]}
    assert scale[id(vit.head.weight)] == 1
    assert [scale[id(block.attn.qkv.weight)] for block in vit.blocks] == [0.125, 0.25, 0.5]
    assert scale[id(vit.patch_embed.proj.weight)] == 0.0625
    assert decay[id(vit.head.weight)] == 0.1
    assert decay[id(vit.head.bias)] == decay[id(vit.blocks[0].norm1.weight)] == 0
    assert len(scale) == len(list(vit.parameters()))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_norm_of_the_whole_gradient_is_clipped(digits: Path, network: Network, accumulate: int) -> None:
    moved = {}
    for clip in (None, 0.01):
        spec = train_spec(clip=clip, accumulate=accumulate, optimizer="sgd")
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        model, prepared = accelerator.prepare(network.train(), optimizer)
        loop.train_step(accelerator, Task(spec), model, prepared, open_split(digits, "train"), 32, 0)
        change = [parameter - state[name] for name, parameter in network.named_parameters()]
        moved[clip] = torch.cat([each.detach().flatten() for each in change])
        network.load_state_dict(state)
    assert moved[0.01].norm() == pytest.approx(0.01, rel=1e-3)
    assert moved[None].norm() > 0.1
    cosine = torch.cosine_similarity(moved[0.01], moved[None], dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-4)
