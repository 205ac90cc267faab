"""Does AutoPGD find what there is to find, and what does it cost?

    python -m benchmarks.attack              # a minute
    python -m benchmarks.attack --quick      # seconds

On a linear network every image's distance to another class is known: what an attack misses within epsilon, and what it
claims beyond, is counted, also at logits x 1000, where float32 rounds probabilities to 1.  (Between ten classes a few
are missed however many the steps: the loss leads to a class that is not the nearest.)  Then transmooth attacks a small
network of convolutions, trained for seconds on scikit-learn's digits.  So does torchattacks, if it is installed: they
take turns on one thread.  Results are robust accuracies and the ratio of times, the median over rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from transmooth.smoothing.attack import attack

EPSILON = 1.0  # the network of convolutions withstands it on a part of the images
ROUNDS = 5


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Return that many images [N, 3, 8, 8] in [0, 1] and labels."""
    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.float32) / 16)[:count, None].expand(-1, 3, -1, -1).contiguous()
    return images, torch.from_numpy(found.target.astype(np.int64))[:count]


def linear(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Return a linear network, by 200 steps of gradient descent."""
    return _trained(nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10)), images, labels, 200)


def convolutional(images: Tensor, labels: Tensor, steps: int) -> nn.Sequential:
    """Return a small network of convolutions, by so many steps."""
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Flatten())
    return _trained(nn.Sequential(*layers, nn.Linear(32 * 9, 10)), images, labels, steps)


def _trained(network: nn.Sequential, images: Tensor, labels: Tensor, steps: int) -> nn.Sequential:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def distances(network: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """Return how far each image is from another class of a linear network: min_j (z_y − z_j) / ‖w_y − w_j‖, [N].

    Without regard to the range of pixels: within [0, 1] no point is nearer.
    """
    layer = network[1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        logits, weight = network(images), layer.weight
        gaps = logits.gather(1, labels[:, None]) - logits
        found: Tensor = (gaps / (weight[labels][:, None] - weight).norm(dim=2)).scatter(1, labels[:, None], torch.inf)
    return found.amin(1)


def exactness(images: Tensor, steps: int) -> dict[str, dict[str, int]]:
    """Return by losses and scale of the logits how many images within epsilon were missed, and claimed beyond it.

    epsilon: the median distance.  Images are in [0.4, 0.6], so that the nearest points are in [0, 1].
    """
    images = 0.4 + images / 5
    network = linear(images, digits(len(images))[1])
    labels = network(images).argmax(1)
    exact, found = distances(network, images, labels).numpy(), dict[str, dict[str, int]]()
    epsilon = float(np.median(exact))
    layer = network[1]
    assert isinstance(layer, nn.Linear)
    for scale in (1, 1000):
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.mul_(scale)
        for losses in (("cross_entropy",), ("cross_entropy", "margin")):
            frame = attack(network, images, labels.numpy(), epsilon=epsilon, steps=steps, losses=losses)
            robust = frame["robust"].to_numpy()
            missed, beyond = robust & (exact < epsilon * 0.999), ~robust & (exact > epsilon * 1.001)
            within = int((exact < epsilon).sum())
            key = f"{' + '.join(losses)}, logits x {scale}"
            found[key] = {"within": within, "missed": int(missed.sum()), "beyond": int(beyond.sum())}
    return found


def contestants(network: nn.Module, steps: int) -> dict[str, Callable[[Tensor, Tensor], float]]:
    """Return by name what attacks images with labels, on cross-entropy, and gives the robust accuracy."""

    def ours(images: Tensor, labels: Tensor) -> float:
        frame = attack(network, images, labels.numpy(), epsilon=EPSILON, steps=steps, losses=["cross_entropy"])
        return float(frame["robust"].mean())

    found: dict[str, Callable[[Tensor, Tensor], float]] = {"transmooth": ours}
    try:
        torchattacks: Any = import_module("torchattacks")
    except ImportError:
        return found

    def theirs(images: Tensor, labels: Tensor) -> float:
        made = torchattacks.APGD(network, norm="L2", eps=EPSILON, steps=steps, n_restarts=1, seed=0, loss="ce")
        points = made(images, labels)
        with torch.no_grad():
            return float((network(points).argmax(1) == labels).float().mean())

    return found | {"torchattacks": theirs}


def contest(images: Tensor, labels: Tensor, steps: int, rounds: int) -> dict[str, Any]:
    """Let all attack the same network in turns: robust accuracies, seconds, and ratios of times to ours."""
    network = convolutional(images, labels, 60)
    who = contestants(network, steps)
    accuracy, seconds = dict[str, float](), {name: list[float]() for name in who}
    for _ in range(rounds):
        for name, run in who.items():
            started = time.perf_counter()
            accuracy[name] = run(images, labels)
            seconds[name].append(time.perf_counter() - started)
    ratios = {
        name: statistics.median(theirs / ours for theirs, ours in zip(each, seconds["transmooth"], strict=True))
        for name, each in seconds.items()
    }
    both = attack(network, images, labels.numpy(), epsilon=EPSILON, steps=steps)
    clean = float((network(images).argmax(1) == labels).float().mean())
    return {
        "clean": clean,
        "robust": accuracy,
        "robust, margin too": float(both["robust"].mean()),
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "time relative to transmooth": ratios,
    }


def measure(quick: bool) -> Mapping[str, Any]:
    """Return all numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = digits(60 if quick else 500)
    steps, rounds = (15, 1) if quick else (50, ROUNDS)
    return {"linear": exactness(images, steps), "convolutions": contest(images, labels, steps, rounds)}


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, steps and rounds")
    print(json.dumps(measure(parser.parse_args().quick), indent=1))


if __name__ == "__main__":
    main()
