"""Does the training step use the machine?  Against a plain PyTorch loop, and against the network alone.

    python benchmarks/train.py            # CIFAR-10-sized images made here; about 2 minutes on 2 cores
    python benchmarks/train.py --cores 1  # on one core with all its loaders, as beside other jobs
    python benchmarks/train.py --json     # ends with one line of JSON
    python benchmarks/train.py --paper    # also time and memory of the paper study's step: ResNet-152 at 32x32, and how
                                          # fast the CPU hands images to a GPU

The same network, images, batch and precision, each in a process of its own, taking turns; ratios within a round,
median (lowest to highest).  The plain loop is what most training scripts do: a DataLoader (2 workers, 1 with --cores 1)
over pictures with torchvision's random crop and flip, `x + sigma * torch.randn_like(x)`, autocast, SGD.  `network
alone` repeats our forward, backward and step on one batch that is there: what no input pipeline can beat.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from transmooth.data.loader import Split
from transmooth.data.order import batch_indices
from transmooth.models.build import Network, build
from transmooth.noise import draw_sigmas
from transmooth.params.values import Norm
from transmooth.runtime import memory
from transmooth.specs import NetworkSpec, ScheduleSpec, TrainSpec
from transmooth.training.loop import train_step
from transmooth.training.schedule import OPTIMIZERS
from transmooth.training.task import Task

SIGMAS = (0.0, 0.25, 0.5, 1.0)
IMAGES, CLASSES = 10_000, 10
CPU: tuple[str, dict[str, Any]] = (
    "resnet18",
    {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8},
)
CUDA: tuple[str, dict[str, Any]] = ("resnet50", {})

# One step; images in a batch.
Step = Callable[[], Any]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures in memory with the transforms of the usual training script."""

    def __init__(self, images: np.ndarray[Any, np.dtype[np.uint8]], labels: np.ndarray[Any, Any]) -> None:
        self.images, self.labels = images, labels
        self.transform = v2.Compose(
            [
                v2.RandomCrop(images.shape[1], padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def network(name: str, norm: Norm, options: dict[str, Any], device: torch.device) -> Network:
    torch.manual_seed(0)
    spec = NetworkSpec(name=name, stem="cifar", norm=norm, groups=1, options=options)
    made = build(spec, CLASSES, (0.5,) * 3, (0.25,) * 3)
    return made.to(device).to(memory_format=torch.channels_last)


def sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return OPTIMIZERS["sgd"](list(model.parameters()), 0.01, 1e-4)


def ours(model: Network, split: Split, batch: int, device: torch.device) -> Step:
    memory.keep()  # as the command line does
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16")
    prepared, optimizer = accelerator.prepare(model.train(), sgd(model))
    schedule = ScheduleSpec(
        epochs=1,
        warmup_epochs=0,
        batch=batch,
        lr=(0.01,),
        optimizer="sgd",
        weight_decay=1e-4,
        precision="bf16",
        accumulate=1,
        processes=1,
    )
    spec = TrainSpec(
        seed=0,
        objective="cross_entropy",
        options={},
        sigmas=tuple(SIGMAS),
        noise="uniform",
        views=1,
        trainable="all",
        schedule=schedule,
        augment=("flip", "crop"),
    )
    steps = iter(range(10**9))
    return lambda: train_step(accelerator, Task(spec), prepared, optimizer, split, batch, next(steps))


def plain(model: Network, split: Split, batch: int, device: torch.device) -> Step:
    pictures = Pictures(split.images, split.labels)
    workers = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    loader = DataLoader(pictures, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = forever()
    optimizer = torch.optim.SGD(model.train().parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        images, labels = (tensor.to(device) for tensor in next(batches))
        sigma = draw_sigmas(SIGMAS, len(images), generator)
        images = images + sigma[:, None, None, None] * torch.randn_like(images)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def alone(model: Network, split: Split, batch: int, device: torch.device) -> Step:
    memory.keep()
    images, labels = (tensor.to(device) for tensor in split.batch(range(batch)))
    optimizer = sgd(model.train())

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


CONTESTANTS: dict[str, Callable[[Network, Split, int, torch.device], Step]] = {
    "transmooth": ours,
    "plain PyTorch loop": plain,
    "network alone": alone,
}


def compete(
    connection: Connection, contestant: str, pixels: Path, batch: int, seconds: float, cores: int | None
) -> None:
    """A process that trains for so many seconds at each request, and answers with its images a second."""
    if cores:
        os.sched_setaffinity(0, range(cores))  # its loaders, too
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, layers = CUDA if device.type == "cuda" else CPU
    step = CONTESTANTS[contestant](network(name, "layer", layers, device), pictures(pixels), batch, device)
    rate(step, batch, 1)
    connection.send(0.0)  # ready
    while connection.recv():
        connection.send(rate(step, batch, seconds))


def pictures(pixels: Path) -> Split:
    images = np.load(pixels, mmap_mode="r")
    labels = np.random.default_rng(0).integers(0, CLASSES, len(images))
    return Split(images, labels, tuple(map(str, range(CLASSES))), images.shape[1], (0.5,) * 3, (0.25,) * 3)


def rate(step: Step, batch: int, seconds: float) -> float:
    """Images a second over about that many seconds."""
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # not after each step: a training does not wait either
    return steps * batch / (time.perf_counter() - started)


def spread(values: list[float], digits: int = 2) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def paper_step(pixels: Path, batch: int = 128) -> dict[str, float]:
    """Seconds, FLOP and memory of one step of the paper study's pretraining."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = network("resnet152", "layer", {}, device)
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 3, 32, 32, device=device))
    step = ours(model, pictures(pixels), batch, device)
    step()
    seconds = batch / rate(step, batch, 1)
    found = {"gflop_forward_per_image": counter.get_total_flops() / 1e9, "seconds_per_step": seconds}
    found["host_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        found["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def host_input(folder: Path, size: int, batch: int = 128) -> float:
    """Images a second that the CPU hands to a GPU, which augments them and adds the noise: from file to tensor."""
    pixels = folder / f"{size}.npy"
    np.save(pixels, np.random.default_rng(0).integers(0, 256, (2000, size, size, 3), np.uint8))
    split, steps = pictures(pixels), iter(range(10**9))
    return rate(lambda: split.pixels(batch_indices(len(split), batch, next(steps), 0, 0, 1)), batch, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each contestant in a round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cores", type=int, help="keep each contestant and its loaders on so many cores (Linux)")
    parser.add_argument("--paper", action="store_true", help="also the paper study's step")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    print(f"torch {torch.__version__}, {device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    spawn = multiprocessing.get_context("spawn")
    rates: dict[str, list[float]] = {contestant: [] for contestant in CONTESTANTS}
    summary: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        pixels = Path(folder, "train.npy")
        np.save(pixels, np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8))
        connections = {}
        for contestant in CONTESTANTS:
            connections[contestant], theirs = spawn.Pipe()
            settings = theirs, contestant, pixels, options.batch, options.seconds, options.cores
            spawn.Process(target=compete, args=settings).start()
            theirs.close()  # else its end goes unnoticed
            connections[contestant].recv()
        for _ in range(options.rounds):
            for contestant, connection in connections.items():
                connection.send(True)
                rates[contestant].append(connection.recv())
        for connection in connections.values():
            connection.send(False)
        if options.paper:
            summary["paper_step"] = paper_step(pixels)
            summary["host_input"] = {size: round(host_input(Path(folder), size)) for size in (32, 256)}
    print(f"{(CUDA if cuda else CPU)[0]}, batch {options.batch}, bf16, one thread, images/s:")
    for contestant, found in rates.items():
        print(f"  {contestant:20} {spread(found, 0)}")
    ratios = {
        f"vs_{key}": [a / b for a, b in zip(rates["transmooth"], rates[peer], strict=True)]
        for key, peer in (("plain", "plain PyTorch loop"), ("network_alone", "network alone"))
    }
    for key, values in ratios.items():
        print(f"  transmooth {key.replace('_', ' ')}: {spread(values)}")
    summary |= {key: round(float(np.median(values)), 3) for key, values in ratios.items()}
    if options.paper:
        print("paper study's step:", summary["paper_step"])
        print("images/s from file to tensor, by size:", summary["host_input"])
    if options.json:
        print(json.dumps(summary | {"rounds": ratios, "images_per_second": rates}))


if __name__ == "__main__":
    main()
