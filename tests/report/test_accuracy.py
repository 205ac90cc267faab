import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.records.test_table import row
from transmooth.checkpoint.card import write_card
from transmooth.records import table as records
from transmooth.report.accuracy import (
    RowResult,
    Settings,
    average_certified_radius,
    certified_accuracy,
    certified_radius,
    read_files,
    read_log_row,
    read_row,
    tidy,
)
from transmooth.report.figures import curves, wide
from transmooth.report.tables import markdown, paper_rows, read_published, summary
from transmooth.report.training import write_training


def test_accuracy_counts_right_images_with_at_least_the_radius() -> None:
    frame = pd.DataFrame(
        {"label": [1, 1, 1, 1, 2], "prediction": [1, 2, -1, 1, 2], "radius": [0.5, 0.9, 0.0, 0.25, 0.0]}
    )
    radii = certified_radius(frame)
    # Right at 0.5, 0.25 and 0; wrong at 0.9; one abstains.
    assert certified_accuracy(radii, [0, 0.25, 0.2500001, 0.5, 0.9]).tolist() == pytest.approx([0.6, 0.4, 0.2, 0.2, 0])
    assert average_certified_radius(radii) == pytest.approx(0.75 / 5)
    # An abstention is not right, even where nobody knows the label.
    assert certified_radius(frame.assign(label=-1)).tolist() == [-np.inf] * 5


@given(st.lists(st.floats(0, 4) | st.just(-np.inf), min_size=1), st.floats(0, 4))
def test_accuracy_is_the_plain_count(radii: list[float], at: float) -> None:
    assert certified_accuracy(np.array(radii), [at])[0] == pytest.approx(sum(r >= at for r in radii) / len(radii))


COHEN = Settings("cohen", 50, 200, 0.001)


def result(curves: dict[float, list[list[float]]], clean: list[float], settings: Settings = COHEN) -> RowResult:
    arrays = {s: np.array(c) for s, c in curves.items()}
    return RowResult("ours", "", "method=ours", arrays, np.array(clean), 400, settings)


# Two seeds, four images; the small sigma wins at 0.25, the large one at 0.75.
TWO = result(
    {0.25: [[0.5, 0.5, 0.5, -np.inf], [0.5, 0.5, -np.inf, -np.inf]], 1.0: [[1.0, 1.0, -np.inf, -np.inf]] * 2},
    [0.9, 0.8],
)


def test_oracle_takes_the_best_sigma_at_each_radius_and_brackets_its_own_curve() -> None:
    lines = tidy([TWO], [0.25, 0.75])
    oracle = lines[lines["oracle"]].set_index("radius")
    assert oracle["sigma"].tolist() == [0.25, 1.0]
    assert oracle["certified_accuracy"].tolist() == [0.625, 0.5]
    assert oracle["natural_certified_accuracy"].tolist() == [0.625, 0.5]
    assert oracle.loc[0.25, "seed_sd"] == pytest.approx(np.std([0.75, 0.5], ddof=1))
    by_sigma = lines[~lines["oracle"]]
    assert len(by_sigma) == 4
    assert by_sigma[by_sigma["sigma"] == 1.0]["acr"].tolist() == [0.5, 0.5]
    assert (lines["images"] == 4).all()
    assert (lines["seeds"] == 2).all()


def test_interval_is_clopper_pearson_over_the_images() -> None:
    row = result({0.5: [[1.0] * 50 + [-np.inf] * 50]}, [0.5])
    line = tidy([row], [0.5]).iloc[0]
    assert (line["low"], line["high"]) == pytest.approx((0.39832, 0.60168), abs=1e-5)  # the textbook value


def test_markdown_has_ours_per_sigma_and_the_papers_block(tmp_path: Path) -> None:
    published = tmp_path / "published.csv"
    published.write_text(
        "paper,table,block,row,dataset,metric,radius,sigma,value,unit,method,note\n"
        "mixed-noise,Table 3,,method=ours,CIFAR-10,certified_acc,0.25,,80.1,percent,Ours,\n"
        "mixed-noise,Table 3,,method=ours,CIFAR-10,natural_certified_acc,0.25,,90.2,percent,Ours,\n"
        "mixed-noise,Table 3,,method=ours,CIFAR-10,clean_acc,,,98.0,percent,Ours,\n"
        "mixed-noise,Table 3,,method=other,CIFAR-10,certified_acc,0.25,,60.0,percent,Other 2021,\n"
        "mixed-noise,Table 4,,method=no,CIFAR-10,certified_acc,0.25,,1.0,percent,No,\n"
    )
    spec = {"title": "Title", "caption": "Caption.", "paper": "Table 3", "radii": [0.25, 0.75]}
    text = markdown(spec, tidy([TWO], spec["radii"]), read_published(published, "Table 3"), pd.DataFrame())
    assert "| ours | **85.0 ± 7.1** | (62.5) **62.5** ± 17.7 [12, 97] | (50.0) **50.0** ± 0.0 [7, 93] |" in text
    assert "| ours | 1 | 0.500 | (50.0) 50.0" in text
    assert "| ours | 98.0 | (90.2) 80.1 | – |" in text
    assert "| Other 2021 | – | 60.0 | – |" in text
    assert "mean of 2 seeds" in text
    assert text.startswith("# Title\n\nCaption.\n\nMethod: cohen, n0 = 50, n = 200, α = 0.001.\n\n")
    assert "|  | σ | ACR |" in text
    assert "No" not in text.split("Quoted from the paper")[1]


def test_markdown_says_what_the_method_leaves_out() -> None:
    spec = {"title": "Title", "caption": "Caption.", "paper": None, "radii": [0.25]}
    grid = replace(TWO, label="fast", settings=Settings("sequential", 50, 200, 0.001, (0.0, 0.25)))
    unknown = replace(grid, settings=Settings("sequential", 50, 200, 0.001, ()))
    bound = "only: the ACR, and accuracies at any other ε, are lower bounds.\n"
    text = markdown(spec, tidy([grid], spec["radii"]), pd.DataFrame(), pd.DataFrame())
    assert f"\nMethod: sequential, n0 = 50, n ≤ 200, α = 0.001. Decided at ε = 0, 0.25 {bound}" in text
    assert "|  | σ | ≥ ACR |" in text
    both = markdown(spec, tidy([TWO, grid], spec["radii"]), pd.DataFrame(), pd.DataFrame())
    assert "Method of ours: cohen, n0 = 50, n = 200, α = 0.001. Method of fast: sequential, n0" in both
    text = markdown(spec, tidy([unknown], spec["radii"]), pd.DataFrame(), pd.DataFrame())
    assert f"Decided at ε = unknown {bound}" in text


def log_files(folder: Path, last: str = "6\t1\t1\t1.9\t1\t0:00:01\n") -> dict[str, Any]:
    """The spec of a row from two logs of the same three images."""
    head = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
    lines = "0\t1\t1\t0.4\t1\t0:00:01\n3\t2\t2\t0.5\t1\t0:00:01\n6\t1\t-1\t0.0\t0\t0:00:01\n"
    (folder / "quarter.tsv").write_text(head + lines)
    (folder / "one.tsv").write_text(head + "0\t1\t2\t0.4\t0\t0:00:01\n3\t2\t-1\t0.0\t0\t0:00:01\n" + last)
    files = [{"sigma": 0.25, "file": "quarter.tsv"}, {"sigma": 1.0, "file": str(folder / "one.tsv")}]
    return {"label": "theirs", "published": "method=other", "files": files}


def test_a_row_from_logs_is_computed_and_stands_apart(tmp_path: Path) -> None:
    row = read_log_row(log_files(tmp_path), tmp_path)
    assert row.accuracy(0.25, [0.0, 0.4, 0.45])[0] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    spec = {"title": "Title", "caption": "Caption.", "paper": None, "radii": [0.25, 0.75]}
    text = markdown(spec, tidy([TWO], spec["radii"]), pd.DataFrame(), tidy([row], spec["radii"]))
    own, theirs = text.split("## Recomputed from logs of others")
    assert "theirs" not in own
    assert "| theirs | – | (66.7) **66.7** [9, 99] | (33.3) **33.3** [1, 91] |" in theirs
    assert "Test images of each: theirs: 3." in theirs


def test_logs_of_other_images_do_not_make_a_row(tmp_path: Path) -> None:
    spec = log_files(tmp_path, last="7\t1\t1\t1.9\t1\t0:00:01\n")
    with pytest.raises(ValueError, match=r"one\.tsv: should be of the same images as the other logs of theirs"):
        read_log_row(spec, tmp_path)


def test_summary_has_keys_that_dvc_can_nest() -> None:
    runs = [{"pretrain": "mixed", "dataset": "digits", "finetune": "clean"}]
    made = summary({"rows": [{"runs": runs}]}, tidy([TWO], [0.25]))
    assert made == {"mixed-digits-clean": {"clean_accuracy": 0.85, "certified_accuracy_0_25": 0.625}}


def test_one_row_draws_its_sigmas_and_an_oracle_above_them() -> None:
    grid = np.linspace(0, 1.1, 12)
    frame = curves([TWO], grid)
    assert list(dict.fromkeys(frame["curve"])) == ["σ = 0.25", "σ = 1", "oracle over σ"]
    table = wide([("Panel", frame, 4)])
    assert table.index.name == "radius"
    oracle = table[["Panel: σ = 0.25", "Panel: σ = 1"]].max(axis=1)
    assert (table["Panel: oracle over σ"] == oracle).all()
    assert (table["Panel: σ = 1 low"] <= table["Panel: σ = 1"]).all()
    assert list(dict.fromkeys(curves([TWO, TWO], grid)["curve"])) == ["ours"]


def test_training_curves_are_those_of_the_kept_learning_rate(tmp_path: Path) -> None:
    for run, kept in (("a", 0.1), ("b", 0.2)):
        lines = [{"lr": lr, "epoch": e, "validation_accuracy": lr + e} for lr in (0.1, 0.2) for e in (1, 2)]
        (tmp_path / run).mkdir()
        (tmp_path / run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        write_card(tmp_path / run, {"lr": kept})
    write_training([tmp_path / "a", tmp_path / "b"], tmp_path / "out.csv")
    read = pd.read_csv(tmp_path / "out.csv", index_col="epoch")
    assert read[str(tmp_path / "a")].tolist() == [1.1, 2.1]
    assert read[str(tmp_path / "b")].tolist() == [1.2, 2.2]


def test_a_row_is_read_from_records_and_cards(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "certify" / f"run/{seed}"
        rows = [row(i, s, radius=s, prediction=3 if i else 9) for i in range(4) for s in (0.25, 1.0)]
        made = {"spec": {"n": 2000, "radii": [0.0, 1.0]}}
        records.write(records.from_rows(rows, made), folder / "records.parquet")
        card = tmp_path / "finetune" / f"run/{seed}"
        card.mkdir(parents=True)
        write_card(card, {"test": {"images": 10, "correct": 9 - seed}})
    spec = {"label": "a", "block": "b", "published": None, "runs": [{"path": f"run/{s}"} for s in (0, 1)]}
    read = read_row(spec, tmp_path)
    assert read.clean.tolist() == [0.9, 0.8]
    assert (read.images, read.seeds) == (4, 2)
    assert read.accuracy(1.0, [0.0, 1.0, 1.1]).tolist() == [[0.75, 0.75, 0.0]] * 2
    assert read.settings == Settings("cohen", 100, 2000, 0.001, (0.0, 1.0))
    other = tmp_path / "certify" / "run/1" / "records.parquet"
    records.write(pa.Table.from_pylist([row(i, alpha=0.01) for i in range(4)], records.SCHEMA), other)
    with pytest.raises(ValueError, match="a: its runs should be certified alike"):
        read_row(spec, tmp_path)
    records.write(pa.Table.from_pylist([row(0), row(1, n0=1)], records.SCHEMA), other)
    with pytest.raises(ValueError, match="holds records of 2 settings"):
        read_row(spec, tmp_path)


def test_records_of_one_network_stand_in_one_row_whatever_their_files(tmp_path: Path) -> None:
    def write(name: str, *rows: dict[str, object]) -> Path:
        records.write(records.from_rows(rows, {"spec": {"n": 2000}}), tmp_path / name)
        return tmp_path / name

    small, large = ([row(i, s, radius=s * i) for i in range(4)] for s in (0.25, 1.0))
    apart = read_files([write("large", *large), write("small", *small)], "own")
    assert list(apart.curves) == [0.25, 1.0]
    assert apart.curves[0.25].tolist() == [[0.0, 0.25, 0.5, 0.75]]
    assert (apart.images, apart.seeds, apart.settings) == (4, 1, Settings("cohen", 100, 2000, 0.001))
    together = read_files([write("both", *small, *large)], "own")
    assert [each.tolist() for each in together.curves.values()] == [each.tolist() for each in apart.curves.values()]
    for other, fault in [
        (large[:3], "its images"),
        ([each | {"label": 1} for each in large], "its images"),
        ([each | {"model": "other"} for each in large], "its model"),
        ([each | {"alpha": 0.01} for each in large], "how it was certified"),
        (small, "sigma = 0.25 is there twice"),
        ([each | {"label": None} for each in large], "labels or n0 are unknown"),
    ]:
        with pytest.raises(ValueError, match=f"other: {fault}"):
            read_files([tmp_path / "small", write("other", *other)], "own")


def test_rows_of_the_paper_have_names_to_read() -> None:
    def names(table: str) -> list[str]:
        return [each.name for each in paper_rows(read_published(ROOT / "params" / "published.csv", table), {})]

    assert not [name for table in ("Table 1", "Table 4", "Table 8") for name in names(table) if "=" in name]
    assert {"Full-Network: clean → σ 0.25", "Fixed-Feature: mixed → clean, epochs 1"} <= set(names("Table 1"))
    assert "scratch → σ 0.25" in names("Table 4")
