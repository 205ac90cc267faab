import torch

from tests.conftest import NETWORK
from transmooth.models.build import build
from transmooth.models.trainable import TRAINABLE, set_train_mode


def test_fixed_features_do_not_move_and_batch_norm_keeps_its_statistics() -> None:
    network = build(NETWORK.model_copy(update={"norm": "batch"}), 10, (0.0,) * 3, (1.0,) * 3)
    TRAINABLE["head"](network)
    set_train_mode(network, "head")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network(torch.rand(8, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}


def test_the_full_network_trains_and_its_batch_norm_moves() -> None:
    network = build(NETWORK.model_copy(update={"norm": "batch"}), 10, (0.0,) * 3, (1.0,) * 3)
    TRAINABLE["all"](network)
    set_train_mode(network, "all")
    mean = network.backbone.get_buffer("bn1.running_mean").clone()
    network(torch.rand(8, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not torch.equal(mean, network.backbone.get_buffer("bn1.running_mean"))
