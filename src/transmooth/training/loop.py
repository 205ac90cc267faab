"""The one training loop, for pretraining and finetuning, on one process or many.

What a step draws (order, augmentation, sigmas, noise) depends on the seed, the step and the rank alone, so a resumed
run equals an uninterrupted one.  Every learning rate of the list is trained from the same start; the best on the
validation split is kept, and the test split is looked at once, with that one.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from transmooth import files, provenance
from transmooth.checkpoint import resume, weights
from transmooth.checkpoint.card import read_card
from transmooth.data.loader import Split, open_split, positions_of, to_device
from transmooth.data.manifest import read_manifest
from transmooth.data.order import batch_indices
from transmooth.loading.denoisers import load_denoiser
from transmooth.models.build import Network, create
from transmooth.models.denoiser import Denoiser
from transmooth.models.lora import merged_state
from transmooth.models.trainable import TRAINABLE, count_trained, set_train_mode
from transmooth.noise import training_key
from transmooth.noises import load_noise
from transmooth.objectives import classifies
from transmooth.params.values import Tracker
from transmooth.runtime import shutdown
from transmooth.specs import TrainSpec
from transmooth.training.progress import progress
from transmooth.training.save_points import SavePoints
from transmooth.training.schedule import PRECISIONS, Course, create_optimizer
from transmooth.training.task import Task, task_of
from transmooth.training.tracking import start_tracker

EVALUATION_BATCH = 256

# Loss, metrics and images, each summed over batches, by name.
Sums = dict[str, Tensor]


def train(
    spec: TrainSpec,
    data: Path,
    out: Path,
    start: Path | None = None,
    checkpoint_seconds: float = 300,
    denoiser: str | None = None,
    tracker: Tracker | None = None,
) -> None:
    """Train one stage of a run and write its checkpoint folder `out`, with `metrics.jsonl` beside the weights.

    data: a prepared dataset.  start: the checkpoint of the stage before; without one the spec's `network` is built.
    denoiser: what cleans the noisy images that the network sees (see `loading.denoisers`).  tracker: what is given each
    line of `metrics.jsonl` too, once it is known (see `tracking`).  0 epochs train nothing: what is written is what the
    stage starts from.  The state is written to `out/resume.pt` every
    `checkpoint_seconds` and after each learning rate.  An interrupted run goes on from it, unless the spec, the data or
    the weights to start from have changed.  Raises KeyboardInterrupt, after a save, once `shutdown.stop_requested()`;
    SystemExit when the number of processes is not the one in the params.

    `out/resume.pt` stays, and the caller removes it.  Snakemake removes the outputs of a job that was killed before it
    reported its end; then this state has them again, if the sources are still the same.
    """
    started = time.monotonic()
    schedule = spec.schedule
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=PRECISIONS[schedule.precision],
        gradient_accumulation_steps=schedule.accumulate,
        log_with=tracker,
        project_dir=out,
    )
    if accelerator.num_processes != schedule.processes:  # else N silent copies of a one-process run
        raise SystemExit(
            f"{accelerator.num_processes} process(es) started, but the params say processes: {schedule.processes}; "
            "start with `accelerate launch --num_processes`"
        )
    start_tracker(accelerator, tracker, spec, out)
    train_split, validation, test = (open_split(data, name) for name in ("train", "validation", "test"))
    batch = min(schedule.batch, len(train_split))
    # Where there are few images: the loss of an empty part is NaN, and one more part to divide the gradient by.
    accelerator.gradient_accumulation_steps = max(1, min(schedule.accumulate, batch // schedule.processes))
    epoch_steps = len(train_split) // batch
    steps = schedule.epochs * epoch_steps
    cleaner = load_denoiser(denoiser) if denoiser else None
    if cleaner is not None:
        cleaner.check(spec.sigmas, train_split.size)
    made_from = {
        "data": read_manifest(data)["checksum"],
        "start": read_card(start)["weights_sha256"] if start else None,
    }
    made_from |= {"denoiser": cleaner.named(out)} if cleaner else {}
    job = made_from | {"spec": spec.dump()}
    finished = job | {"sources": provenance.sources()}
    state = resume.load_state(out / "resume.pt", job, finished) or resume.new_state(job)
    started -= state.get("spent", 0.0)  # of the processes before this one, until each last saved
    history: list[dict[str, Any]] = state["history"]
    begun = partial(begin, spec, train_split, start)
    if "sigmas" not in state:  # what an engine counts may round otherwise the next time: a choice is made once
        state["sigmas"] = choose_sigmas(accelerator, spec, train_split, begun)
        if state["sigmas"] is not None and accelerator.is_main_process:
            resume.save_state(out / "resume.pt", state)
    task = task_of(accelerator, spec, begun, cleaner.module if cleaner else None, state["sigmas"])
    course = Course(schedule, epoch_steps)

    for trial in range(state["trial"], len(schedule.lr) if steps else 0):
        lr = schedule.lr[trial]
        network = begun()
        TRAINABLE[spec.trainable](network)
        optimizer = create_optimizer(network, schedule, lr)
        model, optimizer = accelerator.prepare(network, optimizer)
        if state["step"]:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
        so_far = state["sums"] if accelerator.is_main_process else {}  # the state has the sums of all processes
        sums: Sums = {
            name: torch.tensor(sum, dtype=torch.float64, device=accelerator.device) for name, sum in so_far.items()
        }
        set_train_mode(network, spec.trainable)
        saved = time.monotonic()
        epoch_started = saved - state["seconds"]
        save_points = SavePoints(accelerator, checkpoint_seconds)
        with progress(accelerator, lr, steps, state["step"]) as advance:
            for step in range(state["step"], steps):
                course.set(optimizer, lr, step)
                epoch = step // epoch_steps
                taken = train_step(accelerator, task, model, optimizer, train_split, batch, step, epoch)
                sums = {name: sums[name] + sum if name in sums else sum for name, sum in taken.items()}
                advance(batch)
                if (step + 1) % epoch_steps == 0:
                    reduced = {name: float(sum) for name, sum in accelerator.reduce(sums, reduction="sum").items()}
                    seen = reduced.pop("images")
                    seconds = time.monotonic() - epoch_started  # a GPU is done once the sums are here
                    history.append(
                        {
                            "lr": lr,
                            "epoch": (step + 1) // epoch_steps,
                            "step": step + 1,
                            "loss": reduced.pop("loss") / seen,
                            **{f"train_{name}": sum / seen for name, sum in reduced.items()},
                            "validation_score": validate(accelerator, task, network, validation, epoch),
                            "images_per_second": round(seen / seconds, 1),
                        }
                    )
                    accelerator.print(json.dumps(history[-1]))
                    accelerator.log(history[-1], step=len(history))
                    sums = {}
                    set_train_mode(network, spec.trainable)
                    epoch_started = time.monotonic()
                due, stop = save_points.save(saved, shutdown.stop_requested())
                if due:
                    so_far = {name: float(sum) for name, sum in accelerator.reduce(sums, reduction="sum").items()}
                    if accelerator.is_main_process:
                        state |= {"trial": trial, "step": step + 1, "sums": so_far}
                        state |= {"seconds": time.monotonic() - epoch_started, "spent": time.monotonic() - started}
                        state |= {"network": network.state_dict()}
                        state |= {"optimizer": optimizer.state_dict()}
                        state |= {"scaler": accelerator.scaler.state_dict()} if accelerator.scaler is not None else {}
                        resume.save_state(out / "resume.pt", state)
                    if stop:
                        raise KeyboardInterrupt
                    saved = time.monotonic()
        score = history[-1]["validation_score"]
        # Where a training diverged its score may be no number, than which nothing is larger.
        if state["best"] is None or score > state["best"]["score"] or math.isnan(state["best"]["score"]):
            tensors = {name: tensor.detach().cpu().clone() for name, tensor in merged_state(network).items()}
            state["best"] = {"lr": lr, "score": score, "weights": tensors}
        state |= resume.new_state(job) | {"trial": trial + 1, "history": history, "best": state["best"]}
        state["spent"] = time.monotonic() - started
        if accelerator.is_main_process:  # what follows, the test split, may take long
            resume.save_state(out / "resume.pt", state)
        accelerator.free_memory()

    network = begun()
    if (best := state["best"]) is not None:
        network.load_state_dict(best["weights"])
    network.to(accelerator.device)
    score = best["score"] if best else validate(accelerator, task, network, validation)
    if classifies(spec.objective):
        found: dict[str, float] = {"correct": count_correct(accelerator, network, test)}
    else:
        found = {"score": validate(accelerator, task, network, test, schedule.epochs)}
    assert network.spec is not None
    if accelerator.is_main_process:
        files.write_text(out / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        card = {
            "spec": spec.dump(),
            "network": network.spec.dump(),
            "classes": list(train_split.classes),
            "size": train_split.size,
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            **made_from,
            "parameters": {
                "all": sum(each.numel() for each in network.parameters()),
                "trained": count_trained(begun(), spec.trainable) if best else 0,
            },
            "metrics_sha256": files.sha256(out / "metrics.jsonl"),
            "lr": best["lr"] if best else None,
            "validation_score": score,
            "test": {"images": len(test), **found},
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "device": str(accelerator.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
        }
        if state["sigmas"] is not None:  # how many images got which
            card["sigmas"] = {f"{sigma:g}": count for sigma, count in sorted(Counter(state["sigmas"].tolist()).items())}
        weights.save(out, network, card)
        resume.save_state(out / "resume.pt", state | {"job": resume.new_state(finished)["job"]})
    accelerator.wait_for_everyone()
    accelerator.end_training()


def begin(spec: TrainSpec, split: Split, start: Path | None) -> Network | Denoiser:
    """Return the network before its first step: from a checkpoint, or built.

    The head is a new one where it is of another kind (`head`), or the classes are not those that it was trained for.
    """
    torch.manual_seed(training_key(spec.seed, 0))
    if start is None:
        assert spec.network is not None
        described = spec.network.model_copy(update={"head": spec.head})
        network: Network | Denoiser = create(described, len(split.classes), split.mean, split.std)
    else:
        network, card = weights.load_any(start)
        assert network.spec is not None
        if network.spec.head != spec.head or (spec.head is None and tuple(card["classes"]) != split.classes):
            network.reset_head(len(split.classes), spec.head)
    return network.to(memory_format=torch.channels_last)


def choose_sigmas(
    accelerator: Accelerator, spec: TrainSpec, split: Split, begun: Callable[[], nn.Module]
) -> Tensor | None:
    """Return the sigma of each training image, float64 on the CPU, if the recipe's noise chooses one.

    Each process chooses for its share of the images.
    """
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    mine = load_noise(spec.noise)(spec, split, begun, accelerator.device, share)
    if mine is None:
        return None
    chosen: Tensor = accelerator.reduce(torch.from_numpy(mine).to(accelerator.device), reduction="sum")
    return chosen.cpu()


def train_step(
    accelerator: Accelerator,
    task: Task,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    batch: int,
    step: int,
    epoch: int = 0,
) -> Sums:
    """Take one optimizer step on this process's share of a batch; return sums of loss, metrics and images, float64.

    Nothing here waits for a GPU: while it computes, the processor reads the images of the steps that follow.
    """
    rank, world, spec = accelerator.process_index, accelerator.num_processes, task.spec
    generator = torch.Generator(accelerator.device).manual_seed(training_key(spec.seed, 1, step, rank))
    mine = batch_indices(len(split), batch, step, spec.seed, rank, world)
    sums: Sums = {}
    for part in np.array_split(mine, accelerator.gradient_accumulation_steps):
        tensors = (*split.pixels(part), positions_of(part))
        pixels, labels, positions = (to_device(tensor, accelerator.device) for tensor in tensors)
        images = task.images(split.resized(pixels), split.size, generator)
        with accelerator.accumulate(model):
            loss, metrics = task.loss(model, images, labels, generator, epoch, positions)
            accelerator.backward(loss)
            if spec.schedule.clip is not None and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), spec.schedule.clip)
            optimizer.step()
            optimizer.zero_grad()
        taken = {"loss": loss.detach().double() * len(labels)} | {name: sum.double() for name, sum in metrics.items()}
        taken["images"] = torch.full_like(taken["loss"], len(labels))
        sums = {name: sums[name] + sum if name in sums else sum for name, sum in taken.items()}
    return sums


def validate(accelerator: Accelerator, task: Task, network: nn.Module, split: Split, epoch: int = 0) -> float:
    """Return the mean score of a split by the objective itself, over all processes.

    Validation sees the noise that is trained with: the noise of the deployment is not known here.
    """
    total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for first, chunk in chunks(accelerator, network, split):
        generator = torch.Generator(accelerator.device).manual_seed(training_key(task.spec.seed, 2, first))
        if task.spec.views == 1:
            images, labels = (to_device(tensor, accelerator.device) for tensor in split.batch(chunk))
        else:
            pixels, labels = (to_device(tensor, accelerator.device) for tensor in split.pixels(chunk))
            images = task.images(split.resized(pixels), split.size, generator)
        with torch.no_grad():
            _, metrics = task.loss(network, images, labels, generator, epoch)
        total += metrics["score"]
    return float(accelerator.reduce(total, reduction="sum")) / len(split)


def count_correct(accelerator: Accelerator, network: nn.Module, split: Split) -> int:
    """Return how many images of a split are classified right, without noise, over all processes."""
    correct = torch.zeros((), dtype=torch.int64, device=accelerator.device)
    for _, chunk in chunks(accelerator, network, split):
        images, labels = (to_device(tensor, accelerator.device) for tensor in split.batch(chunk))
        with torch.inference_mode():
            correct += (network(images).argmax(1) == labels).sum()
    return int(accelerator.reduce(correct, reduction="sum"))


def chunks(accelerator: Accelerator, network: nn.Module, split: Split) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Yield this process's chunks of a split, each with its first position, for a network that is in eval mode then.

    It is the bare network, not its DDP wrapper: that one meets the other processes at each forward, of which there are
    more on some processes than on others.
    """
    network.eval()
    # Each process's BatchNorm saw its own share of the images; the statistics that are saved are the main process's.
    broadcast(list(network.buffers()))
    rank, world = accelerator.process_index, accelerator.num_processes
    for first in range(rank * EVALUATION_BATCH, len(split), world * EVALUATION_BATCH):
        yield first, np.arange(first, min(first + EVALUATION_BATCH, len(split)))
