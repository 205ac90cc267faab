"""How a deployed network is run: eager, compiled, or compiled with frozen weights, and how many images at once.

None of these is best everywhere, so the network itself is timed.  Compiling takes 5 to 65 s; it gains on ResNets and
may lose on vision transformers: it is tried where the evaluations that are planned are worth it.  What a timing found
is remembered for the user, so that on one machine every job, shard and process runs a network in the same way.
"""

import hashlib
import json
import math
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transmooth import files
from transmooth.params.values import Engine as EngineName
from transmooth.smoothing.deploy import Deployed, compare, deploy

BATCHES = {"cpu": (8, 16, 32, 64, 128, 256), "cuda": (64, 128, 256, 512, 1024, 2048, 4096)}
FEW = 4  # images whose time tells whether more should be timed
EXAMPLES = 4  # images on which a deployed network is compared with the given one
USUAL = {"cpu": 256, "cuda": 1024}  # the batch where a timing is not worth its time
LONGEST = 1.0  # seconds that one batch may take
NEAR = 1.03  # a smaller batch is as good as the best one when it takes no more than so many times its time
ROUNDS = 5  # in which candidates take turns; the fastest counts; what takes longer than LONGEST is run once
SMALL = 5.0  # seconds of work below which no more is timed than a FEW images
WORTH = 90.0  # seconds of work from which compiling is tried
GAIN = 1.05  # how many times faster an engine must be than a simpler one
PATIENCE = 900.0  # seconds to wait for another job's timing

# Keywords of torch.compile, by device.  Frozen weights are constants of the program, laid out for its kernels.
COMPILERS: Mapping[str, Mapping[EngineName, Mapping[str, Any]]] = {
    "cpu": {"compiled": {}, "frozen": {"options": {"freezing": True}}},
    "cuda": {"compiled": {"mode": "reduce-overhead"}},  # CUDA graphs: one launch a batch, not one a kernel
}
# After so many programs of one function, which all deployed networks of a process share, torch would go on eagerly
# without a word; here it is a fault.
_ALLOWED = torch._dynamo.config.patch(recompile_limit=256, fail_on_recompile_limit_hit=True)

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Engine:
    """A network that is ready to run: [batch, H, W, 3] -> logits.

    dtype: as records name it.  rate: evaluations a second; None where a timing was not worth it.
    """

    run: Run
    name: EngineName
    batch: int
    dtype: str
    device: torch.device
    rate: float | None = None


def prepare(
    model: nn.Module,
    images: Tensor,
    sigma: float,
    evaluations: int,
    *,
    dtype: str = "fp32",
    engine: EngineName = "auto",
    batch: int | None = None,
) -> Engine:
    """Deploy a model and choose how to run it.

    images: some [B, 3, H, W] in [0, 1], on which the deployed copy is compared, with noise of `sigma`; it runs on the
    model's device.  dtype: see `deploy`; evaluations, engine, batch: see `choose`.  Raises ValueError as they do.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    pixels = images.permute(0, 2, 3, 1).contiguous().to(device)
    noise = torch.empty_like(pixels).normal_(generator=torch.Generator(device).manual_seed(0))
    networks = [deploy(model, dtype, pixels + sigma * noise)]
    # A GPU's kernels favour either layout, by the network: on an H200 channels-last was the faster one for ResNets with
    # batch norm in TF32 and bf16, and the slower one for a ResNet with layer norm (benchmarks/README.md).
    if device.type == "cuda" and networks[0].layout is torch.channels_last:
        networks.append(deploy(model, dtype, pixels + sigma * noise, torch.contiguous_format))
    return choose(networks, images[0].to(device), evaluations, engine, batch)


def base_classifier(model: nn.Module, sigma: float) -> nn.Module:
    """Return what is smoothed at one sigma: the model, or its `at(sigma)` where it has one, as behind a denoiser."""
    return model.at(sigma) if hasattr(model, "at") else model  # type: ignore[operator]


def prepare_each(
    model: nn.Module, images: Tensor, sigmas: Sequence[float], evaluations: int, **options: Any
) -> dict[float, Engine]:
    """Prepare the base classifier of each sigma: once where it is the same for all of them.

    evaluations: of all sigmas together; options: of `prepare`.
    """
    classifiers = {sigma: base_classifier(model, sigma) for sigma in sigmas}
    made: dict[int, Engine] = {}
    for classifier in classifiers.values():
        mine = [sigma for sigma in sigmas if classifiers[sigma] is classifier]
        if id(classifier) not in made:
            share = evaluations * len(mine) // len(sigmas)
            made[id(classifier)] = prepare(classifier, images, max(mine), share, **options)
    return {sigma: made[id(classifier)] for sigma, classifier in classifiers.items()}


def choose(
    networks: Sequence[Deployed], image: Tensor, evaluations: int, engine: EngineName = "auto", batch: int | None = None
) -> Engine:
    """Choose how a network evaluates so many images like `image` [3, H, W], which is on its device.

    networks: the network as it is deployed in one layout or several, the usual one first.  engine, batch: what to take
    instead of choosing.  evaluations: of the whole certification, not of a shard or of what is left of one, so that all
    parts choose alike.

    Raises ValueError for an engine that this machine or this network has not.
    """
    if engine not in ("auto", "eager"):
        _check_compiler(engine, image.device.type)
    folder, usual = files.user_cache() / "engines", USUAL.get(image.device.type, 256)
    layouts = [Timings(folder / f"{_key(network, image)}.json", network, image) for network in networks]
    with files.locked(layouts[0].path, PATIENCE) if _can_write(folder) else nullcontext():
        small = evaluations * layouts[0].seconds("eager", FEW) / FEW < SMALL
        timings = layouts[0] if small else _best_layout(layouts, batch or usual)
        if batch is None:
            batch = usual if small else _best_batch(timings)
        if engine == "auto":
            engine = "eager" if small else _best_engine(timings, batch, evaluations)
        elif timings.seconds(engine, batch) == math.inf:
            raise ValueError(f"engine: this network does not run {engine}; there is always eager")
        rate = None if small else batch / timings.seconds(engine, batch)
        return Engine(timings.ready(engine, batch), engine, batch, timings.eager.named, image.device, rate)


class Timings:
    """The seconds that a batch takes, by engine and batch: measured once, and remembered in a file.

    networks: by engine.  What does not compile, or to another function, takes infinitely long.  What is to be compared
    takes turns: other work on the machine, which comes and goes, then slows all of it.
    """

    def __init__(self, path: Path, network: Deployed, image: Tensor) -> None:
        self.path, self.image, self.eager = path, image, network
        self.networks: dict[str, Run] = {"eager": network}
        for engine, options in COMPILERS.get(image.device.type, {}).items():
            self.networks[engine] = torch.compile(network, dynamic=False, **options)  # at its first batch
        self.known: dict[str, float] = {}
        self.first: dict[tuple[str, int], float] = {}  # of those that this process has warmed up
        with suppress(OSError, ValueError, TypeError, AttributeError):  # not there, or no timings
            self.known = {name: float(seconds) for name, seconds in json.loads(path.read_text()).items()}

    def seconds(self, engine: str, batch: int) -> float:
        """Return the seconds of one batch."""
        return self.in_turns([(engine, batch)])[0]

    def in_turns(self, candidates: Sequence[tuple[str, int]]) -> list[float]:
        """Return the seconds of one batch of each (engine, batch), timed in the same rounds unless all are known."""
        names = [f"{engine} {batch}" for engine, batch in candidates]
        if not self.known.keys() >= {*names}:
            times = [[self.warm(*candidate)] for candidate in candidates]
            for _ in range(ROUNDS):
                for (engine, batch), taken in zip(candidates, times, strict=True):
                    if taken[0] <= LONGEST:
                        taken.append(self._run(engine, self._noisy(batch)))
            self.known |= {name: min(taken) for name, taken in zip(names, times, strict=True)}
            with suppress(OSError):  # where nothing can be remembered, each job times by itself
                files.write_text(self.path, json.dumps(self.known, indent=1, sort_keys=True) + "\n")
        return [self.known[name] for name in names]

    def warm(self, engine: str, batch: int) -> float:
        """Return the seconds of one batch, timed once, after those that are slower than what follows."""
        if (engine, batch) not in self.first:
            self.first[engine, batch] = self._measure(engine, batch)
        return self.first[engine, batch]

    def ready(self, engine: str, batch: int) -> Run:
        """Return what runs batches, compiled before the first one is needed."""
        if engine != "eager":
            with torch.no_grad(), _ALLOWED:
                self.networks[engine](self._noisy(batch))
        return self.networks[engine]

    def _noisy(self, batch: int) -> Tensor:
        """Return a batch as the sampler has it, of the same strides too: for others a program is compiled anew."""
        generator = torch.Generator(self.image.device).manual_seed(0)
        noise = torch.empty(batch, *self.image.permute(1, 2, 0).shape, device=self.image.device)
        return noise.normal_(generator=generator).mul_(0.25).add_(self.image.permute(1, 2, 0))

    def compilation(self, engine: str) -> float:
        """Return the seconds that an engine took before its first timed batch."""
        return self.known[f"{engine} first"]

    @torch.no_grad()
    def _measure(self, engine: str, batch: int) -> float:
        noisy = self._noisy(batch)
        run, started = self.networks[engine], time.perf_counter()
        try:
            with _ALLOWED:
                logits = run(noisy)
                if engine == "eager" and time.perf_counter() - started > LONGEST:
                    return time.perf_counter() - started  # the first run is slower than others, but not by much
                if engine != "eager":
                    logits = run(noisy)  # a graph is captured in the second run
            if engine != "eager":
                compare(logits.float(), self.eager(noisy).float(), self.eager.dtype or "bf16")
            if noisy.is_cuda:
                torch.cuda.synchronize()
        except torch.cuda.OutOfMemoryError:
            return math.inf
        except Exception as error:  # a compiler's or someone's module's
            if engine == "eager":
                raise
            warnings.warn(f"engine {engine}: {str(error).strip().splitlines()[0]}", stacklevel=2)
            return math.inf
        finally:
            self.known[f"{engine} first"] = time.perf_counter() - started
        return self._run(engine, noisy)

    @torch.no_grad()
    def _run(self, engine: str, noisy: Tensor) -> float:
        started = time.perf_counter()
        self.networks[engine](noisy)
        if noisy.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def _best_layout(layouts: Sequence[Timings], batch: int) -> Timings:
    """The layout in which a batch takes the least time; the first where no other is clearly faster."""
    best = layouts[0]
    for other in layouts[1:]:
        if best.seconds("eager", batch) > GAIN * other.seconds("eager", batch):
            best = other
    return best


def _best_batch(timings: Timings) -> int:
    """Return the smallest batch that is NEAR the best, of those that take no longer than LONGEST."""
    tried: list[int] = []
    fastest = math.inf
    for batch in BATCHES.get(timings.image.device.type, (256,)):
        if tried and batch * fastest > LONGEST:
            break
        tried.append(batch)
        known = timings.known.get(f"eager {batch}")
        fastest = min(fastest, (timings.warm("eager", batch) if known is None else known) / batch)
    seconds = timings.in_turns([("eager", batch) for batch in tried])
    each = {batch: taken / batch for batch, taken in zip(tried, seconds, strict=True)}
    return min(batch for batch, taken in each.items() if taken <= NEAR * min(each.values()))


def _best_engine(timings: Timings, batch: int, evaluations: int) -> EngineName:
    """Return the fastest engine, of those whose compilation the evaluations repay."""
    best: EngineName = "eager"
    for other in COMPILERS.get(timings.image.device.type, {}):
        mine = timings.seconds(best, batch)
        if mine * evaluations / batch < WORTH or not _has_compiler(timings.image.device.type):
            break
        mine, theirs = timings.in_turns([(best, batch), (other, batch)])
        if mine > GAIN * theirs and (mine - theirs) * evaluations / batch > timings.compilation(other):
            best = other
    return best


def _can_write(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _has_compiler(device: str) -> bool:
    return device != "cpu" or shutil.which(torch._inductor.config.cpp.cxx[1]) is not None


def _check_compiler(engine: EngineName, device: str) -> None:
    """Raise ValueError for an engine that a device has not."""
    if engine not in COMPILERS.get(device, {}):
        raise ValueError(f"engine: {engine} is not for a device of kind {device}")
    if not _has_compiler(device):
        raise ValueError(f"engine: {engine} needs a C++ compiler, {torch._inductor.config.cpp.cxx[1]}")


def _key(network: Deployed, image: Tensor) -> str:
    """Return a hash of all that a timing depends on, but for the values of weights."""
    state = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in network.state_dict().items()]
    device = torch.cuda.get_device_name(image.device) if image.is_cuda else processor()
    parts: list[Any] = [repr(network), state, list(image.shape), network.dtype, str(network.layout)]
    parts += [device, torch.get_num_threads(), torch.__version__]
    if image.is_cuda:
        with suppress(RuntimeError):  # torch does not tell where its older and newer switches are mixed
            parts += [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def processor() -> str:
    """Return the name of the CPU."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor()
