import pytest
import torch
from torch import nn

from tests.conftest import NETWORK
from transmooth.models.build import build
from transmooth.models.trainable import count_trained, set_train_mode
from transmooth.params.values import Trainable


@pytest.mark.parametrize(
    ("trainable", "learns", "moves"),
    [("all", "all", True), ("frozen_statistics", "all", False), ("head", "head", False), ("head_moving", "head", True)],
)
def test_what_a_step_changes(trainable: Trainable, learns: str, moves: bool) -> None:
    network = build(NETWORK.model_copy(update={"norm": "batch"}), 10, (0.0,) * 3, (1.0,) * 3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # the last one of a block begins at 0, and nothing before it would learn
    network.backbone.append_dropout = nn.Dropout()
    head = {"backbone.fc.weight", "backbone.fc.bias"}
    weights = {name for name, _ in network.named_parameters()}
    statistics = {name for name, _ in network.named_buffers()} - {"mean", "std"}
    assert statistics
    whole = sum(each.numel() for each in network.parameters())
    assert count_trained(network, trainable) == (whole if learns == "all" else 10 * 16 + 10)
    set_train_mode(network.eval(), trainable)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], 0.1)
    network(torch.rand(8, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == (weights if learns == "all" else head) | (statistics if moves else set())
    # What is no BatchNorm learns as it does elsewhere.
    dropout = network.backbone.get_submodule("append_dropout")
    assert dropout.training == (trainable != "head")
