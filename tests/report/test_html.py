"""The page, on a small study that is written by hand: what a reader, a parser and a browser find in it."""

import base64
import io
import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.records.test_table import row, table
from tests.report.test_accuracy import log_files
from transmooth.checkpoint.card import write_card
from transmooth.data.loader import open_split
from transmooth.records import table as records
from transmooth.report import runs
from transmooth.report.examples import examples, extremes
from transmooth.report.html import write_report, write_single
from transmooth.report.tables import write_table
from transmooth.report.training import write_training

LABELS = {"mixed": "mixed → <i>clean</i> & more", "scratch": "scratch"}
SIGMAS, IMAGES = (0.25, 0.5), 20


def rows_of(strength: float, digits: Path) -> list[dict[str, Any]]:
    """Records of a network that is wrong on every fifth image, abstains on the second, and certifies by position."""
    labels = open_split(digits, "test").labels
    made = []
    for sigma in SIGMAS:
        for index in range(IMAGES):
            label = int(labels[index])
            prediction = -1 if index == 1 else (label + 1) % 10 if index % 5 == 0 else label
            radius = 0.0 if prediction < 0 else strength * sigma * index / IMAGES
            made.append(row(index, sigma, label=label, prediction=prediction, selected=label, radius=radius))
    return made


@pytest.fixture(scope="module")
def study(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two networks with a table, a figure, a gap and training curves, and their page."""
    results = tmp_path_factory.mktemp("results")
    card = {"network": {"name": "resnet18"}, "test": {"images": 300}, "lr": 0.003, "validation_accuracy": 0.9}
    card |= {"weights_sha256": "ab" * 32, "commit": "c" * 40, "seconds": 61.0, "device": "cpu"}
    card |= {"finished": "2026-11-21T12:00:00+00:00"}
    card |= {"spec": {"sigmas": [0.0], "training": {"epochs": 2}}, "versions": {"torch": "2.15.0"}}
    trainings = ["pretrain/mixed/0", *(f"finetune/{name}/digits/clean/0" for name in LABELS)]
    for at, path in enumerate(trainings):
        (results / path).mkdir(parents=True)
        write_card(results / path, card | {"test": {"images": 300, "correct": 270 - at}})
        lines = [{"lr": 0.003, "epoch": epoch, "validation_accuracy": epoch / (at + 3)} for epoch in (1, 2)]
        (results / path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = {"spec": {"n": 1000, "method": "cohen"}, "versions": {"torch": "2.15.0"}, "commit": "c" * 40}
    paths = {name: f"{name}/digits/clean/0" for name in LABELS}
    for strength, path in zip((3.0, 1.0), paths.values(), strict=True):
        out = results / "certify" / path / "records.parquet"
        records.write(records.from_rows(rows_of(strength, digits), made), out)
    rows = [
        {"label": label, "block": "", "published": "method=ours" if name == "mixed" else None}
        | {"runs": [{"pretrain": name, "dataset": "digits", "finetune": "clean", "seed": 0, "path": paths[name]}]}
        for name, label in LABELS.items()
    ]
    first = {"name": "table3", "title": "Comparison", "caption": "Two networks.", "paper": "Table 3"}
    first |= {"radii": [0.25, 0.5], "rows": rows, "logs": [log_files(results)]}
    published = ROOT / "params" / "published.csv"
    write_table(first, results, results, published, results / "tables" / "table3", results / "metrics" / "table3.json")
    write_training([results / path for path in trainings], results / "metrics" / "training.csv")
    # The rule runs in the results folder: its runs are relative paths.
    curves = pd.read_csv(results / "metrics" / "training.csv")
    curves.columns = [name.removeprefix(f"{results}/") for name in curves.columns]
    curves.to_csv(results / "metrics" / "training.csv", index=False)
    gaps = [
        {"row": label, "cause": cause, "sigma": sigma, "layer": f"norm{depth}", "depth": depth, "gap": 0.1 * depth}
        for label in ("batch norm", "layer norm")
        for cause in ("statistics", "finetuning")
        for sigma in (0, 0.25)
        for depth in (1, 2, 3)
    ]
    pd.DataFrame(gaps).to_csv(results / "tables" / "gap.csv", index=False)
    figure = {
        "name": "figure2",
        "title": "Curves",
        "caption": "One network.",
        "panels": [{"title": "A", "rows": rows[:1]}],
    }
    spec = {"study": "small", "tables": [first], "figures": [figure], "trainings": trainings}
    spec |= {"gaps": [{"name": "gap", "title": "Gap", "caption": "Moves.", "images": 7}]}
    spec |= {"records": [f"certify/{path}/records.parquet" for path in paths.values()]}
    write_report(spec, results, results, published, {"digits": digits}, results / "report.html")
    return results


class Tags(HTMLParser):
    """Every start tag with its attributes and the text of each element that has some, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [found for name, found in self.tags if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def parsed(study: Path) -> Tags:
    return Tags((study / "report.html").read_text(encoding="utf-8"))


def charts_of(parsed: Tags) -> dict[str, Any]:
    """Chart id → Vega-Lite spec."""
    specs = [json.loads(text) for text in parsed.text_of("script") if text.startswith("{")]
    names = [found["id"] for found in parsed.attributes("figure") if found.get("class") == "chart"]
    return dict(zip(names, specs, strict=True))


def test_every_part_of_the_study_is_there(parsed: Tags) -> None:
    assert parsed.text_of("h1") == ["Study small"]
    assert parsed.text_of("h2") == ["Summary", "Tables", "Figures", "Example images", "Training", "Provenance"]
    assert {"Comparison", "Curves", "Gap", "digits"} <= set(parsed.text_of("h3"))
    assert "2026-11-21 11:58 to 12:00 UTC" in parsed.text_of("dd")
    captions = parsed.text_of("caption")
    assert len(captions) == len(parsed.attributes("table")) == 5
    assert "The largest over σ at each ε (an oracle), beside the paper's Table 3, CIFAR-10" in captions
    assert list(charts_of(parsed)) == ["chart-table3", "chart-figure2", "chart-gap", "chart-training"]
    assert "method=ours" not in " ".join(text for _, text in parsed.texts)
    # The paper's own rows without one of ours, and ours with what it says there.
    assert {"MACER 2020", "scratch", LABELS["mixed"]} <= set(parsed.text_of("th"))
    assert "80.1" in parsed.text_of("strong")  # the paper's best at 0.25


def test_numbers_are_those_of_the_records(parsed: Tags, study: Path) -> None:
    frame = records.read(study / "certify/mixed/digits/clean/0/records.parquet").to_pandas()
    right = (frame["prediction"] == frame["label"]) & (frame["radius"] >= 0.25)
    by_sigma = {sigma: right[frame["sigma"] == sigma].mean() for sigma in SIGMAS}
    assert by_sigma[0.5] > by_sigma[0.25] > 0
    assert f"{100 * by_sigma[0.5]:.1f}" in parsed.text_of("strong")
    drawn = {(curve["panel"], curve["curve"]): curve for curve in charts_of(parsed)["chart-table3"]["data"]["values"]}
    assert len(drawn) == 3 * 2 + 3
    theirs = drawn["Recomputed from logs of others, σ = 0.25", "theirs"]
    assert {round(share, 4) for share in theirs["certified accuracy"]} == {0.6667, 0.3333, 0.0}
    for panel, sigma in (("σ = 0.25", 0.25), ("σ = 0.5", 0.5), ("oracle over σ", 0.5)):
        curve = drawn[panel, LABELS["mixed"]]
        at = curve["radius ε"].index(0.25)
        assert curve["certified accuracy"][at] == pytest.approx(by_sigma[sigma])
        assert curve["low"][at] < by_sigma[sigma] < curve["high"][at]
        assert curve["test images"] == IMAGES
        assert curve["oracle"] == panel.startswith("oracle")
        assert curve["certified accuracy"][-1] == 0
    assert "At ε = 0.25, mixed → <i>clean</i> & more reaches" in " ".join(parsed.text_of("li"))


def test_it_loads_nothing(parsed: Tags, study: Path) -> None:
    policy = next(tag["content"] for tag in parsed.attributes("meta") if "http-equiv" in tag)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert "srcset" not in attributes
        assert not attributes.get("href", "").startswith(("http:", "https:", "//"))
    (style,) = parsed.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    there = {found["href"] for found in parsed.attributes("a") if found["href"].endswith((".parquet", ".csv"))}
    assert len(there) > 3
    for link in there - {"figures/figure2.csv"}:  # what the rule `figure` writes
        assert (study / link).is_file(), link
    assert (study / "report.html").stat().st_size < 5e6


def test_it_can_be_read_by_ear(parsed: Tags) -> None:
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in parsed.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    pictures = [found["alt"] for found in parsed.attributes("img")]
    assert len(pictures) == 2 * 3 * (1 + len(SIGMAS))
    assert all(pictures)
    assert all("scope" in found for found in parsed.attributes("th"))
    assert parsed.attributes("html") == [{"lang": "en"}]
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in parsed.tags}
    levels = [int(tag[1]) for tag, _ in parsed.tags if tag in ("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_provenance_names_versions_parameters_and_data(parsed: Tags, digits: Path) -> None:
    said = parsed.text_of("dd")
    assert {"2.15.0", "c" * 40, "cohen"} <= set(said)
    manifest = json.loads((digits / "manifest.json").read_text())
    assert f"300 test, {manifest['counts']['train']:,} train, {manifest['counts']['validation']:,} validation" in said
    assert f"{2 * len(SIGMAS) * IMAGES * 1100:,}" in said  # evaluations


def test_records_of_other_images_are_refused(study: Path, digits: Path, tmp_path: Path) -> None:
    spec = {"study": "x", "tables": [], "figures": [], "gaps": [], "trainings": []}
    path = "certify/mixed/digits/clean/0/records.parquet"
    wrong = [each | {"label": (each["label"] + 1) % 10} for each in rows_of(1.0, digits)]
    records.write(table(*wrong), tmp_path / path)
    (tmp_path / "metrics").mkdir()
    with pytest.raises(ValueError, match=r"records.parquet: is not of the images .*: their labels differ"):
        write_report(
            spec | {"records": [path]}, tmp_path, tmp_path, tmp_path, {"digits": digits}, tmp_path / "report.html"
        )
    assert not (tmp_path / "report.html").exists()


def test_the_page_of_one_network(digits: Path, tmp_path: Path) -> None:
    made = {"spec": {"n": 1000}, "model": {"model": "timm:<net>", "sha256": "ab"}}
    paths = [tmp_path / f"{sigma}.parquet" for sigma in SIGMAS]
    for sigma, path in zip(SIGMAS, paths, strict=True):
        rows = [each for each in rows_of(3.0, digits) if each["sigma"] == sigma]
        records.write(records.from_rows(rows, made), path)
    write_single(paths, [0.0, 0.25], tmp_path / "new" / "report.html")
    parsed = Tags((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    assert parsed.text_of("h1") == ["Certified robustness of timm:<net>"]
    assert "clean" not in parsed.text_of("th")  # nobody knows
    (spec,) = charts_of(parsed).values()
    assert [curve["curve"] for curve in spec["data"]["values"]] == ["σ = 0.25", "σ = 0.5", "oracle over σ"]
    assert parsed.attributes("img") == []


def test_extremes_are_by_the_mean_radius_and_never_both() -> None:
    shown = [(0, 0.5, 0.1), (1, 0.0, 0.9), (2, 0.2, 0.2), (3, 0.3, 0.3)]
    frame = pd.DataFrame([row(i, s, radius=r) for i, *both in shown for s, r in zip(SIGMAS, both, strict=True)])
    assert extremes(frame, 2) == ([1, 0], [2, 3])
    wrong = frame.assign(prediction=np.where(frame["index"] == 1, 9, frame["prediction"]))
    assert extremes(wrong, 2) == ([0, 3], [1, 2])
    assert extremes(frame, 3) == ([1, 0, 3], [2])


def pixels(uri: str) -> np.ndarray[Any, Any]:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255


def test_pictures_are_the_images_with_one_draw_of_noise_scaled_by_sigma() -> None:
    grey = torch.full((3, 32, 32), 0.5)
    frame = pd.DataFrame([row(4, 0.05, label=1, prediction=1, radius=0.03), row(4, 0.1, label=1, prediction=0)])
    (shown,) = examples(frame, [4], lambda index: grey, ["a", "b"])
    assert (shown.index, shown.label) == (4, "b")
    assert [(shot.verdict, shot.right) for shot in shown.shots] == [("b", True), ("a", False)]
    assert np.allclose(pixels(shown.picture), 0.5, atol=1 / 255)
    weak, strong = (pixels(shot.picture) - 0.5 for shot in shown.shots)
    assert weak.std() == pytest.approx(0.05, rel=0.05)
    assert np.abs(strong - 2 * weak).max() < 0.02
    large = examples(frame, [4], lambda index: torch.rand(3, 224, 200), ["a", "b"])[0].picture
    assert large.startswith("data:image/jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(large.partition(",")[2]))).size == (128, 128)


def test_parameters_are_told_once_and_where_they_differ_each() -> None:
    specs = [{"training": {"lr": [0.1]}, "norm": "layer"}, {"training": {"lr": [0.1]}, "norm": "batch", "empty": {}}]
    assert runs.parameters(specs) == {"empty": "{}", "norm": "layer · batch", "training.lr": "[0.1]"}


def test_times_are_those_of_the_cards_if_all_tell() -> None:
    assert runs.times([]) is None
    cards = [
        {"finished": "2026-11-21T12:00:00+00:00", "seconds": 60.0},
        {"finished": "2026-11-21T12:30:00+00:00", "seconds": 3600.0},
        {"finished": "2026-11-21T11:50:00+00:00", "seconds": 60.0},
    ]
    span = runs.times([runs.Training("pretrain/clean/0", card) for card in cards])
    assert span is not None
    assert [f"{moment:%H:%M}" for moment in span] == ["11:30", "12:30"]
    assert runs.times([runs.Training("", card) for card in [*cards, {"seconds": 1.0}]]) is None
