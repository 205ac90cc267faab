"""Example images of a study: of which networks, and attacked in which ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.helpers.checkpoints import CARD
from tests.helpers.denoisers import write
from tests.helpers.records import attacked_row, row
from tests.helpers.report import run_spec
from transmooth.checkpoint import weights
from transmooth.data.loader import open_split
from transmooth.loading.denoisers import load_denoiser
from transmooth.models.build import Network
from transmooth.report.page.galleries import farthest, galleries
from transmooth.report.page.page import Gallery
from transmooth.report.page.provenance import Attacked, Certification

RUN, OTHER = run_spec("layer_norm/clean@downstream"), run_spec("layer_norm/adversarial@downstream")
SIGMAS = (0.25, 0.5)

# What a study has → its galleries.
Shown = Callable[..., list[Gallery]]


@pytest.fixture
def shown(digits: Path, network: Network, tmp_path: Path) -> Shown:
    """The galleries of a study whose two networks have the weights of `network`; certified, attacked: which were."""
    labels = open_split(digits, "test").labels.tolist()

    def certification(run: Any) -> Certification:
        lines = [row(at, sigma, label=labels[at], picture=None) for at in range(4) for sigma in SIGMAS]
        frame = pd.DataFrame(lines)
        return Certification("c", frame, frame, {"spec": {"run": run.dump()}}, dict.fromkeys(SIGMAS, 0.5))

    def attack(run: Any, robust: int, **changes: Any) -> Attacked:
        lines = []
        for at in range(4):
            found = {"robust": False, "adversarial": (labels[at] + 1) % 10, "distance": 0.1, "loss": "margin"}
            mine = found | {"restart": 0} if at >= robust else {}
            lines.append(attacked_row(at, **({"label": labels[at], "prediction": labels[at]} | mine | changes)))
        return Attacked("a", pd.DataFrame(lines), {"spec": {"run": run.dump()}})

    def made(certified: bool, attacked: dict[Any, tuple[int, dict[str, Any]]], card: Any = CARD) -> list[Gallery]:
        for run in (RUN, OTHER):
            if card is not None:
                weights.save(tmp_path / "train" / run.path, network, card)
        best = farthest("digits", [certification(RUN)] if certified else [])
        attacks = [attack(run, robust, **changes) for run, (robust, changes) in attacked.items()]
        return galleries("digits", digits, best, attacks, tmp_path)

    return made


def ways(gallery: Gallery) -> set[tuple[str, float, int, tuple[str, ...]]]:
    """How the images of a gallery were attacked; each in as many ways."""
    attacks = [each.attacks for _, group in gallery.groups for each in group]
    assert len({len(each) for each in attacks}) == 1
    return {
        (way.settings.norm, way.settings.epsilon, way.settings.seed, way.settings.losses) for way in sum(attacks, ())
    }


def test_a_network_that_was_only_certified_is_attacked_up_to_its_largest_sigma(shown: Shown) -> None:
    (gallery,) = shown(True, {})
    assert [title for title, _ in gallery.groups] == ["Certified farthest", "Certified least far"]
    assert ways(gallery) == {("l2", 0.5, 0, ("cross_entropy", "margin"))}
    assert gallery.balls == ["ℓ2 ≤ 0.5"]


def test_a_studys_attacks_are_those_of_its_pictures(shown: Shown) -> None:
    mine = {"norm": "linf", "epsilon": 0.12, "seed": 3, "losses": "margin"}
    certified, attacked = shown(True, {RUN: (1, {}), OTHER: (3, mine)})
    assert ways(certified) == {("l2", 0.5, 0, ("cross_entropy", "margin")), ("linf", 0.12, 3, ("margin",))}
    # Of the attacked networks the one that attacks break least.
    assert "adversarial@downstream" in attacked.network
    assert attacked.network.endswith("which attacks break least here")
    assert ways(attacked) == {("linf", 0.12, 3, ("margin",))}
    assert [(title, len(group)) for title, group in attacked.groups] == [
        ("Broken at the smallest distance", 1),
        ("Robust to the attack", 3),
    ]
    assert attacked.anchor == "examples-digits-attacked" != certified.anchor


def test_a_study_that_only_attacks_has_pictures_too(shown: Shown) -> None:
    (gallery,) = shown(False, {RUN: (0, {})})
    assert [title for title, _ in gallery.groups] == ["Broken at the smallest distance"]
    assert "break least" not in gallery.network
    assert [each.shots for _, group in gallery.groups for each in group] == [()] * 3
    assert shown(False, {}) == []
    elsewhere = run_spec("layer_norm/clean@upstream", dataset="characters")
    assert shown(False, {elsewhere: (0, {})}) == []


def test_records_of_an_attack_on_other_images_are_refused(shown: Shown) -> None:
    with pytest.raises(ValueError, match=r"^a: is not of the images .*: their labels differ$"):
        shown(False, {RUN: (4, {"label": 99})})


def test_without_weights_nothing_is_attacked(shown: Shown) -> None:
    certified, attacked = shown(True, {RUN: (2, {})}, card=None)
    assert ways(certified) == ways(attacked) == set()
    assert certified.balls == []


def test_the_denoiser_of_the_card_cleans_and_the_classifier_alone_is_attacked(shown: Shown, tmp_path: Path) -> None:
    write(tmp_path / "ddpm")
    denoiser = load_denoiser(str(tmp_path / "ddpm"))
    (before,) = shown(True, {})
    (behind,) = shown(True, {}, CARD | {"denoiser": denoiser.named(tmp_path / "train" / RUN.path)})
    for (_, plain), (_, cleaned) in zip(before.groups, behind.groups, strict=True):
        for one, other in zip(plain, cleaned, strict=True):
            assert [shot.denoised for shot in one.shots] == [None, None]
            assert None not in [shot.denoised for shot in other.shots]
            assert one.attacks == other.attacks
