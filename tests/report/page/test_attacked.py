"""The page of attacks, alone and beside the certificates of the same network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.page import Tags, charts_of, read_page
from tests.helpers.records import attacked_row, multi_sigma_rows, row
from tests.helpers.report import left
from transmooth.loading.images import load_images
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.report.page import attacked as page_of_attacks
from transmooth.report.page.single import write_single

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
POINT = {"robust": False, "adversarial": 5, "loss": "margin", "restart": 0}


def write_attacked(path: Path, rows: Sequence[dict[str, Any]], **made: Any) -> Path:
    attacked.write(attacked.from_rows(rows, {"spec": {"alpha": 0.01}, "model": {"model": "timm:<net>"}} | made), path)
    return path


def write_certified(path: Path, rows: Sequence[dict[str, Any]], **made: Any) -> Path:
    made = {"spec": {"n": 1000}, "model": {"model": "timm:<net>"}, "data": {"classes": CLASSES}} | made
    records.write(records.from_rows(rows, made), path)
    return path


def table_of(parsed: Tags, caption: str) -> list[str]:
    """The texts of a table."""
    texts = [text for _, text in parsed.texts]
    begin = parsed.texts.index(("caption", caption)) + 1
    return texts[begin : texts.index("Download CSV", begin)]


def said(parsed: Tags) -> str:
    return " ".join(text for tag, text in parsed.texts if tag not in ("script", "style"))


def test_attacks_alone_have_a_page_with_what_they_left_at_each_epsilon(tmp_path: Path) -> None:
    near = write_attacked(tmp_path / "near.parquet", left("rrfw", 0.25))
    far = write_attacked(tmp_path / "far.parquet", [*left("rffw", 0.5)[:2], attacked_row(2, distance=0.4, **POINT)])
    with pytest.raises(ValueError, match=r"far.parquet: its network and images .* should be those of .*near.parquet"):
        write_single([near, far], [0.0], tmp_path / "x.html")
    write_attacked(far, [*left("rf", 0.5), attacked_row(2, distance=0.4, **POINT), left("rffw", 0.5)[3]])
    assert write_single([far, near], [0.0, 0.25], tmp_path / "report.html") == []
    parsed = read_page(tmp_path / "report.html")
    assert parsed.text_of("h1") == ["timm:<net> under attack"]
    assert "4 test images, attacked within ℓ2 ≤ 0.25 and ℓ2 ≤ 0.5." in parsed.text_of("p")
    assert [text for text in table_of(parsed, "Under attack in ℓ2") if text != "95 % interval"] == [
        *("Network", "SA", "RA", "nearest", "median", "evaluations"),
        *("ℓ2 ≤ 0.25", "75.0", "[", "19, 99]", "50.0", "[", "7, 93]", "0.250", "0.250", "45"),
        *("ℓ2 ≤ 0.5", "75.0", "[", "19, 99]", "25.0", "[", "1, 81]", "0.400", "0.450", "45"),
    ]
    assert "ℓ2 ≤ 0.5: AutoPGD in l2 on cross_entropy and margin, 20 steps." in said(parsed)
    assert "RA is an upper bound" in said(parsed)
    (chart,) = charts_of(parsed).values()
    (curve,) = chart["data"]["values"]
    share = dict(zip(curve["radius ε"], curve["accuracy under attack"], strict=True))
    assert (curve["curve"], len(share)) == ("base classifier", 101)
    # One image is wrong at once; of another both attacks found points, the nearer at 0.25; of a third one at 0.5.
    assert [share[at] for at in (0.0, 0.245, 0.25, 0.495, 0.5)] == [0.75, 0.75, 0.5, 0.5, 0.25]


def test_attacks_in_two_norms_have_a_table_and_curves_each_and_a_rounded_distance_is_within(tmp_path: Path) -> None:
    beyond = attacked_row(2, distance=0.5 * (1 + 5e-6), **POINT)
    first = write_attacked(tmp_path / "a.parquet", [*left("rw", 0.5), beyond])
    other = write_attacked(tmp_path / "b.parquet", left("rwf", 0.125, norm="linf"))
    write_single([first, other], [0.0], tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    assert [table_of(parsed, f"Under attack in {norm}")[6] for norm in ("ℓ2", "ℓ∞")] == ["ℓ2 ≤ 0.5", "ℓ∞ ≤ 0.125"]
    ends = [chart["data"]["values"][0] for chart in charts_of(parsed).values()]
    assert [(end["radius ε"][-1], end["accuracy under attack"][-1]) for end in ends] == [(0.5, 0.3333), (0.125, 0.3333)]


def test_a_point_within_the_radius_of_the_classifier_that_was_attacked_is_named_loudly(tmp_path: Path) -> None:
    radii = {0: 0.3, 1: 0.45, 2: 0.2, 3: 0.9}
    rows = [row(index, 0.25, radius=radius) for index, radius in radii.items()]
    rows += [row(4, 0.25, prediction=-1, radius=0.0), row(5, 0.25, prediction=6, radius=0.1), row(9, 0.25)]
    certified = write_certified(tmp_path / "c.parquet", rows)
    of = {"sigma": 0.25}
    found = [attacked_row(0, distance=0.4, **POINT, **of), attacked_row(1, distance=0.4, **POINT, **of)]
    found += [attacked_row(2, **of), attacked_row(3, prediction=6, robust=False, **of)]
    found += [attacked_row(4, prediction=-1, robust=False, **of), attacked_row(5, prediction=6, robust=False, **of)]
    attack = write_attacked(tmp_path / "a.parquet", found)
    (contradiction,) = write_single([attack, certified], [0.0, 0.25], tmp_path / "report.html")
    assert contradiction == (
        "image 3: certified at radius 0.9000 for class 3, but class 6 is answered at distance 0.0000; so are 2 of 3. "
        "Of each image the certificate is wrong with a probability of at most 0.001, and the answer of 0.01: more than "
        "that is a fault of one of them"
    )
    parsed = read_page(tmp_path / "report.html")
    assert parsed.text_of("h1") == ["Certified robustness of timm:<net>, and under attack"]
    assert f". Contradiction: {contradiction}." in parsed.text_of("li")
    title = "Certified and attacked: ℓ2 ≤ 0.5, smoothed at σ = 0.25"
    assert table_of(parsed, title) == [
        *("image", "class", "attack", "R at σ 0.25", "distance"),
        *("3", "dog", "✗ contradiction: wrong before: gnu", "0.900", "0.000"),
        *("1", "dog", "✗ contradiction: → fox", "0.450", "0.400"),
        *("0", "dog", "→ fox", "0.300", "0.400"),
        *("2", "dog", "robust", "0.200", "–"),
        *("4", "dog", "abstains", "abstains", "–"),
        *("5", "dog", "wrong before: gnu", "0.100 for gnu", "–"),
    ]
    assert {"certify", "attack"} <= set(parsed.text_of("th"))


def test_without_a_contradiction_the_page_says_so(tmp_path: Path) -> None:
    certified = write_certified(tmp_path / "c.parquet", [row(0, 0.25, radius=0.3)])
    attack = write_attacked(tmp_path / "a.parquet", [attacked_row(0, sigma=0.25, distance=0.4, **POINT)])
    assert write_single([certified, attack], [0.0], tmp_path / "report.html") == []
    text = "None of 1 certified images with a point is broken within its radius."
    assert text in said(read_page(tmp_path / "report.html"))


@pytest.mark.parametrize("changes", [{}, {"sigma": 0.5}, {"sigma": 0.25, "dtype": "bf16"}])
def test_an_attack_of_another_classifier_contradicts_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    """The network by itself, and its smoothing at another σ or in other arithmetic: all radii stand beside them."""
    rows = [row(0, sigma, radius=0.9) for sigma in (0.25, 1.0)]
    certified = write_certified(tmp_path / "c.parquet", rows)
    attack = write_attacked(tmp_path / "a.parquet", [attacked_row(0, distance=0.4, **POINT, **changes)])
    assert write_single([certified, attack], [0.0], tmp_path / "report.html") == []
    parsed = read_page(tmp_path / "report.html")
    (title,) = (text for text in parsed.text_of("caption") if text.startswith("Certified and attacked: "))
    assert table_of(parsed, title)[5:] == ["distance", "0", "dog", "→ fox", "0.900", "0.900", "0.400"]
    assert "of two classifiers, so a point within a radius contradicts nothing." in said(parsed)
    drawn = [curve["curve"] for curve in charts_of(parsed)["chart-accuracy"]["data"]["values"]]
    assert ("attacked without noise" in drawn) == (not changes)


def test_classifiers_of_several_sigmas_and_other_norms_are_not_taken_for_the_attacked_one(tmp_path: Path) -> None:
    certified = write_certified(tmp_path / "c.parquet", multi_sigma_rows(4)[-2:])
    rows = [attacked_row(3, sigma=sigma, epsilon=sigma, distance=0.01, **POINT) for sigma in (0.5, 1.0)]
    attack = write_attacked(tmp_path / "a.parquet", [*rows, rows[0] | {"norm": "linf"}])
    assert write_single([certified, attack], [0.0], tmp_path / "report.html") == []
    titles = [text for text in read_page(tmp_path / "report.html").text_of("h3") if text.startswith("Certified and")]
    assert titles == [f"Certified and attacked: ℓ2 ≤ {sigma}, smoothed at σ = {sigma}" for sigma in ("0.5", "1")]


def test_only_the_nearest_of_many_images_are_shown_and_many_are_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_of_attacks, "MOST", 41)
    certified = write_certified(tmp_path / "c.parquet", [row(index, 0.25, radius=0.3) for index in range(42)])
    found = [attacked_row(index, distance=0.5 - index / 100, **POINT) for index in range(42)]
    write_single([certified, write_attacked(tmp_path / "a.parquet", found)], [0.0], tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    table = table_of(parsed, "Certified and attacked: ℓ2 ≤ 0.5")
    assert table[5::5] == [str(index) for index in range(41, 0, -1)]
    assert "Below: the 41 of 42 images whose points are nearest to R." in said(parsed)
    assert "41 rows" in parsed.text_of("summary")  # folded
    write_attacked(tmp_path / "a.parquet", found[:40])
    monkeypatch.setattr(page_of_attacks, "MOST", 40)
    write_single([certified, tmp_path / "a.parquet"], [0.0], tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    assert "40 rows" not in parsed.text_of("summary")
    assert "Below: the" not in said(parsed)


def test_records_that_do_not_belong_together_are_refused_by_name(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    certified = write_certified(tmp_path / "c.parquet", [row(0), row(1)])

    def refused(match: str, rows: Sequence[dict[str, Any]], *more: Path, **made: Any) -> None:
        with pytest.raises(ValueError, match=match):
            write_single([write_attacked(tmp_path / "a.parquet", rows, **made), *more], [0.0], out)

    refused(f"a.parquet: its model should be the same as in {certified}", [attacked_row(0, model="def")], certified)
    images = f"a.parquet: its images should be among those of {certified}"
    refused(images, [attacked_row(0, label=4, prediction=4)], certified)
    refused(images, [attacked_row(7)], certified)
    hashed = attacked.pictures_hash({0: f"{0:032x}"})
    refused(images, [attacked_row(0), attacked_row(1)], certified, data={"pictures": hashed})
    attack = write_attacked(tmp_path / "a.parquet", [attacked_row(0)], data={"pictures": hashed})
    assert write_single([attack, certified], [0.0], out) == []
    refused("the attack within ℓ2 ≤ 0.5 is there twice; name each once", [attacked_row(0)], attack)
    refused("there are no records in it", [])
    write_attacked(attack, [attacked_row(0)])
    with pytest.raises(ValueError, match="is of an attack; images are shown of a certification, which is not here"):
        write_single([attack], [0.0], out, load_images(str(digits), "test", None))
