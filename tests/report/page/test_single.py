"""The page of one network's records."""

from pathlib import Path

import pytest

from tests.helpers.page import SIGMAS, charts_of, read_page, rows_of
from tests.helpers.records import multi_sigma_rows
from transmooth.loading.images import load_images
from transmooth.records import table as records
from transmooth.report.page.single import write_single


def write(folder: Path, digits: Path) -> list[Path]:
    """The records of one network, a file for each sigma."""
    made = {"spec": {"n": 1000}, "model": {"model": "timm:<net>", "sha256": "ab"}}
    paths = [folder / f"{sigma}.parquet" for sigma in SIGMAS]
    for sigma, path in zip(SIGMAS, paths, strict=True):
        rows = [each for each in rows_of(3.0, digits) if each["sigma"] == sigma]
        records.write(records.from_rows(rows, made), path)
    return paths


def test_the_page_of_one_network(digits: Path, tmp_path: Path) -> None:
    write_single(write(tmp_path, digits), [0.0, 0.25], tmp_path / "new" / "report.html")
    parsed = read_page(tmp_path / "new" / "report.html")
    assert parsed.text_of("h1") == ["Certified robustness of timm:<net>"]
    head = parsed.text_of("th")
    assert "Clean" not in head  # nobody knows
    assert {"ε = 0", "ε = 0.25"} <= set(head)
    (spec,) = charts_of(parsed).values()
    assert [curve["curve"] for curve in spec["data"]["values"]] == ["σ = 0.25", "σ = 0.5", "oracle over σ"]
    assert parsed.attributes("img") == []


def test_the_page_of_one_sigma_has_no_oracle(digits: Path, tmp_path: Path) -> None:
    write_single(write(tmp_path, digits)[:1], [0.0, 0.25], tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    # One table, without a word of what would be chosen, and one curve.
    assert [table["id"] for table in parsed.attributes("table")] == [
        "accuracy-certified",
        "classes-the-certified-images-1-certified",
        "classes-the-certified-images-1-confusion",
        "stages",
    ]
    said = " ".join(text for tag, text in parsed.texts if tag not in ("script", "style"))
    assert "oracle" not in said.lower()
    assert "largest" not in said
    (spec,) = charts_of(parsed).values()
    assert [(curve["curve"], curve["oracle"]) for curve in spec["data"]["values"]] == [("σ = 0.25", False)]
    assert "Dashed" not in " ".join(parsed.text_of("figcaption"))


def test_the_images_that_were_certified_are_shown_and_others_refused(digits: Path, tmp_path: Path) -> None:
    paths = write(tmp_path, digits)
    images = load_images(str(digits), "test", None)
    write_single(paths, [0.25], tmp_path / "report.html", images)
    assert len(read_page(tmp_path / "report.html").attributes("img")) == 2 * 3 * (1 + len(SIGMAS))
    with pytest.raises(ValueError, match=r"is not of the images .*: their labels differ"):
        write_single(paths, [0.25], tmp_path / "other.html", load_images(str(digits), "train", None))
    assert not (tmp_path / "other.html").exists()


def test_the_page_of_a_classifier_of_several_sigmas_has_one_curve(tmp_path: Path) -> None:
    made = {"spec": {"n": 1000}, "model": {"model": "timm:<net>", "sha256": "ab"}}
    records.write(records.from_rows(multi_sigma_rows(6), made), tmp_path / "r.parquet")
    write_single([tmp_path / "r.parquet"], [0.0, 0.25], tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    (spec,) = charts_of(parsed).values()
    assert [(curve["curve"], curve["oracle"]) for curve in spec["data"]["values"]] == [("multi-σ", False)]
    text = " ".join(text for _, text in parsed.texts)
    assert "6 test images, certified at σ = 1, 0.5; τ = 0.1, 0." in text
    assert "Method: cascade of σ = 1, 0.5; τ = 0.1, 0, n0 = 100, n ≤ 1000, α = 0.001." in text
