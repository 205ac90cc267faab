"""Shared by all tests: one tiny prepared dataset and one tiny network, made once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests are about the CPU, where results are exact

import pytest
import torch
from hypothesis import settings

from transmooth.data.prepare import prepare
from transmooth.models.build import Network, build
from transmooth.specs import NetworkSpec

ROOT = Path(__file__).parents[1]
settings.register_profile("shared machine", deadline=None)  # where a test waits for others
settings.load_profile("shared machine")
# Small and of the paper's kind.
NETWORK = NetworkSpec(
    name="resnet18",
    stem="cifar",
    norm="layer",
    groups=1,
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "stem_type": "deep", "stem_width": 4},
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Commands change what signals do to this process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits at 8x8: 300 test images."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    source = {"kind": "digits", "seed": 0, "test": 300}
    prepare({"source": source, "size": 8, "stored": 8, "validation": 0.1, "seed": 0}, folder, ROOT)
    return folder


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build(NETWORK, 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).eval()
