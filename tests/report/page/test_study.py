"""The page of a study that is written by hand: what a reader and a parser find in it."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers.page import (
    IMAGES,
    LABELS,
    PUBLISHED,
    RUNS,
    SIGMAS,
    charts_of,
    read_page,
    rows_of,
    write_curves,
    write_training_of,
)
from tests.helpers.records import row, table
from tests.helpers.report import evaluated, left, row_spec, run_spec, table_spec, write_attack, write_records
from tests.report.page.conftest import Made
from transmooth.checkpoint.card import read_card, write_card
from transmooth.records import table as records
from transmooth.report.cells import Cell
from transmooth.report.page.page import Differences, Page, Section, render
from transmooth.report.page.study import write_report
from transmooth.report.tables import write_table
from transmooth.specs import FigureSpec, PageSpec, PanelSpec


def test_every_part_of_the_study_is_there(made: Made) -> None:
    parsed = made.page
    assert parsed.text_of("h1") == ["Study small"]
    assert parsed.text_of("h2") == [
        *("Summary", "Tables", "Figures", "By class", "Example images", "Training", "Provenance")
    ]
    assert {"Comparison", "Curves", "Moved", "digits"} <= set(parsed.text_of("h3"))
    assert "2026-11-21 11:58 to 12:00 UTC" in parsed.text_of("dd")
    captions = parsed.text_of("caption")
    assert len(captions) == len(parsed.attributes("table")) == 6 + 2 * len(SIGMAS)
    certified = captions.index("Comparison: what is certified")
    oracle = (
        "Comparison. Oracle: the largest over σ at each ε, chosen after seeing the results, beside the paper's Table 3"
    )
    assert captions[certified + 1] == f"{oracle}, CIFAR-10"
    assert list(charts_of(parsed)) == ["chart-table3", "chart-figure2", "chart-moved", "chart-training"]
    assert "method=ours" not in " ".join(text for _, text in parsed.texts)
    # The paper's own rows without one of ours, and ours with what it says there.
    assert {"MACER 2020", "scratch", LABELS["mixed"]} <= set(parsed.text_of("th"))
    assert "80.1" in parsed.text_of("strong")  # the paper's best at 0.25
    assert "3 trainings of resnet18; 2 networks were certified on digits, each on 20 test images at" in " ".join(
        parsed.text_of("p")
    )


def test_numbers_are_those_of_the_records(made: Made) -> None:
    parsed = made.page
    frame = records.read(made.results / f"evaluate/{RUNS['mixed'].path}/certify/records.parquet").to_pandas()
    right = (frame["prediction"] == frame["label"]) & (frame["radius"] >= 0.25)
    by_sigma = {sigma: right[frame["sigma"] == sigma].mean() for sigma in SIGMAS}
    assert by_sigma[0.5] > by_sigma[0.25] > 0
    assert f"{100 * by_sigma[0.5]:.1f}" in parsed.text_of("strong")
    drawn = {(curve["panel"], curve["curve"]): curve for curve in charts_of(parsed)["chart-table3"]["data"]["values"]}
    assert len(drawn) == 3 * 2 + 3
    assert [*dict.fromkeys(panel for panel, _ in drawn)][:3] == ["σ = 0.25", "σ = 0.5", "oracle over σ"]
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


def test_what_is_certified_comes_first_with_what_it_took(made: Made) -> None:
    cells = [text for tag, text in made.page.texts if tag in ("th", "td", "strong", "span")]
    at = cells.index("σ")
    assert cells[at : at + 8] == ["σ", "ε = 0", "ε = 0.25", "ε = 0.5", "ACR", "abstains", "evaluations", "images/s"]
    first = cells.index("0.25", at)
    assert cells[first - 1] == LABELS["mixed"]
    assert {"1,100", "5.0"} <= set(cells[first : first + 30])  # forward passes, one of 20 images
    assert "the most of 2 rows, each at its best σ" in " ".join(made.page.text_of("li"))


def test_differences_stand_below_their_table_as_in_its_markdown(made: Made) -> None:
    texts = [text for _, text in made.page.texts]
    caption = texts.index("Comparison. Differences from scratch, image by image")
    assert caption > texts.index("In the paper only")
    text = (made.results / "tables" / "table3.md").read_text(encoding="utf-8")
    words, table = text.split("## Here: differences from scratch, image by image\n\n")[1].split("\n\n")[:2]
    assert texts[caption - 2 : caption] == ["Differences from scratch, image by image", words]
    head, _, line = ([cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines())
    assert head == ["", "ε = 0.25", "ε = 0.5"]  # clean accuracy is of no single image
    assert line[0] == LABELS["mixed"]
    printed = " ".join(["Network", *head[1:], *line]).replace("**", "").replace("[", "[ 95 % interval ")
    assert " ".join(texts[caption + 1 : texts.index("Download CSV", caption)]) == printed


@pytest.mark.parametrize("count", [8, 9])
def test_many_differences_are_folded(count: int) -> None:
    some, cells = count // 2, [Cell("+ 1.0", False, low="+ 0.5", high="+ 1.5")]
    blocks = [(name, [("row", cells)] * rows) for name, rows in (("a", some), ("b", count - some))]
    section = Section("t", "T", "C.", differences=Differences("D", "W.", ["ACR"], blocks))
    page = render(Page("P", "S.", {}, tables=[section]))
    (folded,) = re.findall(r"<details( open)?>\s*<summary>D</summary>", page)
    assert folded == (" open" if count == 8 else "")
    assert page.count('<tr class="block">') == 2


def test_trainings_stand_beside_those_of_their_stage_and_dataset(made: Made) -> None:
    chart = charts_of(made.page)["chart-training"]
    drawn = chart["data"]["values"]
    assert len({*chart["usermeta"]["colors"]["light"]}) == 3
    assert {(curve["panel"], curve["curve"]): curve["validation score"] for curve in drawn} == {
        ("stage 1, characters", "layer_norm: mixed@upstream"): [0.45, 0.9],
        ("stage 1, digits", "scratch"): [0.4467, 0.8933],
        ("stage 2, digits", LABELS["mixed"]): [0.4483, 0.8967],
    }
    assert [text for text in made.page.text_of("th") if text.startswith(("training, stage", "certify"))] == [
        "training, stage 1",
        "training, stage 2",
        "certify",
    ]


def test_it_loads_nothing(made: Made) -> None:
    parsed = made.page
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
    there = {found["href"] for found in parsed.attributes("a") if found["href"].endswith((".parquet", ".csv", ".json"))}
    assert len(there) > 6
    for link in there - {"figures/figure2.csv"}:  # what the rule `figure` writes
        assert (made.results / link).is_file(), link
    assert (made.results / "report.html").stat().st_size < 5e6


def test_it_can_be_read_by_ear(made: Made) -> None:
    parsed = made.page
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


def test_provenance_names_versions_parameters_and_data(made: Made, digits: Path) -> None:
    said = made.page.text_of("dd")
    assert {"2.15.0", "c" * 40, "cohen"} <= set(said)
    manifest = json.loads((digits / "manifest.json").read_text())
    assert f"300 test, {manifest['counts']['train']:,} train, {manifest['counts']['validation']:,} validation" in said
    assert f"{2 * len(SIGMAS) * IMAGES * 1100:,}" in said  # evaluations


def test_records_of_other_images_are_refused(made: Made, digits: Path, tmp_path: Path) -> None:
    spec = PageSpec(study="x", tables=(), figures=(), shifts=(), trainings=(), records=made.spec.records[:1])
    wrong = [each | {"label": (each["label"] + 1) % 10} for each in rows_of(1.0, digits)]
    write_records(tmp_path, evaluated(RUNS["mixed"], "certify"), wrong)
    with pytest.raises(ValueError, match=r"records.parquet: is not of the images .*: their labels differ"):
        write_report(spec, tmp_path, tmp_path, PUBLISHED, {"digits": digits}, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_damaged_records_are_refused_by_name(made: Made, digits: Path, tmp_path: Path) -> None:
    (each,) = made.spec.records[:1]
    path = tmp_path / each.path
    records.write(table(*rows_of(1.0, digits)), path)
    path.write_bytes(path.read_bytes()[:-9])
    spec = PageSpec(study="x", tables=(), figures=(), shifts=(), trainings=(), records=(each,))
    with pytest.raises(ValueError, match=f"{each.path}: "):
        write_report(spec, tmp_path, tmp_path, PUBLISHED, {"digits": digits}, tmp_path / "report.html")


def test_a_study_that_trains_and_certifies_nothing_has_a_page(digits: Path, tmp_path: Path) -> None:
    """A table of clean accuracy, of a network as published: no chart, no values by σ, no finding, no curves."""
    run = run_spec("official/untrained@downstream")
    write_curves(tmp_path, [write_training_of(tmp_path, run, 150, lr=None)])
    clean = table_spec(["clean"], [row_spec("as published", [evaluated(run)])], name="clean")
    write_table(
        clean, tmp_path, tmp_path, PUBLISHED, tmp_path / "tables" / "clean", tmp_path / "metrics" / "clean.json"
    )
    spec = PageSpec(study="small", tables=(clean,), figures=(), shifts=(), trainings=(f"train/{run.path}",), records=())
    write_report(spec, tmp_path, tmp_path, PUBLISHED, {"digits": digits}, tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    assert parsed.text_of("h2") == ["Summary", "Tables", "Provenance"]
    assert parsed.text_of("caption")[0] == "Title"  # no oracle
    assert "50.0" in parsed.text_of("strong")
    assert charts_of(parsed) == {}
    assert "1 trainings of resnet18." in parsed.text_of("p")
    assert "What it says" not in parsed.text_of("h3")


def test_rows_of_several_tasks_stand_beside_the_papers_of_the_same_dataset(digits: Path, tmp_path: Path) -> None:
    published = tmp_path / "published.csv"
    head = "paper,table,block,row,dataset,metric,radius,sigma,value,unit,method,note\n"
    lines = [f"p,T,,a,{task},clean_acc,,,{value},percent,," for task, value in (("Food", "70.1"), ("Cars", "60.2"))]
    published.write_text(head + "\n".join([*lines, "p,T,,a,Birds,clean_acc,,,50.3,percent,,"]) + "\n")
    rows, runs = [], []
    for task, correct in (("cars", 60), ("food", 90)):
        run = run_spec(f"net/clean@{task}", dataset=task)
        write_training_of(tmp_path, run, correct)
        runs.append(run)
        rows.append(row_spec("a row", [evaluated(run)], block=task, dataset=task.title(), published="a"))
    write_curves(tmp_path, [tmp_path / "train" / run.path for run in runs])
    tasks = table_spec(["clean"], rows, name="tasks", paper="p", published="T")
    write_table(
        tasks, tmp_path, tmp_path, published, tmp_path / "tables" / "tasks", tmp_path / "metrics" / "tasks.json"
    )
    trainings = tuple(f"train/{run.path}" for run in runs)
    spec = PageSpec(study="small", tables=(tasks,), figures=(), shifts=(), trainings=trainings, records=())
    write_report(spec, tmp_path, tmp_path, published, {"digits": digits}, tmp_path / "report.html")
    cells = [text for tag, text in read_page(tmp_path / "report.html").texts if tag in ("th", "td", "strong")]
    at = cells.index("cars")
    # Ours and the paper's of the same dataset; the best of each is bold, and Birds is in the paper only.
    assert cells[at : at + 11] == [
        *("cars", "a row", "20.0", "60.2"),
        *("food", "a row", "30.0", "70.1"),
        *("In the paper only", "Birds: a", "–"),
    ]
    assert cells[at + 11] == "50.3"


def test_less_is_better_in_a_table_of_weights(digits: Path, tmp_path: Path) -> None:
    """Ours and the paper's: what has the fewest is bold."""
    published = tmp_path / "published.csv"
    head = "paper,table,block,row,dataset,metric,radius,sigma,value,unit,method,note\n"
    lines = [f"p,T,,{row},X,classifier_params_M,,,{value},millions,," for row, value in (("a", "87"), ("b", "0.9"))]
    published.write_text(head + "\n".join(lines) + "\n")
    rows, trainings = [], []
    for name, weights in (("a", 300_000), ("b", 200_000)):
        run = run_spec(f"net/{name}@downstream")
        folder = write_training_of(tmp_path, run, 60)
        write_card(folder, read_card(folder) | {"parameters": {"all": weights, "trained": 0}})
        rows.append(row_spec(name, [evaluated(run)], published=name))
        trainings.append(f"train/{run.path}")
    write_curves(tmp_path, [tmp_path / path for path in trainings])
    table = table_spec(["parameters", "denoiser_parameters"], rows, name="weights", paper="p", published="T")
    spec = PageSpec(study="small", tables=(table,), figures=(), shifts=(), trainings=tuple(trainings), records=())
    write_report(spec, tmp_path, tmp_path, published, {"digits": digits}, tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    assert parsed.text_of("strong") == ["0.200", "0.9"]
    assert {"Weights (M)", "Denoiser (M)"} <= set(parsed.text_of("th"))


def test_a_denoiser_is_a_network_without_clean_accuracy(digits: Path, tmp_path: Path) -> None:
    run = run_spec("unet/denoise@upstream")
    folder = write_training_of(tmp_path, run, 60)
    write_card(folder, read_card(folder) | {"test": {"images": 300, "score": -0.01}})
    write_curves(tmp_path, [folder])
    spec = PageSpec(study="small", tables=(), figures=(), shifts=(), trainings=(f"train/{run.path}",), records=())
    write_report(spec, tmp_path, tmp_path, PUBLISHED, {"digits": digits}, tmp_path / "report.html")
    cells = [text for tag, text in read_page(tmp_path / "report.html").texts if tag in ("th", "td")]
    at = cells.index(run.path)
    assert cells[at : at + 4] == [run.path, "0.003", "0.900", "–"]


def test_attacks_have_their_table_their_figure_and_what_they_took(tmp_path: Path) -> None:
    """Two networks were attacked, and one of them certified too."""
    write_curves(tmp_path, [write_training_of(tmp_path, run, 270) for run in RUNS.values()])
    made = {"versions": {"torch": "2.15.0"}, "commit": "c" * 40}
    attacks = {name: evaluated(run, "autopgd_025", kind="attack") for name, run in RUNS.items()}
    for outcomes, each in zip(("rrfw", "rfff"), attacks.values(), strict=True):
        write_attack(tmp_path, each, left(outcomes, 0.25), spec={"run": each.run.dump(), "steps": 20}, **made)
    certified = evaluated(RUNS["mixed"], "certify")
    write_records(tmp_path, certified, [row(index) for index in range(5)], **made)
    both = certified.model_copy(update={"records": (*certified.records, *attacks["mixed"].records)})
    rows = [row_spec(name, [each]) for name, each in attacks.items()]
    panel = PanelSpec(title="A", rows=(row_spec("mixed", [both]),))
    spec = PageSpec(
        study="small",
        tables=(table_spec(["clean", "standard", "robust@0.25"], rows, name="table2", title="Attacked"),),
        figures=(FigureSpec(name="figure1", title="Bounds", caption="Two.", panels=(panel,)),),
        shifts=(),
        trainings=tuple(f"train/{run.path}" for run in RUNS.values()),
        records=(*certified.records, *(path for each in attacks.values() for path in each.records)),
    )
    write_report(spec, tmp_path, tmp_path, PUBLISHED, {}, tmp_path / "report.html")
    parsed = read_page(tmp_path / "report.html")
    assert {"SA", "RA, ε = 0.25"} <= set(parsed.text_of("th"))
    assert {"50.0", "90.0", "75.0", "100.0"} <= {*parsed.text_of("strong"), *parsed.text_of("td")}
    said = " ".join(text for _, text in parsed.texts)
    assert "2 networks were attacked, each on 4 test images; 1 networks were certified" in said
    assert "At ε = 0.25, mixed reaches 50.0 % [7, 93] (under attack), the most of 2 rows" in said
    assert "Attack at ε = 0.25: AutoPGD in l2 on cross_entropy and margin, 20 steps." in said
    assert "RA is an upper bound" in said
    assert list(charts_of(parsed)) == ["chart-figure1", "chart-training"]
    drawn = {curve["curve"]: curve for curve in charts_of(parsed)["chart-figure1"]["data"]["values"]}
    bound = drawn["attacked without noise"]
    shares = dict(zip(bound["radius ε"], bound["certified accuracy"], strict=True))
    assert (shares[0.0], shares[0.2375], shares[0.25], bound["test images"]) == (0.75, 0.75, 0.5, 4)
    assert drawn["σ = 0.5"]["test images"] == 5
    assert f"attack 2 4 s {8 * 45} " in said  # jobs, time, evaluations
    hrefs = [tag.get("href", "") for tag in parsed.attributes("a")]
    assert all(each.records[0].path in hrefs for each in attacks.values())
