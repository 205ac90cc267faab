import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.smoothing import Linear, image
from transmooth.smoothing import engine
from transmooth.smoothing.decision import ESTIMATION
from transmooth.smoothing.deploy import Deployed, deploy
from transmooth.smoothing.engine import Engine, Timings, choose, prepare
from transmooth.smoothing.sampler import Sampler

pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "transmooth" / "engines"


@pytest.fixture
def images() -> Tensor:
    return torch.stack([image(0), image(1)])


class Small(nn.Module):
    """Looks at one pixel and its neighbours, so that noise moves its classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = (
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.Linear(8, 4, bias=False),
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(images))[:, :, 1, 1])  # type: ignore[no-any-return]


class Strides(Small):
    """Remembers how the batches that it was given lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 16:
            self.seen.add(images.stride())
        return super().forward(images)


class Slow(Small):
    """Takes a millisecond and a tenth of one for each image, and counts its calls."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        type(self).calls += 1
        time.sleep(1e-3 + 1e-4 * len(images))
        return super().forward(images)


def timed(memory: Path, images: Tensor, known: dict[str, float], evaluations: int, **asked: Any) -> Engine:
    """What is chosen for a network that was timed already."""
    prepare(Linear(0.0).eval(), images, 0.5, 0)
    (path,) = memory.glob("*.json")
    every = {f"eager {batch}": batch * 1e-2 for batch in (engine.FEW, *engine.BATCHES["cpu"])}
    path.write_text(json.dumps(every | known))
    return prepare(Linear(0.0).eval(), images, 0.5, evaluations, **asked)


COMPILED = {"compiled 64": 64 * 5e-3, "compiled first": 20.0, "frozen 64": 64 * 4e-3, "frozen first": 30.0}


@pytest.mark.parametrize(
    ("known", "evaluations", "chosen"),
    [
        (COMPILED, 100, "eager"),  # one second
        (COMPILED, 8_000, "eager"),  # 80 s: nothing is tried
        (COMPILED, 10_000, "compiled"),  # 100 s, halved for 20 s; the rest is not worth a second one
        (COMPILED, 100_000, "frozen"),
        (COMPILED | {"compiled first": 70.0, "frozen first": 70.0}, 10_000, "eager"),  # not repaid
        (COMPILED | {"compiled 64": 1.0, "frozen 64": 1.0}, 100_000, "eager"),  # slower, as on a vision transformer
        (COMPILED | {"compiled 64": float("inf"), "frozen 64": float("inf")}, 100_000, "eager"),  # does not compile
        (COMPILED | {"compiled 64": 64 * 9.8e-3, "frozen 64": 64 * 9.7e-3}, 100_000, "eager"),  # hardly faster
    ],
)
def test_the_fastest_engine_that_repays_its_compilation_is_chosen(
    memory: Path,
    images: Tensor,
    known: dict[str, float],
    evaluations: int,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    made = timed(memory, images, known, evaluations, batch=64)
    assert made.name == chosen
    assert made.rate is None or made.rate == pytest.approx(64 / (known | {"eager 64": 0.64})[f"{chosen} 64"])


def test_the_smallest_batch_that_is_near_the_best_is_chosen(memory: Path, images: Tensor) -> None:
    each = {8: 1e-3, 16: 9e-4, 32: 7e-4, 64: 5.1e-4, 128: 5e-4, 256: 6e-4}
    known = {f"eager {batch}": batch * seconds for batch, seconds in each.items()}
    assert timed(memory, images, known, 100_000, engine="eager").batch == 64
    assert timed(memory, images, known, 100, engine="eager").batch == engine.USUAL["cpu"]  # a second: not looked at
    slow = {f"eager {batch}": batch * 0.1 for batch in (engine.FEW, *each)}
    assert timed(memory, images, slow, 100_000, engine="eager").batch == 8  # of equals, the smallest


def test_a_network_is_timed_once(images: Tensor) -> None:
    first = prepare(Slow(), images, 0.5, 20_000, engine="eager")
    calls = Slow.calls
    again = prepare(Slow(), images, 0.5, 20_000, engine="eager")
    assert (first.batch, first.rate) == (again.batch, again.rate)
    assert first.rate is not None
    assert 0 < first.rate < 1e4
    assert Slow.calls - calls <= 3  # those that compare the copy with the model
    assert prepare(Slow(), images[:, :, :3], 0.5, 20_000, engine="eager").name == "eager"
    assert Slow.calls - calls > 10  # other images are other work


def test_candidates_take_turns(images: Tensor, tmp_path: Path) -> None:
    order: list[str] = []

    def slow_at_first(name: str, calls: int) -> engine.Run:
        def run(noisy: Tensor) -> Tensor:
            order.append(name)
            time.sleep(0.05 if order.count(name) <= calls else 1e-3)  # as beside other work
            logits: Tensor = network(noisy)
            return logits

        return run

    network = deploy(Linear(0.0).eval(), "fp32", images.permute(0, 2, 3, 1))
    timings = Timings(tmp_path / "known.json", network, images[0])
    timings.networks = {"eager": slow_at_first("a", 4), "b": slow_at_first("b", 0)}
    a, b = timings.in_turns([("eager", 8), ("b", 8)])
    assert "".join(order[-2 * engine.ROUNDS :]) == "ab" * engine.ROUNDS
    assert max(a, b) < 0.05
    order.clear()
    assert timings.in_turns([("b", 8), ("eager", 8)]) == [b, a]
    assert Timings(tmp_path / "known.json", network, images[0]).seconds("b", 8) == b
    assert order == []


@pytest.mark.parametrize(
    ("usual", "other", "evaluations", "layout"),
    [
        (4e-3, 1e-3, 20_000, torch.contiguous_format),
        (1e-3, 4e-3, 20_000, torch.channels_last),
        (4e-3, 1e-3, 2, torch.channels_last),  # a timing is not worth its time
    ],
)
def test_of_two_layouts_the_faster_one_runs(
    memory: Path, images: Tensor, usual: float, other: float, evaluations: int, layout: torch.memory_format
) -> None:
    pixels = images.permute(0, 2, 3, 1)
    layouts = (torch.channels_last, torch.contiguous_format)
    networks = [deploy(Linear(0.0).eval(), "fp32", pixels, each) for each in layouts]
    for network, seconds in zip(networks, (usual, other), strict=True):
        network.register_forward_pre_hook(lambda *_, seconds=seconds: time.sleep(seconds))
    chosen = choose(networks, images[0], evaluations, "eager").run
    assert isinstance(chosen, Deployed)
    assert chosen.layout is layout


def test_a_damaged_memory_is_made_anew(memory: Path, images: Tensor) -> None:
    prepare(Slow(), images, 0.5, 20_000, engine="eager")
    (path,) = memory.glob("*.json")
    for damaged in ("{", "[1]", '{"eager 4": "fast"}', ""):
        path.write_text(damaged)
        assert prepare(Slow(), images, 0.5, 20_000, engine="eager").rate is not None


def test_where_nothing_can_be_remembered_each_job_times_by_itself(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert prepare(Slow(), images, 0.5, 20_000, engine="eager").rate is not None
    calls = Slow.calls
    prepare(Slow(), images, 0.5, 20_000, engine="eager")
    assert Slow.calls - calls > 10


@pytest.fixture
def compiled(images: Tensor) -> Iterator[dict[str, Sampler]]:
    yield {
        name: Sampler(prepare(Small(), images, 0.5, 0, engine=name, batch=64), image, 0.5)
        for name in ("eager", "compiled", "frozen")
    }
    torch._dynamo.reset()


def test_every_engine_counts_like_itself_and_nearly_like_the_eager_one(compiled: dict[str, Sampler]) -> None:
    def ask(name: str, *indices: int) -> Any:
        return compiled[name](ESTIMATION, np.array(indices), np.full(len(indices), 50), np.full(len(indices), 300))

    for name in compiled:
        together, alone = ask(name, 1, 2), ask(name, 2)
        assert np.array_equal(together[1:], alone)
        assert np.abs(together - ask("eager", 1, 2)).max() <= 3  # rounding moves predictions on a boundary, hardly ever
    assert (ask("eager", 1, 2) > 0).sum() > 2


def test_a_network_that_does_not_compile_runs_eagerly(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        def run(noisy: Tensor) -> Tensor:
            raise RuntimeError("no such kernel\nand much more")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(engine, "WORTH", 0.0)
    monkeypatch.setattr(engine, "SMALL", 0.0)
    with pytest.warns(UserWarning, match="no such kernel") as said:
        assert prepare(Small(), images, 0.5, 100, batch=64).name == "eager"
    assert [str(each.message) for each in said] == [f"engine {name}: no such kernel" for name in ("compiled", "frozen")]
    with pytest.raises(ValueError, match="engine: this network does not run frozen; there is always eager"):
        prepare(Small(), images, 0.5, 100, engine="frozen", batch=64)


def test_a_compiled_network_that_is_another_function_is_not_run(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: lambda noisy: network(noisy).flip(1))
    with (
        pytest.warns(UserWarning, match="engine compiled: its logits in fp32 move by up to"),
        pytest.raises(ValueError, match="does not run compiled"),
    ):
        prepare(Small(), images, 0.5, 100, engine="compiled", batch=64)


def test_an_engine_that_is_not_to_be_had_is_refused(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"engine: compiled needs a C\+\+ compiler"):
        prepare(Small(), images, 0.5, 100, engine="compiled")
    monkeypatch.setattr(engine, "SMALL", 0.0)
    monkeypatch.setattr(engine, "WORTH", 0.0)
    assert prepare(Small(), images, 0.5, 100, batch=8).name == "eager"
    with pytest.raises(ValueError, match="engine: fast is not for a device of kind cpu"):
        prepare(Small(), images, 0.5, 100, engine="fast")  # type: ignore[arg-type]


def test_what_is_timed_lies_in_memory_as_what_is_certified(images: Tensor) -> None:
    # A compiled program is for one layout: with another the timing is of another program, and it is compiled anew.
    network = Strides()
    made = prepare(network, images, 0.5, 10**9, engine="eager", batch=16)
    Sampler(made, image, 0.5)(ESTIMATION, np.array([0]), np.array([0]), np.array([32]))
    deployed = made.run.network  # type: ignore[attr-defined]
    assert made.rate is not None
    assert network.seen | deployed.seen == {(48, 1, 12, 3)}


def test_a_timing_on_a_gpu_is_remembered_for_its_precision_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 is up to three times as fast, so what was timed with it says nothing without it; there is no GPU here."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    network = deploy(Small(), "fp32", torch.rand(2, 8, 8, 3))

    def key(is_cuda: bool, tf32: bool) -> str:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        picture = SimpleNamespace(shape=(3, 8, 8), is_cuda=is_cuda, device="cuda")
        return engine._key(network, picture)  # type: ignore[arg-type]

    assert key(True, True) != key(True, False)
    assert key(False, True) == key(False, False)
