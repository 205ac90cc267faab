import math

import torch
from torch import nn

from transmooth.noise import add_noise
from transmooth.objectives import load_objective


def test_clean_cross_entropy_of_known_logits() -> None:
    class Constant(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[math.log(3.0), 0.0]]).expand(len(images), 2)

    labels, sigma = torch.tensor([0, 0, 1]), torch.zeros(3)
    loss, metrics = load_objective("cross_entropy")(
        Constant(), add_noise, torch.rand(3, 3, 4, 4), labels, sigma, torch.Generator().manual_seed(0)
    )
    # Probabilities 3/4 and 1/4: the mean of -ln(3/4), -ln(3/4), -ln(1/4).
    assert math.isclose(loss.item(), -(2 * math.log(0.75) + math.log(0.25)) / 3, rel_tol=1e-6)
    assert metrics["score"].item() == 2


def test_noise_reaches_the_model() -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.zeros(len(images), 2)

    images = torch.full((2, 3, 32, 32), 0.5)
    generator = torch.Generator().manual_seed(0)
    load_objective("cross_entropy")(
        Spy(), add_noise, images, torch.zeros(2).long(), torch.tensor([0.0, 0.5]), generator
    )
    assert torch.equal(seen[0][0], images[0])
    assert 0.45 < (seen[0][1] - images[1]).std() < 0.55


def test_what_the_classifier_sees_is_the_view() -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, :2]

    def halved(images: torch.Tensor, sigma: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images / 2 + sigma[:, None, None, None]

    images, sigma = torch.rand(2, 3, 4, 4), torch.tensor([0.0, 0.5])
    load_objective("cross_entropy")(Spy(), halved, images, torch.tensor([0, 1]), sigma, torch.Generator())
    assert torch.equal(seen[0][0], images[0] / 2)
    assert torch.equal(seen[0][1], images[1] / 2 + 0.5)
