"""Confidence-aware denoised finetuning (FT-CADIS): learn from the copies of an image that still show its class.

Jang et al., "Confidence-aware Denoised Fine-tuning of Off-the-shelf Models for Certified Robustness" (TMLR 2024),
Equations 7 to 10.  Image x of class y is seen as M noisy copies x̂_1 … x̂_M, denoised by `view`; f are probabilities:

    c_i   = [argmax f(x̂_i) = y]
    kept  = {i : c_i}; where there is none, the one copy of the lowest CE(f(x̂_i), y)
    SCE   = 1/M sum_{i kept} CE(f(x̂_i), y)                       over M however many are kept
    ŷ     = 1/M sum_i f(x̂_i)
    MAdv  = [all c_i] max_i KL(ŷ ‖ f(x̂*_i))                     x̂*_i: what `attack` makes of x̂_i
    loss  = mean over images (SCE + weight MAdv)                 with MAdv 0 where some copy is wrong

KL has the order of the authors' code, and ŷ is not detached in it.  Their code also gives the moved copies the mean and
the variance of the copies before, outside of the ball then; the paper does not, nor does this.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from transmooth.attacks.ball import BALLS, check_attack
from transmooth.attacks.gradients import eval_mode, slope
from transmooth.objectives import View, bare

Selection = Literal["nonhallucinated", "all"]
Judge = Literal["learning", "start"]
Target = Literal["soft", "label"]
Reduction = Literal["max", "mean"]


def loss(
    classifier: nn.Module,
    view: View,
    images: Tensor,
    labels: Tensor,
    sigma: Tensor,
    generator: torch.Generator,
    *,
    copies: int = 4,
    steps: int = 4,
    epsilon: float = 0.125,
    weight: float = 1.0,
    masked: bool = True,
    selection: Selection = "nonhallucinated",
    selected_by: Judge = "learning",
    target: Target = "soft",
    reduce: Reduction = "max",
    start: nn.Module | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return mean_i (SCE_i + weight MAdv_i), with the share of right copies of each image as the score.

    copies: M.  steps, epsilon: of the attack; epsilon is an l2 length in [0, 1] images, where the authors' 0.25 in
    [-1, 1] is 0.125.  weight: 0 leaves SCE alone.  masked: false has MAdv for all images, true for those whose copies
    are all right.  selection: `all` keeps every copy, which makes SCE the cross-entropy.  selected_by: c_i of the
    classifier as it is now, or of the frozen `start`.  (Where no c_i holds one copy is kept; its CE is always of the
    classifier as it is now.)  target: `label` has CE(f(x̂*_i), y) in place of the KL.  reduce:
    over an image's copies.  start: the classifier at the beginning of this stage, frozen, in eval mode.

    `full` among the metrics counts images whose c_i all hold (Figure 11).  The attack is of these alone: there is none,
    and the loss does not depend on `weight`, where a batch has no such image.  Without gradients, as on the validation
    split, nothing is attacked and the loss is SCE.
    Raises ValueError for a value that means nothing, or a missing `start`.
    """
    _check(copies=copies, steps=steps, epsilon=epsilon, weight=weight)
    _check_choices(selection=selection, selected_by=selected_by, target=target, reduce=reduce)
    if selected_by == "start" and start is None:
        raise ValueError("selected_by: 'start' needs the classifier that the stage starts from, found none")
    batch = len(labels)
    seen = view(torch.cat([images] * copies), sigma.repeat(copies), generator)
    # One copy is itself the minimum of KL(ŷ ‖ f): the gradient there is rounding, other on each machine.  Drawn whether
    # or not there is an attack, so that what is drawn next does not depend on the weights.
    begin = BALLS["l2"].start(seen, epsilon / 100, generator) if copies == 1 else torch.zeros_like(seen)
    logits = classifier(seen).float().unflatten(0, (copies, batch))
    correct = logits.argmax(2) == labels
    right = correct
    if start is not None and selected_by == "start":
        with torch.no_grad():
            right = start(seen).argmax(1).view(copies, batch) == labels
    full = right.all(0)
    metrics = {"score": correct.sum() / copies, "full": full.sum()}

    value = sce(logits, labels, right if selection == "nonhallucinated" else torch.ones_like(right)).mean()
    attacked = full if masked else torch.ones_like(full)
    if weight and torch.is_grad_enabled() and attacked.any():
        goal = (labels if target == "label" else log_mean_answer(logits))[attacked]
        goals, which = torch.cat([goal] * copies), attacked.repeat(copies)
        hard = attack(bare(classifier), seen[which], begin[which], goals.detach(), epsilon, steps)
        # Not through a DDP wrapper: it meets the other processes at each forward, of which there would be one more here
        # than where nothing is attacked.  Gradients are summed all the same, by hooks of the weights.
        far = distance(bare(classifier)(hard).float(), goals).view(copies, -1)
        value = value + weight * (far.amax(0) if reduce == "max" else far.mean(0)).sum() / batch
    return value, metrics


def sce(logits: Tensor, labels: Tensor, right: Tensor) -> Tensor:
    """Return 1/M sum_{i kept} CE(f(x̂_i), y): logits [M, B, K], labels [B] and right, bool [M, B], give [B]."""
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    losses = losses.view_as(right)
    return losses.where(select(losses, right), 0).mean(0)


def select(losses: Tensor, right: Tensor) -> Tensor:
    """Return the copies that are kept: the right ones, or the one of the lowest loss; [M, B] each, the result bool."""
    easiest = functional.one_hot(losses.argmin(0), len(losses)).T.bool()
    return torch.where(right.any(0), right, easiest)


def log_mean_answer(logits: Tensor) -> Tensor:
    """Return log ŷ, [B, K], of logits [M, B, K].

    ŷ itself may be 0 in float32, and then the KL's gradient would be NaN.
    """
    return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))


def distance(logits: Tensor, goals: Tensor) -> Tensor:
    """Return KL(ŷ ‖ f), [N], of goals log ŷ [N, K]; or CE(f, y) of goals y [N]; logits are [N, K]."""
    if goals.dim() == 1:
        return functional.cross_entropy(logits, goals, reduction="none")
    return functional.kl_div(logits.log_softmax(1), goals, reduction="none", log_target=True).sum(1)


def attack(network: nn.Module, images: Tensor, begin: Tensor, goals: Tensor, epsilon: float, steps: int) -> Tensor:
    """Move each image to where the network's answer is farthest from its goal: [N, 3, H, W] in and out.

    Gradient ascent from images + begin: `steps` steps of 2 epsilon/steps along the normalised gradient, each projected
    on the l2 ball of epsilon around the image, and not clipped to [0, 1].  goals: as of `distance`.  Every module is in
    eval mode meanwhile; no gradient reaches the weights.
    """
    ball, shift = BALLS["l2"], begin
    with eval_mode(network):
        for _ in range(steps):
            _, _, gradient = slope(network, images + shift, goals, distance)
            shift = ball.project(shift + 2 * epsilon / steps * ball.direction(gradient), epsilon)
    return images + shift


def _check(*, copies: Any, steps: Any, epsilon: Any, weight: Any) -> None:
    if type(copies) is not int or copies < 1:
        raise ValueError(f"copies: should be a whole number from 1, found {copies!r}")
    check_attack(epsilon=epsilon, steps=steps)
    if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
        raise ValueError(f"weight: should be a number from 0, found {weight!r}")


def _check_choices(**chosen: Any) -> None:
    known = {"selection": Selection, "selected_by": Judge, "target": Target, "reduce": Reduction}
    for name, value in chosen.items():
        if value not in get_args(known[name]):
            raise ValueError(f"{name}: should be one of {', '.join(get_args(known[name]))}, found {value!r}")
