"""Robust accuracy: which images keep their right answer under every one of several attacks.

Each loss, from each random start, is one run of AutoPGD; the images that a run leaves right go to the next one.  What
remains is an upper bound of the robust accuracy: a stronger attack may find more.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transmooth.attacks.auto_pgd import auto_pgd
from transmooth.attacks.ball import check_attack, keyed_starts
from transmooth.attacks.gradients import Loss, eval_mode, log_odds, margin
from transmooth.params.values import AttackLoss, BallNorm

LOSSES: dict[AttackLoss, Loss] = {"cross_entropy": log_odds, "margin": margin}
# Of torch.linalg.vector_norm.
ORDERS: dict[BallNorm, float] = {"l2": 2, "linf": torch.inf}


@dataclass(frozen=True)
class Settings:
    """How images are attacked: `restarts` times from a random start, each time on every loss, in `steps` steps.

    batch: how many together.
    """

    norm: BallNorm
    epsilon: float
    steps: int
    losses: tuple[AttackLoss, ...]
    restarts: int
    batch: int
    seed: int

    def check(self) -> None:
        """Raise ValueError for a value that means nothing."""
        check_attack(epsilon=self.epsilon, steps=self.steps, norm=self.norm)
        if not self.losses or len(set(self.losses)) < len(self.losses) or set(self.losses) - set(LOSSES):
            raise ValueError(f"losses: should be some of {', '.join(LOSSES)}, each once, found {list(self.losses)}")
        for name, value in (("restarts", self.restarts), ("batch", self.batch)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: should be a whole number from 1, found {value!r}")


@dataclass(frozen=True)
class Target:
    """What is attacked.

    climbed: the positions of some images in their data set → the network, images → logits, whose losses are climbed.
    decide: images [N, 3, H, W] and their positions → their classes, int64 [N], -1 for an abstention.
    passes, votes: forward passes of one image in one step, in one decision.
    sure: whether a wrong answer of what is climbed is one of the decision.
    dtype: of the network, as records name it.  sigma: of the noise; None where nothing is smoothed.
    """

    climbed: Callable[[Sequence[int]], nn.Module]
    decide: Callable[[Tensor, Sequence[int]], Tensor]
    passes: int
    votes: int
    sure: bool
    dtype: str
    device: torch.device
    sigma: float | None = None


def base_target(network: nn.Module) -> Target:
    """Return a classifier by itself, in eval mode while it is asked.  Its decisions raise ValueError for logits that
    are not finite.
    """

    def decide(images: Tensor, indices: Sequence[int]) -> Tensor:
        with torch.no_grad(), eval_mode(network):
            logits: Tensor = network(images)
        finite = torch.isfinite(logits).all(1)
        if not finite.all():
            raise ValueError(f"image {indices[int((~finite).int().argmax())]}: the model's logits are NaN or infinite")
        return logits.argmax(1)

    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = "fp32" if all(each.dtype == torch.float32 for each in network.parameters()) else "own"
    return Target(lambda indices: network, decide, 1, 1, True, dtype, device)


def cut(indices: Sequence[int], batch: int) -> list[list[int]]:
    """Return the images in batches of so many, by their place in the list alone.

    A gradient depends on its batch in the last bits: equal batches give equal records, whatever shard or process
    attacks them.
    """
    return [list(indices[first : first + batch]) for first in range(0, len(indices), batch)]


def left(batches: Sequence[list[int]], finished: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the batches that lack a row of one of their images: they are attacked anew, as a whole."""
    done = {row["index"] for row in finished}
    return [batch for batch in batches if not done.issuperset(batch)]


def attack_batches(
    target: Target,
    fetch: Callable[[int], Tensor],
    labels: Mapping[int, int],
    batches: Sequence[Sequence[int]],
    settings: Settings,
) -> Iterator[list[dict[str, Any]]]:
    """Attack images and yield the rows of one batch at a time, with every column of a record but `model`.

    fetch: position of an image → float32 [3, H, W] in [0, 1].  labels: by position.
    """
    for batch in batches:
        started = time.perf_counter()
        images = torch.stack([fetch(index) for index in batch]).to(target.device)
        right = torch.tensor([labels[index] for index in batch], device=target.device)
        rows = _attack(target, images, right, batch, settings)
        seconds, passes = time.perf_counter() - started, sum(row["evaluations"] for row in rows)
        yield [row | {"seconds": seconds * row["evaluations"] / passes} for row in rows]


def _attack(
    target: Target, images: Tensor, labels: Tensor, indices: Sequence[int], settings: Settings
) -> list[dict[str, Any]]:
    """Return the rows of one batch."""
    epsilon, norm = settings.epsilon, settings.norm
    predictions = target.decide(images, indices)
    standing = predictions == labels
    evaluations = torch.full_like(labels, target.votes)
    found: dict[int, dict[str, Any]] = {}
    for restart in range(settings.restarts):
        for loss in settings.losses:
            places = standing.nonzero()[:, 0]
            if not len(places):
                break
            chosen = [indices[place] for place in places.tolist()]
            begun, right = images[places], labels[places]
            starts = keyed_starts(begun, chosen, epsilon, settings.seed, norm, restart)
            points, seen = auto_pgd(
                target.climbed(chosen),
                begun,
                right,
                starts,
                epsilon=epsilon,
                steps=settings.steps,
                norm=norm,
                loss=LOSSES[loss],
                leave=target.sure,
            )
            # Asked once more, as any image is: what counts is the answer to the point, not how it was found.
            answers = target.decide(points, chosen)
            distances = torch.linalg.vector_norm((points.double() - begun.double()).flatten(1), ORDERS[norm], 1)
            evaluations[places] += seen * target.passes + target.votes
            broken = (answers >= 0) & (answers != right)
            standing[places[broken]] = False
            for at in broken.nonzero()[:, 0].tolist():
                by: dict[str, Any] = {"loss": loss, "restart": restart}
                by |= {"adversarial": int(answers[at]), "distance": float(distances[at])}
                found[int(places[at])] = by
    common = {"sigma": target.sigma, "dtype": target.dtype, "losses": ", ".join(settings.losses)}
    common |= {name: getattr(settings, name) for name in ("norm", "epsilon", "steps", "restarts", "batch", "seed")}
    none = dict.fromkeys(("loss", "restart", "adversarial", "distance"))
    columns = (indices, *(each.tolist() for each in (labels, predictions, standing, evaluations)))
    names = ("index", "label", "prediction", "robust", "evaluations")
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [row | common | found.get(place, none) for place, row in enumerate(rows)]
