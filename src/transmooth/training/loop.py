"""The one training loop, for pretraining and finetuning, on one process or many.

What a step draws (order, augmentation, sigmas, noise) depends on the seed, the step and the rank alone, so a resumed
run equals an uninterrupted one.  Every learning rate of the list is trained from the same start; the best on the
validation split is kept, and the test split is looked at once, with that one.
"""

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
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
from transmooth.data.augment import augment
from transmooth.data.loader import Split, open_split, to_device
from transmooth.data.manifest import read_manifest
from transmooth.data.order import batch_indices
from transmooth.models.build import Network, build, reset_head
from transmooth.models.lora import merged_state
from transmooth.models.trainable import TRAINABLE, set_train_mode
from transmooth.noise import SIGMAS, add_noise, training_key
from transmooth.objectives import load_objective
from transmooth.runtime import shutdown
from transmooth.specs import NetworkSpec, TrainSpec
from transmooth.training.progress import progress
from transmooth.training.save_points import SavePoints
from transmooth.training.schedule import OPTIMIZERS, PRECISIONS, learning_rate

EVALUATION_BATCH = 256


def train(spec: TrainSpec, data: Path, out: Path, start: Path | None = None, checkpoint_seconds: float = 300) -> None:
    """Train one stage of a run and write its checkpoint folder `out`, with `metrics.jsonl` beside the weights.

    data: a prepared dataset.  start: the checkpoint of the stage before; without one the spec's `network` is built.
    0 epochs train nothing: what is written is what the stage starts from.  A run that was interrupted goes on from
    `out/resume.pt`, written every `checkpoint_seconds` and after each learning rate, unless the spec, the data or the
    weights to start from are others now.  Raises KeyboardInterrupt, after a save, once `shutdown.stop_requested()`;
    SystemExit when the number of processes is not the one in the params.

    `out/resume.pt` stays, for the caller to remove: Snakemake removes the outputs of a job that was killed before it
    could tell that it is done, and then this state has them again, if the sources are still the same.
    """
    started = time.monotonic()
    schedule = spec.schedule
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=PRECISIONS[schedule.precision],
        gradient_accumulation_steps=schedule.accumulate,
    )
    if accelerator.num_processes != schedule.processes:  # else N silent copies of a one-process run
        raise SystemExit(
            f"{accelerator.num_processes} process(es) started, but the params say processes: {schedule.processes}; "
            "start with `accelerate launch --num_processes`"
        )
    train_split, validation, test = (open_split(data, name) for name in ("train", "validation", "test"))
    batch = min(schedule.batch, len(train_split))
    epoch_steps = len(train_split) // batch
    steps, warmup = schedule.epochs * epoch_steps, schedule.warmup_epochs * epoch_steps
    made_from = {
        "data": read_manifest(data)["checksum"],
        "start": read_card(start)["weights_sha256"] if start else None,
    }
    job = made_from | {"spec": spec.dump()}
    finished = job | {"sources": provenance.sources()}
    state = resume.load_state(out / "resume.pt", job, finished) or resume.new_state(job)
    history: list[dict[str, Any]] = state["history"]

    for trial in range(state["trial"], len(schedule.lr) if steps else 0):
        lr = schedule.lr[trial]
        network, description = begin(spec, train_split, start)
        TRAINABLE[spec.trainable](network)
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = OPTIMIZERS[schedule.optimizer](learned, lr, schedule.weight_decay)
        model, optimizer = accelerator.prepare(network, optimizer)
        if state["step"]:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
        sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
        if accelerator.is_main_process:  # the state has the sums of all processes
            sums += sums.new_tensor(state["sums"])
        set_train_mode(network, spec.trainable)
        saved = time.monotonic()
        epoch_started = saved - state["seconds"]
        save_points = SavePoints(accelerator, checkpoint_seconds)
        with progress(accelerator, lr, steps, state["step"]) as advance:
            for step in range(state["step"], steps):
                for group in optimizer.param_groups:
                    group["lr"] = lr * learning_rate(step, steps, warmup)
                sums += train_step(accelerator, spec, model, optimizer, train_split, batch, step)
                advance(batch)
                if (step + 1) % epoch_steps == 0:
                    loss, score, seen = accelerator.reduce(sums, reduction="sum").tolist()
                    seconds = time.monotonic() - epoch_started  # a GPU is done once the sums are here
                    history.append(
                        {
                            "lr": lr,
                            "epoch": (step + 1) // epoch_steps,
                            "step": step + 1,
                            "loss": loss / seen,
                            "train_score": score / seen,
                            "validation_score": validate(accelerator, spec, network, validation),
                            "images_per_second": round(seen / seconds, 1),
                        }
                    )
                    accelerator.print(json.dumps(history[-1]))
                    sums.zero_()
                    set_train_mode(network, spec.trainable)
                    epoch_started = time.monotonic()
                due, stop = save_points.save(saved, shutdown.stop_requested())
                if due:
                    so_far = accelerator.reduce(sums, reduction="sum")
                    if accelerator.is_main_process:
                        state |= {"trial": trial, "step": step + 1, "sums": so_far.tolist()}
                        state |= {"seconds": time.monotonic() - epoch_started, "network": network.state_dict()}
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
        if accelerator.is_main_process:  # what follows, the test split, may take long
            resume.save_state(out / "resume.pt", state)
        accelerator.free_memory()

    network, description = begin(spec, train_split, start)
    if (best := state["best"]) is not None:
        network.load_state_dict(best["weights"])
    network.to(accelerator.device)
    score = best["score"] if best else validate(accelerator, spec, network, validation)
    correct = count_correct(accelerator, network, test)
    if accelerator.is_main_process:
        files.write_text(out / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        card = {
            "spec": spec.dump(),
            "network": description.dump(),
            "classes": list(train_split.classes),
            "size": train_split.size,
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            **made_from,
            "metrics_sha256": files.sha256(out / "metrics.jsonl"),
            "lr": best["lr"] if best else None,
            "validation_score": score,
            "test": {"images": len(test), "correct": correct},
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "device": str(accelerator.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
        }
        weights.save(out, network, card)
        resume.save_state(out / "resume.pt", state | {"job": resume.new_state(finished)["job"]})
    accelerator.wait_for_everyone()
    accelerator.end_training()


def begin(spec: TrainSpec, split: Split, start: Path | None) -> tuple[Network, NetworkSpec]:
    """Return the network before its first step and what it is: from a checkpoint, or built.

    The head is a new one where the classes are not those that it was trained for.
    """
    torch.manual_seed(training_key(spec.seed, 0))
    if start is None:
        assert spec.network is not None
        network, description = build(spec.network, len(split.classes), split.mean, split.std), spec.network
    else:
        network, card = weights.load(start)
        if tuple(card["classes"]) != split.classes:
            reset_head(network, len(split.classes))
        description = NetworkSpec.of(card["network"])
    network.to(memory_format=torch.channels_last)
    return network, description


def train_step(
    accelerator: Accelerator,
    spec: TrainSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    batch: int,
    step: int,
) -> Tensor:
    """Take one optimizer step on this process's share of a batch: float64 [3], sums of loss, score and images.

    Nothing here waits for a GPU: while it computes, the processor reads the images of the steps that follow.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    generator = torch.Generator(accelerator.device).manual_seed(training_key(spec.seed, 1, step, rank))
    mine = batch_indices(len(split), batch, step, spec.seed, rank, world)
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for part in np.array_split(mine, spec.schedule.accumulate):
        pixels, labels = (to_device(tensor, accelerator.device) for tensor in split.pixels(part))
        images = augmented(spec, pixels, split.size, generator)
        with accelerator.accumulate(model):
            loss, metrics = objective(spec, model, images, labels, generator)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        sums += torch.stack([loss.detach().double() * len(labels), metrics["score"], sums.new_full((), len(labels))])
    return sums


def augmented(spec: TrainSpec, pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return the images that an objective gets: [B, 3, H, W], or [views, B, 3, H, W] where there are several views."""
    views = [augment(pixels, spec.augment, size, generator) for _ in range(spec.views)]
    return views[0] if spec.views == 1 else torch.stack(views)


def objective(
    spec: TrainSpec, classifier: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and the metrics of a batch, each image with a sigma of its own."""
    sigma = SIGMAS[spec.noise](spec.sigmas, len(labels), generator)
    loss = load_objective(spec.objective)
    return loss(classifier, add_noise, images, labels, sigma, generator, **spec.options)


def validate(accelerator: Accelerator, spec: TrainSpec, network: Network, split: Split) -> float:
    """Return the mean score of a split by the objective itself, over all processes.

    Validation sees the noise that is trained with: the noise of the deployment is not known here.
    """
    total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for first, chunk in chunks(accelerator, network, split):
        generator = torch.Generator(accelerator.device).manual_seed(training_key(spec.seed, 2, first))
        if spec.views == 1:
            images, labels = (to_device(tensor, accelerator.device) for tensor in split.batch(chunk))
        else:
            pixels, labels = (to_device(tensor, accelerator.device) for tensor in split.pixels(chunk))
            images = augmented(spec, pixels, split.size, generator)
        with torch.no_grad():
            _, metrics = objective(spec, network, images, labels, generator)
        total += metrics["score"]
    return float(accelerator.reduce(total, reduction="sum")) / len(split)


def count_correct(accelerator: Accelerator, network: Network, split: Split) -> int:
    """Return how many images of a split are classified right, without noise, over all processes."""
    correct = torch.zeros((), dtype=torch.int64, device=accelerator.device)
    for _, chunk in chunks(accelerator, network, split):
        images, labels = (to_device(tensor, accelerator.device) for tensor in split.batch(chunk))
        with torch.inference_mode():
            correct += (network(images).argmax(1) == labels).sum()
    return int(accelerator.reduce(correct, reduction="sum"))


def chunks(accelerator: Accelerator, network: Network, split: Split) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
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
