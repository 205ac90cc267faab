"""The one training loop, for pretraining and finetuning, on one process or many.

What a step draws (order, augmentation, sigmas, noise) depends on the seed, the step and the rank alone, so a resumed
run equals an uninterrupted one.  Every learning rate of the list is trained from the same start; the best on the
validation split is kept, and the test split is looked at once, with that one.
"""

import json
import time
from collections.abc import Sequence
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
from transmooth.data import Split, augment, batch_indices, open_split, read_manifest
from transmooth.models import TRAINABLE, Network, build, reset_head, set_train_mode
from transmooth.noise import add_noise, draw_sigmas, training_key
from transmooth.objectives import load_objective
from transmooth.runtime import shutdown
from transmooth.training.progress import progress
from transmooth.training.save_points import SavePoints
from transmooth.training.schedule import OPTIMIZERS, PRECISIONS, learning_rate

EVALUATION_BATCH = 256


def train(
    spec: dict[str, Any], data: Path, out: Path, init: Path | None = None, checkpoint_seconds: float = 300
) -> None:
    """Train one network and write its checkpoint folder `out`, with `metrics.jsonl` beside the weights.

    spec: as `plan` makes it.  data: a prepared dataset.  init: a checkpoint to transfer from, its head dropped; without
    one the spec's `network` starts at random.  A run that was interrupted goes on from `out/resume.pt`, written every
    `checkpoint_seconds` and after each learning rate, unless the spec, the data or the weights to start from are others
    now.  Raises KeyboardInterrupt, after a save, once `shutdown.stop_requested()`; SystemExit when the number of
    processes is not the one in the params.

    `out/resume.pt` stays, for the caller to remove: Snakemake removes the outputs of a job that was killed before it
    could tell that it is done, and then this state has them again, if the sources are still the same.
    """
    started = time.monotonic()
    schedule = spec["training"]
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=PRECISIONS[schedule["precision"]],
        gradient_accumulation_steps=schedule["accumulate"],
    )
    if accelerator.num_processes != schedule["processes"]:  # else N silent copies of a one-process run
        raise SystemExit(
            f"{accelerator.num_processes} process(es) started, but the params say processes: {schedule['processes']}; "
            "start with `accelerate launch --num_processes`"
        )
    train_split, validation, test = (open_split(data, name) for name in ("train", "validation", "test"))
    batch = min(schedule["batch"], len(train_split))
    epoch_steps = len(train_split) // batch
    steps, warmup = schedule["epochs"] * epoch_steps, schedule["warmup_epochs"] * epoch_steps
    made_from = {
        "data": read_manifest(data)["checksum"],
        "init": read_card(init)["weights_sha256"] if init else None,
    }
    job = made_from | {"spec": spec}
    finished = job | {"sources": provenance.sources()}
    state = resume.load_state(out / "resume.pt", job, finished) or resume.new_state(job)
    history: list[dict[str, Any]] = state["history"]

    for trial in range(state["trial"], len(schedule["lr"])):
        lr = schedule["lr"][trial]
        network, description = start(spec, train_split, init)
        TRAINABLE[spec["trainable"]](network)
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = OPTIMIZERS[schedule["optimizer"]](learned, lr, schedule["weight_decay"])
        model, optimizer = accelerator.prepare(network, optimizer)
        if state["step"]:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
        sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
        if accelerator.is_main_process:  # the state has the sums of all processes
            sums += sums.new_tensor(state["sums"])
        set_train_mode(network, spec["trainable"])
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
                    seconds = time.monotonic() - epoch_started
                    loss, correct, seen = accelerator.reduce(sums, reduction="sum").tolist()
                    # Validation sees the noise that is trained with: the noise of the deployment is not known here.
                    right = evaluate(accelerator, network, validation, spec["sigmas"], spec["seed"])
                    history.append(
                        {
                            "lr": lr,
                            "epoch": (step + 1) // epoch_steps,
                            "step": step + 1,
                            "loss": loss / seen,
                            "train_accuracy": correct / seen,
                            "validation_accuracy": right / len(validation),
                            "images_per_second": round(seen / seconds, 1),
                        }
                    )
                    accelerator.print(json.dumps(history[-1]))
                    sums.zero_()
                    set_train_mode(network, spec["trainable"])
                    epoch_started = time.monotonic()
                due, told = save_points.save(saved, shutdown.stop_requested())
                if due:
                    so_far = accelerator.reduce(sums, reduction="sum")
                    if accelerator.is_main_process:
                        state |= {"trial": trial, "step": step + 1, "sums": so_far.tolist()}
                        state |= {"seconds": time.monotonic() - epoch_started, "network": network.state_dict()}
                        state |= {"optimizer": optimizer.state_dict()}
                        state |= {"scaler": accelerator.scaler.state_dict()} if accelerator.scaler is not None else {}
                        resume.save_state(out / "resume.pt", state)
                    if told:
                        raise KeyboardInterrupt
                    saved = time.monotonic()
        if state["best"] is None or history[-1]["validation_accuracy"] > state["best"]["validation_accuracy"]:
            tensors = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            state["best"] = {"lr": lr, "validation_accuracy": history[-1]["validation_accuracy"], "weights": tensors}
        state |= resume.new_state(job) | {"trial": trial + 1, "history": history, "best": state["best"]}
        if accelerator.is_main_process:  # what follows, the test split, may take long
            resume.save_state(out / "resume.pt", state)
        accelerator.free_memory()

    best = state["best"]
    network, description = start(spec, train_split, init)
    network.load_state_dict(best["weights"])
    network.to(accelerator.device)
    right = evaluate(accelerator, network, test, [0.0], spec["seed"])
    if accelerator.is_main_process:
        files.write_text(out / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        card = {
            "spec": spec,
            "network": description,
            "classes": list(train_split.classes),
            "size": train_split.size,
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            **made_from,
            "metrics_sha256": files.sha256(out / "metrics.jsonl"),
            "lr": best["lr"],
            "validation_accuracy": best["validation_accuracy"],
            "test": {"images": len(test), "correct": right},
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


def start(spec: dict[str, Any], split: Split, init: Path | None) -> tuple[Network, dict[str, Any]]:
    """The network before its first step and its description: transferred from a checkpoint, or random."""
    torch.manual_seed(training_key(spec["seed"], 0))
    if init is None:
        network, description = build(spec["network"], len(split.classes), split.mean, split.std), spec["network"]
    else:
        network, card = weights.load(init)
        reset_head(network, len(split.classes))
        description = card["network"]
    network.to(memory_format=torch.channels_last)
    return network, description


def train_step(
    accelerator: Accelerator,
    spec: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    batch: int,
    step: int,
) -> Tensor:
    """One optimizer step on this process's share of a batch: float64 [3], sums of loss, right answers and images."""
    seed, rank, world = spec["seed"], accelerator.process_index, accelerator.num_processes
    generator = torch.Generator(accelerator.device).manual_seed(training_key(seed, 1, step, rank))
    mine = batch_indices(len(split), batch, step, seed, rank, world)
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for part in np.array_split(mine, spec["training"]["accumulate"]):
        pixels, labels = (tensor.to(accelerator.device, non_blocking=True) for tensor in split.pixels(part))
        images = augment(pixels, spec["augment"], split.size, generator)
        sigma = draw_sigmas(spec["sigmas"], len(images), generator)
        with accelerator.accumulate(model):
            loss, metrics = load_objective(spec["objective"])(
                model, images, labels, sigma, generator, **spec["options"]
            )
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        sums += torch.stack([loss.detach().double() * len(images), metrics["correct"], sums.new_tensor(len(images))])
    return sums


def evaluate(accelerator: Accelerator, network: Network, split: Split, sigmas: Sequence[float], seed: int) -> int:
    """How many images of a split are classified right, each under one sigma of the set, over all processes.

    The bare network, not its DDP wrapper: that one meets the other processes at each forward, of which there are more
    on some processes than on others.
    """
    network.eval()
    # Each process's BatchNorm saw its own share of the images; the statistics that are saved are the main process's.
    broadcast(list(network.buffers()))
    rank, world = accelerator.process_index, accelerator.num_processes
    correct = torch.zeros((), dtype=torch.int64, device=accelerator.device)
    with torch.inference_mode():
        for first in range(rank * EVALUATION_BATCH, len(split), world * EVALUATION_BATCH):
            chunk = np.arange(first, min(first + EVALUATION_BATCH, len(split)))
            images, labels = (tensor.to(accelerator.device) for tensor in split.batch(chunk))
            generator = torch.Generator(accelerator.device).manual_seed(training_key(seed, 2, first))
            noisy = add_noise(images, draw_sigmas(sigmas, len(images), generator), generator)
            correct += (network(noisy).argmax(1) == labels).sum()
    return int(accelerator.reduce(correct, reduction="sum"))
