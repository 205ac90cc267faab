"""The page that compares two studies, or two records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.page import Tags, charts_of, read_page
from tests.helpers.records import row
from tests.helpers.report import evaluated, left, run_spec, write_attack, write_clean, write_records
from transmooth.records import table as records
from transmooth.records.logs import read_any
from transmooth.report.compare import compare
from transmooth.report.page.versus import are_compared, write_versus

RUN = run_spec("layer_norm/mixed@upstream/clean@downstream")
A, B = [0.1, 0.2, 0.3, 0.9, -1.0, 0.6], [0.4, 0.5, 0.7, 0.9, 0.3, -1.0]


def rows(radii: Sequence[float], sigma: float = 0.5, **changes: Any) -> list[dict[str, Any]]:
    """Images with these radii; a negative one is wrong."""
    return [row(at, sigma, radius=max(r, 0.0), prediction=3 if r >= 0 else 4, **changes) for at, r in enumerate(radii)]


def study(folder: Path, radii: Sequence[float], correct: int, n: int = 1000, **changes: Any) -> Path:
    """Write a folder of results with one certified run, and return it."""
    write_records(folder, evaluated(RUN, "certify"), rows(radii, **changes), spec={"n": n})
    write_clean(folder, RUN, correct)
    return folder


def page(a: Path, b: Path, out: Path) -> Tags:
    """The page of two sides, at one radius."""
    write_versus([a, b], [0.25], out / "compared.html")
    return read_page(out / "compared.html")


def line(parsed: Tags, name: str) -> list[str]:
    """The texts of a row, in order, without those for screen readers."""
    texts = [text for tag, text in parsed.texts if tag in ("th", "td", "strong", "span")]
    at = texts.index(name)
    return [text for text in texts[at + 1 : at + 30] if text != "95 % interval"]


def test_two_studies_are_compared_image_by_image(tmp_path: Path) -> None:
    a, b = study(tmp_path / "a", A, 7), study(tmp_path / "b", B, 9, n=2000)
    parsed = page(a, b, tmp_path)
    assert parsed.text_of("h1") == ["a and b, compared"]
    path = evaluated(RUN, "certify").records[0].path
    found = compare(read_any(b / path), read_any(a / path), 0.25)
    low, high = (100 * end for end in found["interval"])
    name = "layer_norm: mixed@upstream → clean@downstream, seed 0, σ 0.5"
    # 3 and 5 of 6 images; the mean radii are 2.1 and 2.8 of 6.
    assert line(parsed, name)[:6] == [
        *("(70.0 → 90.0)", "+20.0"),
        *("(50.0 → 83.3)", "+33.3", "[", f"{low:+.1f}, {high:+.1f}]"),
    ]
    low, high = found["acr_interval"]
    assert line(parsed, name)[6:10] == ["(0.350 → 0.467)", "+0.117", "[", f"{low:+.3f}, {high:+.3f}]"]
    (chart,) = charts_of(parsed).values()
    assert [curve["curve"] for curve in chart["data"]["values"]] == ["A", "B"]
    for curve, share in zip(chart["data"]["values"], (0.5, 5 / 6), strict=True):
        assert curve["certified accuracy"][curve["radius ε"].index(0.25)] == pytest.approx(share, abs=1e-4)
    assert [text for text in parsed.text_of("td") if text in ("1000", "2000")] == ["1000", "2000"]  # n
    assert "checked" in next(tag for tag in parsed.attributes("input") if tag.get("id") == "intervals")


def test_a_difference_whose_interval_leaves_out_0_is_bold(tmp_path: Path) -> None:
    a, b = study(tmp_path / "a", [0.1] * 30, 7), study(tmp_path / "b", [0.4] * 30, 7)
    assert page(a, b, tmp_path).text_of("strong") == ["+100.0", "+0.300"]
    assert page(b, a, tmp_path).text_of("strong") == ["-100.0", "-0.300"]
    assert page(a, a, tmp_path).text_of("strong") == []


@pytest.mark.parametrize("changes", [{"label": 4}, {"picture": "f" * 32}])
def test_other_images_have_no_interval(changes: dict[str, Any], tmp_path: Path) -> None:
    parsed = page(study(tmp_path / "a", A, 7), study(tmp_path / "b", B, 7, **changes), tmp_path)
    assert "Without an interval: the images differ." in " ".join(parsed.text_of("p"))
    assert "95 % interval" not in parsed.text_of("span")


def test_pictures_that_one_side_does_not_know_are_taken_for_the_same(tmp_path: Path) -> None:
    parsed = page(study(tmp_path / "a", A, 7), study(tmp_path / "b", B, 7, picture=None), tmp_path)
    assert "95 % interval" in parsed.text_of("span")


def test_what_was_attacked_is_compared_too(tmp_path: Path) -> None:
    for name, outcomes in (("a", "rrfw"), ("b", "rfff")):
        write_attack(tmp_path / name, evaluated(RUN, "autopgd", kind="attack"), left(outcomes, 0.25))
    parsed = page(tmp_path / "a", tmp_path / "b", tmp_path)
    assert {"SA", "RA"} <= set(parsed.text_of("th"))
    assert "Clean" not in parsed.text_of("th")
    found = line(parsed, "layer_norm: mixed@upstream → clean@downstream, seed 0, l2, ε = 0.25")
    assert [text for text in found if "→" in text] == ["(75.0 → 100.0)", "(50.0 → 25.0)"]
    assert charts_of(parsed) == {}


def write(path: Path, radii: Sequence[float], **changes: Any) -> Path:
    """Write a file of records, and return it."""
    records.write(records.from_rows(rows(radii, **changes), {"spec": {"n": 1000}}), path)
    return path


def test_two_files_at_one_sigma_are_compared_and_at_two_are_one_network(tmp_path: Path) -> None:
    a, b, other = write(tmp_path / "a", A), write(tmp_path / "b", B), write(tmp_path / "c", A, sigma=0.25)
    assert are_compared([a, b])
    assert not are_compared([a, other])
    assert not are_compared([a, a])
    assert not are_compared([a])
    assert not are_compared([a, b, other])
    found = line(page(a, b, tmp_path), "records, σ 0.5")
    assert found[:2] == ["(50.0 → 83.3)", "+33.3"]


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path) -> None:
    a, file = study(tmp_path / "a", A, 7), write(tmp_path / "r.parquet", A)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"a, .*none: have no evaluation in common, found layer_norm/.* and none in"):
        write_versus([a, tmp_path / "none"], [0.25], tmp_path / "p.html")
    with pytest.raises(ValueError, match="should be two folders of results or two files, found one of each"):
        write_versus([a, file], [0.25], tmp_path / "p.html")
    assert are_compared([a, file])
    (tmp_path / "log.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n")
    with pytest.raises(ValueError, match=r"log.tsv: is a log"):
        are_compared([file, tmp_path / "log.tsv"])
    assert not (tmp_path / "p.html").exists()


def test_no_difference_is_plus_zero(tmp_path: Path) -> None:
    parsed = page(study(tmp_path / "a", A, 7), study(tmp_path / "b", A, 7), tmp_path)
    assert not [text for text in parsed.text_of("td") + parsed.text_of("span") if "-0.0, " in text or "-0.000" in text]
    assert np.isfinite(float(line(parsed, "layer_norm: mixed@upstream → clean@downstream, seed 0, σ 0.5")[1]))
