"""FT-CADIS: worked examples, and a plain version of the formulas that moves one copy at a time and skips nothing."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attacks import Spy
from tests.objectives.conftest import Coupled
from transmooth.objectives import bare, confidence, load_objective

loss = load_objective("confidence")
# Two copies of three images with labels 0, 0, 1: one right, none, both.
LOGITS = torch.tensor(
    [[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 2.0, 0.0], [0.0, 1.0, 3.0], [0.0, 3.0, 0.0]]]
)
LABELS = torch.tensor([0, 0, 1])
SCE, CE = [0.119772, 1.119772, 0.323184], [1.239545, 2.704695, 0.323184]


class Read(nn.Module):
    """The pixels of an image are its logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def given(copies: Tensor) -> Callable[..., Tensor]:
    """A view that shows these, [M, B, …], whatever the noise."""
    return lambda images, sigma, generator: copies.flatten(0, 1)


def run(network: nn.Module, copies: Tensor, labels: Tensor, seed: int = 0, **options: Any) -> tuple[Tensor, Any]:
    images, sigma = torch.zeros_like(copies[0]), torch.zeros(len(labels))
    generator = torch.Generator().manual_seed(seed)
    value, metrics = loss(network, given(copies), images, labels, sigma, generator, copies=len(copies), **options)
    return value, metrics


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))


def batch(copies: int = 3) -> tuple[Tensor, Tensor]:
    """Copies of six images, and labels by which `small` has some images full, some empty, and some between."""
    images = torch.rand(1, 6, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    noise = 0.4 * torch.randn(copies, 6, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return images + noise, labels


def balanced() -> nn.Sequential:
    """`small` with a larger and centred head: all three classes are answered."""
    network = small()
    copies, _ = batch(3)
    head = network[3]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight *= 6
        head.bias.sub_(network(copies.flatten(0, 1)).mean(0))
    return network


def naive(
    network: nn.Module,
    copies: Tensor,
    labels: Tensor,
    *,
    steps: int = 4,
    epsilon: float = 0.125,
    weight: float = 1.0,
    masked: bool = True,
    selection: str = "nonhallucinated",
    target: str = "soft",
    reduce: str = "max",
    judge: nn.Module | None = None,
    detached: bool = False,
) -> Tensor:
    """The loss of the paper, image by image and copy by copy; every image is attacked, then masked."""
    total = torch.zeros(())
    for image, label in enumerate(labels.tolist()):
        probabilities = [network(copy[image, None])[0].softmax(0) for copy in copies]
        judged = [(judge or network)(copy[image, None])[0] for copy in copies]
        right = [int(each.argmax()) == label for each in judged]
        ce = [-each[label].log() for each in probabilities]
        kept = [True] * len(copies) if selection == "all" else right
        if not any(kept):
            kept = [each is min(ce, key=Tensor.item) for each in ce]
        total = total + sum(each for each, keep in zip(ce, kept, strict=True) if keep) / len(copies)
        mean = sum(probabilities) / len(copies)
        assert isinstance(mean, Tensor)
        if target == "label":
            mean = torch.eye(len(mean))[label]
        if detached:
            mean = mean.detach()
        far = []
        for copy in copies:
            point = copy[image, None]
            for _ in range(steps):
                point = point.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(kl(mean.detach(), network(point)[0].softmax(0)), point)
                shift = point.detach() + 2 * epsilon / steps * gradient / gradient.norm() - copy[image, None]
                point = copy[image, None] + shift * min(1, epsilon / float(shift.norm()))
            far.append(kl(mean, network(point.detach())[0].softmax(0)))
        madv = max(far, key=Tensor.item) if reduce == "max" else sum(far) / len(far)
        total = total + weight * (all(right) or not masked) * madv
    return total / len(labels)


def kl(target: Tensor, answer: Tensor) -> Tensor:
    return (torch.xlogy(target, target) - target * answer.log()).sum()


def gradients(value: Tensor, network: nn.Module) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(network.parameters()))])


# --------------------------------------------------------------------------------------------------------------- SCE
def test_selective_cross_entropy_of_known_logits() -> None:
    for image in range(3):
        part = (LOGITS[:, image : image + 1, :, None, None], LABELS[image : image + 1])
        assert run(Read(), *part, weight=0)[0].item() == pytest.approx(SCE[image], abs=1e-6)
        assert run(Read(), *part, weight=0, selection="all")[0].item() == pytest.approx(CE[image], abs=1e-6)
    value, metrics = run(Read(), LOGITS[..., None, None], LABELS, weight=0)
    assert value.item() == pytest.approx(sum(SCE) / 3, abs=1e-6)
    assert metrics["score"].item() == 1.5  # a half, none, all
    assert metrics["full"].item() == 1
    assert all(each.dim() == 0 and not each.requires_grad for each in metrics.values())


def test_the_copy_kept_in_place_of_none_has_the_lowest_cross_entropy_not_the_largest_logit() -> None:
    logits = torch.tensor([[[1.0, 5.0]], [[0.0, 1.0]]])
    value, _ = run(Read(), logits[..., None, None], torch.tensor([0]), weight=0)
    assert value.item() == pytest.approx(math.log1p(math.e) / 2, abs=1e-6)  # of the second, whose logit is lower


# -------------------------------------------------------------------------------------------------------------- MAdv
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.256502),
        ({"reduce": "mean"}, 0.131576),
        ({"target": "label"}, math.log(2)),
        ({"target": "label", "reduce": "mean"}, (math.log(2) + math.log1p(math.exp(-2))) / 2),
    ],
)
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_the_adversarial_loss_of_known_logits(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: float, weight: float
) -> None:
    moved = torch.tensor([[0.0, 0.0], [2.0, 0.0]])[..., None, None]
    monkeypatch.setattr(confidence, "attack", lambda *_: moved)
    logits = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])[..., None, None]
    ce = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2
    value, _ = run(Read(), logits, torch.tensor([0]), weight=weight, **options)
    assert value.item() == pytest.approx(ce + weight * expected, abs=2e-6 * weight)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight": 3.0},
    {"masked": False},
    {"selection": "all"},
    {"target": "label"},
    {"reduce": "mean"},
    {"steps": 1, "epsilon": 0.5},
    {"epsilon": 0.5},
    {"masked": False, "selection": "all", "target": "label", "reduce": "mean"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_loss_and_gradient_are_the_formulas(options: dict[str, Any]) -> None:
    """Skipping the attack of images that are not full is exact; each option changes the loss as the formula says."""
    network, (copies, labels) = balanced(), batch()
    value, metrics = run(network, copies, labels, **options)
    assert 0 < metrics["full"].item() < len(labels)
    reference = naive(network, copies, labels, **options)
    torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    mine, its = gradients(value, network), gradients(reference, network)
    torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-3)
    if options:
        assert abs(value.item() - run(network, copies, labels)[0].item()) > 1e-3


def test_the_gradient_goes_through_the_mean_answer() -> None:
    network, (copies, labels) = balanced(), batch()
    value, _ = run(network, copies, labels)
    through, detached = naive(network, copies, labels), naive(network, copies, labels, detached=True)
    assert through.item() == pytest.approx(detached.item(), abs=1e-6)
    mine, its, others = (gradients(each, network) for each in (value, through, detached))
    assert (its - others).norm() > 0.01 * its.norm()
    torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-3)


def test_copies_may_be_selected_by_the_classifier_that_the_stage_starts_from() -> None:
    """What is kept and what is attacked is by its answers; score and losses are of the one that learns."""
    network, start, (copies, labels) = balanced(), small(7).eval(), batch()
    value, metrics = run(network, copies, labels, selected_by="start", start=start)
    reference = naive(network, copies, labels, judge=start)
    torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(value, network), gradients(reference, network), atol=1e-4, rtol=1e-3)
    own, own_metrics = run(network, copies, labels, start=start)
    assert metrics["score"].item() == own_metrics["score"].item()
    answers = start(copies.flatten(0, 1)).argmax(1).view(3, 6)
    assert metrics["full"].item() == (answers == labels).all(0).sum().item() != own_metrics["full"].item()
    assert abs(value.item() - own.item()) > 1e-3
    assert all(parameter.grad is None for parameter in start.parameters())


# ------------------------------------------------------------------------------------------------------------ attack
def plane(scale: float = 1) -> nn.Sequential:
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = scale * torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    return nn.Sequential(nn.Flatten(), linear)


def test_copies_move_away_from_each_other_by_epsilon() -> None:
    copies = torch.tensor([[0.6, 0.5], [0.4, 0.5]]).view(2, 1, 1, 1, 2)
    spy = Spy(plane())
    run(spy, copies, torch.tensor([0]), steps=1, epsilon=0.2)
    moved = (spy.seen[-1] - copies.flatten(0, 1)).view(2, 2)
    torch.testing.assert_close(moved, torch.tensor([[0.12, 0.16], [-0.12, -0.16]]))


def test_a_step_is_two_epsilon_over_steps_and_none_leaves_the_ball() -> None:
    copies = torch.tensor([[0.6, 0.5], [0.4, 0.5]]).view(2, 1, 1, 1, 2)
    spy = Spy(plane())
    run(spy, copies, torch.tensor([0]), steps=4, epsilon=0.2)
    assert len(spy.seen) == 1 + 4 + 1
    lengths = [(seen - copies.flatten(0, 1)).flatten(1).norm(dim=1).tolist() for seen in spy.seen[1:]]
    for found, expected in zip(lengths, [0, 0.1, 0.2, 0.2, 0.2], strict=True):
        assert found == pytest.approx([expected] * 2, abs=1e-6)


def test_what_is_moved_may_leave_the_range_of_images() -> None:
    copies = torch.tensor([[1.0, 1.0], [0.0, 0.1]]).view(2, 1, 1, 1, 2)
    spy = Spy(plane())
    run(spy, copies, torch.tensor([0]), steps=1, epsilon=0.2)
    assert spy.seen[-1].max() == pytest.approx(1.16)
    assert spy.seen[-1].min() == pytest.approx(-0.12)


def test_images_that_are_not_full_are_not_attacked() -> None:
    network, (copies, labels) = balanced(), batch()
    spy = Spy(network)
    _, metrics = run(spy, copies, labels)
    full = int(metrics["full"])
    assert [len(seen) for seen in spy.seen] == [18, *[3 * full] * 5]
    spy = Spy(network)
    run(spy, copies, labels, masked=False)
    assert [len(seen) for seen in spy.seen] == [18] * 6


@pytest.mark.parametrize("copies", [1, 3])
def test_without_a_full_image_there_is_no_attack_and_weight_means_nothing(copies: int) -> None:
    seen, _ = batch(copies)
    network = Spy(balanced())
    labels = (network(seen[0]).argmax(1) + 1) % 3  # the first copy of each is wrong
    network.seen.clear()
    values = [run(network, seen, labels, weight=weight)[0] for weight in (0.0, 1.0, 100.0)]
    assert len(network.seen) == 3
    assert values[0].item() == values[1].item() == values[2].item() > 0
    assert all(gradients(value, network).isfinite().all() for value in values)


def test_no_weight_attacks_nothing() -> None:
    spy = Spy(balanced())
    run(spy, *batch(), weight=0.0)
    assert len(spy.seen) == 1


def test_without_gradients_the_loss_is_that_of_the_kept_copies_alone() -> None:
    spy, (copies, labels) = Spy(balanced()), batch()
    with torch.no_grad():
        value, metrics = run(spy, copies, labels, weight=5.0)
    assert len(spy.seen) == 1
    assert value.item() == run(spy, copies, labels, weight=0.0)[0].item()
    assert metrics == run(spy, copies, labels)[1]


def test_the_attack_gives_the_weights_no_gradient() -> None:
    network, (copies, labels) = balanced(), batch()
    run(network, copies, labels)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_every_module_is_in_eval_mode_in_the_attack_and_back_in_its_own_after_it() -> None:
    spy = Spy(nn.Sequential(balanced(), nn.Dropout(0.0)).train())
    fixed = spy.network[0]  # type: ignore[index]
    fixed[0].eval()
    before = [module.training for module in spy.modules()]
    assert len({*before}) == 2
    run(spy, *batch())
    assert spy.modes == [before, *[[False] * len(before)] * 4, before]
    assert [module.training for module in spy.modules()] == before


def test_modes_are_restored_after_an_attack_that_failed() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if not self.training:
                raise RuntimeError("out of memory")
            return images.flatten(1)[:, :3] + torch.tensor([99.0, 0.0, 0.0])

    network = nn.Sequential(Broken())
    with pytest.raises(RuntimeError, match="out of memory"):
        run(network, batch()[0], torch.zeros(6).long())
    assert network.training
    assert network[0].training


def test_a_gradient_of_zeros_moves_nothing() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([1.0, 0.0]))

        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.flatten(1).sum(1, keepdim=True) + self.bias

    copies, spy = torch.rand(2, 3, 3, 4, 4), Spy(Flat())
    value, _ = run(spy, copies, torch.zeros(3).long())
    assert torch.equal(spy.seen[-1], copies.flatten(0, 1))
    assert gradients(value, spy).isfinite().all()


@pytest.mark.parametrize("target", ["soft", "label"])
def test_answers_that_are_certain_in_float32_give_finite_gradients(target: str) -> None:
    network = plane(100)
    value, metrics = run(network, torch.rand(2, 3, 1, 1, 2) + 0.5, torch.zeros(3).long(), target=target)
    assert metrics["full"] == 3
    assert gradients(value, network).isfinite().all()


# ------------------------------------------------------------------------------------------------------------ random
def test_a_view_gets_each_image_once_for_every_copy() -> None:
    images, sigma, generator = torch.rand(2, 3, 4, 4), torch.tensor([0.25, 0.5]), torch.Generator()

    def view(shown: Tensor, noise: Tensor, source: torch.Generator) -> Tensor:
        assert torch.equal(shown, images.repeat(3, 1, 1, 1))
        assert torch.equal(noise, torch.tensor([0.25, 0.5] * 3))
        assert source is generator
        return shown

    loss(small(), view, images, torch.tensor([0, 1]), sigma, generator, copies=3)


def starts(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Where the attack of single copies starts from them, and the loss."""
    spy, (copies, _) = Spy(balanced()), batch(1)
    value, metrics = run(spy, copies, labels, seed, epsilon=0.5)
    full = spy.network(copies[0]).argmax(1) == labels
    assert metrics["full"] == full.sum() > 0
    shifts = torch.full_like(copies[0], math.nan)
    shifts[full] = spy.seen[1] - copies[0][full]
    return shifts, value


def test_a_single_copy_starts_from_a_keyed_random_point() -> None:
    answers = balanced()(batch(1)[0][0]).argmax(1)
    shifts, value = starts(answers, 5)
    assert shifts.flatten(1).norm(dim=1).tolist() == pytest.approx([0.005] * 6, rel=1e-3)
    again, same = starts(answers, 5)
    assert torch.equal(shifts, again)
    assert value.item() == same.item()
    other, _ = starts(answers, 6)
    assert ((other - shifts).flatten(1).norm(dim=1) > 0.001).all()
    fewer = answers.clone()
    fewer[::2] = (fewer[::2] + 1) % 3  # an image's start is its own, whichever others are attacked
    assert torch.equal(starts(fewer, 5)[0][1::2], shifts[1::2])


def test_single_copies_reach_the_edge_of_the_ball() -> None:
    spy, (copies, _) = Spy(balanced()), batch(1)
    labels = spy.network(copies[0]).argmax(1)
    value, _ = run(spy, copies, labels)
    moved = (spy.seen[-1] - copies[0]).flatten(1).norm(dim=1)
    assert moved.tolist() == pytest.approx([0.125] * 6, abs=1e-5)
    assert value.item() > run(spy, copies, labels, weight=0.0)[0].item()


@pytest.mark.parametrize("copies", [1, 3])
def test_what_is_drawn_does_not_depend_on_what_is_attacked(copies: int) -> None:
    network, (seen, _) = balanced(), batch(copies)
    answers = network(seen[0]).argmax(1)
    states = []
    for labels in (answers, (answers + 1) % 3):
        generator = torch.Generator().manual_seed(0)
        loss(network, given(seen), seen[0], labels, torch.zeros(6), generator, copies=copies)
        states.append(generator.get_state())
    assert torch.equal(*states)


# --------------------------------------------------------------------------------------------------------- processes
def test_processes_meet_once_in_a_step_whatever_is_attacked(coupled: Coupled) -> None:
    network, (copies, labels) = balanced(), batch()
    wrapper, met = coupled(network)
    assert bare(wrapper) is network
    assert bare(network) is network
    run(wrapper, copies, labels)[0].backward()  # type: ignore[no-untyped-call]
    assert met == [18]
    mine = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    expected = torch.autograd.grad(run(network, copies, labels)[0], list(network.parameters()))
    for found, its in zip(mine, expected, strict=True):
        assert found is not None
        torch.testing.assert_close(found, its)


# ----------------------------------------------------------------------------------------------------------- options
FAULTS: Sequence[tuple[str, Any]] = [
    ("copies", 0),
    ("copies", 2.0),
    ("copies", True),
    ("steps", 0),
    ("steps", "4"),
    ("epsilon", 0),
    ("epsilon", math.nan),
    ("epsilon", "0.1"),
    ("weight", -1),
    ("weight", math.inf),
    ("selection", "hallucinated"),
    ("selected_by", "end"),
    ("selected_by", "start"),  # without it
    ("target", "hard"),
    ("reduce", "min"),
]


@pytest.mark.parametrize(("name", "value"), FAULTS)
def test_an_option_that_means_nothing_is_refused(name: str, value: Any) -> None:
    images = torch.rand(2, 3, 4, 4)
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name}: .*{value!r}"):
        loss(small(), given(images[None]), images, torch.tensor([0, 1]), torch.zeros(2), torch.Generator(), **arguments)
