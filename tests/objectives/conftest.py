"""A network as it trains on several processes, here one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Coupled = Callable[[nn.Module], tuple[DistributedDataParallel, list[int]]]


@pytest.fixture
def coupled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coupled]:
    """Wraps a network; beside it a list of the images in each forward, at which processes meet."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)

    def wrap(network: nn.Module) -> tuple[DistributedDataParallel, list[int]]:
        wrapper, met = DistributedDataParallel(network), list[int]()
        real: Callable[[Tensor], Tensor] = wrapper.forward

        def counted(images: Tensor) -> Tensor:
            met.append(len(images))
            return real(images)

        monkeypatch.setattr(wrapper, "forward", counted)
        return wrapper, met

    yield wrap
    torch.distributed.destroy_process_group()
