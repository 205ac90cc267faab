"""Tables for people, and their numbers for dvc metrics."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.helpers.report import (
    TWO,
    attack_result,
    evaluated,
    log_files,
    radii_as_rows,
    result,
    row_spec,
    run_spec,
    table_spec,
    write_clean,
    write_records,
)
from transmooth.report.accuracy import RowResult, Settings, read_row
from transmooth.report.cells import cells, shown
from transmooth.report.tables import markdown, markdown_table, paper_rows, read_published, summary, write_table
from transmooth.specs import RowSpec, TableSpec

HEAD = "paper,table,block,row,dataset,metric,radius,sigma,value,unit,method,note\n"
LINES = [
    "mixed-noise,Table 3,,method=ours,CIFAR-10,certified_acc,0.25,,80.1,percent,Ours,",
    "mixed-noise,Table 3,,method=ours,CIFAR-10,natural_certified_acc,0.25,,90.2,percent,Ours,",
    "mixed-noise,Table 3,,method=ours,CIFAR-10,clean_acc,,,98.0,percent,Ours,",
    "mixed-noise,Table 3,,method=other,CIFAR-10,certified_acc,0.25,,60.0,percent,Other 2021,",
    "mixed-noise,Table 4,,method=no,CIFAR-10,certified_acc,0.25,,1.0,percent,No,",
    "another,Table 3,,method=no,CIFAR-10,certified_acc,0.25,,2.0,percent,No,",
]
NOTHING = read_published(ROOT / "params" / "published.csv", None, None)


def quoted(folder: Path, *lines: str, table: str = "Table 3") -> pd.DataFrame:
    """Published numbers of one table, of a file with these lines."""
    path = folder / "published.csv"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return read_published(path, "mixed-noise", table)


def text_of(spec: TableSpec, rows: Sequence[RowResult], published: pd.DataFrame = NOTHING) -> str:
    """The Markdown of a table."""
    return markdown(spec, cells(rows, spec.columns), published)


def test_markdown_has_ours_by_sigma_and_the_papers_numbers(tmp_path: Path) -> None:
    columns = ["clean", "certified@0.25", "certified@0.75"]
    spec = table_spec(columns, published="Table 3", paper="mixed-noise", brackets="natural")
    text = text_of(spec, [TWO], quoted(tmp_path, *LINES))
    assert text.startswith("# Title\n\nCaption.\n\nMethod: cohen, n0 = 50, n = 200, α = 0.001.\n\n## Here: the largest")
    assert "|  | Clean | ε = 0.25 | ε = 0.75 |\n" in text
    assert "| ours | **85.0 ± 7.1** | (62.5) **62.5** ± 17.7 [12, 97] | (50.0) **50.0** ± 0.0 [7, 93] |" in text
    assert "mean of 2 seeds" in text
    assert "|  | σ | ACR | ε = 0.25 | ε = 0.75 |\n" in text
    assert "| ours | 0.25 | 0.312 | (62.5) **62.5** ± 17.7 [12, 97] | (62.5) 0.0 ± 0.0 [0, 60] |" in text
    assert "| ours | 1 | 0.500 | (50.0) 50.0 ± 0.0 [7, 93] | (50.0) **50.0** ± 0.0 [7, 93] |" in text
    ours, paper = text.split("## Quoted from the paper (Table 3, CIFAR-10)")
    assert "98.0" not in ours
    assert "| Ours | 98.0 | (90.2) 80.1 | – |" in paper
    assert "| Other 2021 | – | 60.0 | – |" in paper
    assert "No" not in paper  # of another table, of another paper


def test_chance_stands_with_the_method_by_dataset_where_it_differs() -> None:
    spec = table_spec(["clean", "certified@0.25"])
    assert "Chance" not in text_of(spec, [TWO])
    known = replace(TWO, chance=0.1)
    assert "α = 0.001. Chance, one answer for all images: 10.0 % at every ε.\n" in text_of(spec, [known])
    others = [replace(known, label="a", dataset="digits", chance=0.128), replace(known, dataset="cifar")]
    others += [replace(known, label="b", dataset="cifar_500")]
    assert "images: 12.8 % (digits) and 10.0 % (cifar, cifar_500) at every ε." in text_of(spec, others)
    assert "images: 10.0 % at every ε." in text_of(spec, others[1:])
    lines = cells(others, spec.columns)
    assert set(lines.loc[lines["chance"].notna(), "column"]) == {"certified@0.25"}


def test_without_brackets_the_natural_accuracy_is_not_there(tmp_path: Path) -> None:
    text = text_of(table_spec(["certified@0.25"], published="Table 3"), [TWO], quoted(tmp_path, *LINES))
    assert "| ours | **62.5** ± 17.7 [12, 97] |" in text
    assert "| Ours | 80.1 |" in text
    assert "(" not in text.split("## Here: the largest")[1].split("\n\n")[2]


def test_columns_stand_in_the_order_of_the_params() -> None:
    text = text_of(table_spec(["certified@0.75", "acr", "certified@0.25", "clean"]), [TWO])
    assert "|  | ε = 0.75 | ACR | ε = 0.25 | Clean |\n" in text
    row = "| ours | **50.0** ± 0.0 [7, 93] | **0.500 ± 0.000** | **62.5** ± 17.7 [12, 97] | **85.0 ± 7.1** |"
    assert row in text
    assert "Certified accuracy at ε and clean accuracy in percent and average certified radius: value [95 %" in text


def test_a_table_of_clean_accuracy_says_nothing_of_certification() -> None:
    rows = [result({}, [0.9], settings=Settings()), result({0.5: [[1.0]]}, [0.8], label="certified too")]
    assert text_of(table_spec(["clean"]), rows) == (
        "# Title\n\nCaption.\n\n## Here\n\nClean accuracy in percent: value, one seed.\n\n"
        "|  | Clean |\n| --- | --- |\n| ours | **90.0** |\n| certified too | 80.0 |\n"
    )


def test_a_table_has_what_the_last_stage_took_beside_the_papers_numbers(tmp_path: Path) -> None:
    """Less is better there; what nobody knows is a dash, and no value of the metrics."""
    took = {"parameters": [0.2, 0.2], "trained": [0.1, 0.1], "hours": [0.5, 1.5]}
    stage = {name: np.array(values) for name, values in took.items()}
    full = replace(TWO, label="full", stage=stage | {"denoiser_parameters": np.full(2, 0.16)})
    fixed = replace(
        TWO, label="fixed", stage=stage | {"trained": np.zeros(2), "denoiser_parameters": np.full(2, np.nan)}
    )
    texts = ["denoiser_parameters", "parameters", "trained", "hours", "acr"]
    rows = [row_spec(name, [evaluated(run_spec(f"net/{name}@task"))]) for name in ("full", "fixed")]
    rows[0] = rows[0].model_copy(update={"published": "method=ours"})
    lines = [
        f"mixed-noise,Table 4,,method=ours,ImageNet,{metric},,,{value},millions,Ours,"
        for metric, value in (("classifier_params_M", 87), ("denoiser_params_M", 552), ("trainable_params_M", 0.9))
    ]
    spec = table_spec(texts, rows, published="Table 4", paper="mixed-noise", brackets="natural")
    made = cells([full, fixed], spec.columns)
    text = markdown(spec, made, quoted(tmp_path, *lines, table="Table 4"))
    assert "|  | Denoiser (M) | Weights (M) | Learning (M) | Hours | ACR |\n" in text
    # Where rows are alike none is the best.
    full_cells = "**0.160 ± 0.000** | 0.200 ± 0.000 | 0.100 ± 0.000 | 1.00 ± 0.71 | 0.500 ± 0.000"
    assert f"| full | {full_cells} |\n" in text
    assert "| fixed | – | 0.200 ± 0.000 | **0.000 ± 0.000** | 1.00 ± 0.71 | 0.500 ± 0.000 |\n" in text
    assert "| full | 552 | 87 | 0.9 | – | – |\n" in text
    said = (
        "Average certified radius, weights of the denoiser, weights of the classifier and those that learn in the last"
    )
    assert f"{said} stage in millions and time of the last stage in hours: (curve" in text
    assert summary(spec, made) == {
        "net/full@task": {"denoiser_parameters": 0.16, "parameters": 0.2, "trained": 0.1, "hours": 1.0, "acr": 0.5},
        "net/fixed@task": {"parameters": 0.2, "trained": 0.0, "hours": 1.0, "acr": 0.5},
    }


def test_the_papers_table_of_weights_has_a_row_for_each_method() -> None:
    published = read_published(ROOT / "params" / "published.csv", "ft-cadis", "Table 4")
    rows = paper_rows(published, table_spec(["denoiser_parameters", "parameters", "trained"]))
    assert {row.key[1]: row.cells for row in rows} == {
        "method=cat-rs": (None, "26", "26"),
        "method=diffusion_denoised": ("552", "305", None),
        "method=multi-scale_denoised": ("552", "87", "552"),
        "method=ft-cadis": ("552", "87", "0.9"),
    }


def test_a_table_of_radii_has_them_at_each_sigma() -> None:
    text = text_of(table_spec(["acr"]), [TWO])
    assert "|  | ACR |\n| --- | --- |\n| ours | **0.500 ± 0.000** |\n" in text
    assert "|  | σ | ACR |\n| --- | --- | --- |\n| ours | 0.25 | 0.312 |\n| ours | 1 | 0.500 |\n" in text


def test_rows_of_one_sigma_are_no_oracle_and_stand_there_once() -> None:
    """Whether they are all at the same one, or each at its own."""
    half = result({0.5: [[0.5, 0.3, -np.inf, -np.inf]]}, label="half")
    again = replace(half, label="again", clean=np.array([0.8]))
    spec = table_spec(["clean", "certified@0.25", "acr"], brackets="natural")
    assert text_of(spec, [half, again]) == (
        "# Title\n\nCaption.\n\nMethod: cohen, n0 = 50, n = 200, α = 0.001.\n\n## Here\n\n"
        "Clean accuracy and certified accuracy at ε in percent and average certified radius: (curve at ε = 0) value "
        "[95 % interval over 4 test images], one seed. Certified at σ = 0.5.\n\n"
        "|  | Clean | ε = 0.25 | ACR |\n| --- | --- | --- | --- |\n"
        "| half | **90.0** | (50.0) 50.0 [7, 93] | 0.200 |\n"
        "| again | 80.0 | (50.0) 50.0 [7, 93] | 0.200 |\n"
    )
    one = result({1.0: [[1.0, 1.0, 0.5, -np.inf]]}, label="one")
    text = text_of(table_spec(["certified@0.25"]), [half, again, one])
    assert "one seed. Certified at σ = 0.5 (half, again) and σ = 1 (one).\n" in text
    assert text.endswith("| half | 50.0 [7, 93] |\n| again | 50.0 [7, 93] |\n| one | **75.0** [19, 99] |\n")
    assert not {"oracle", "largest"} & {*text.split()}
    mixed = text_of(table_spec(["certified@0.25"]), [half, TWO])
    assert "## Here: the largest over σ at each ε" in mixed
    assert "| half | 0.5 | 0.200 | 50.0 [7, 93] |\n| ours | 0.25 |" in mixed


def test_markdown_says_what_the_method_leaves_out() -> None:
    spec = table_spec(["certified@0.25"])
    grid = replace(TWO, label="fast", settings=Settings("sequential", 50, 200, 0.001, (0.0, 0.25)))
    unknown = replace(grid, settings=Settings("sequential", 50, 200, 0.001, ()))
    bound = "only: the ACR, and accuracies at any other ε, are lower bounds.\n"
    text = text_of(spec, [grid])
    assert f"\nMethod: sequential, n0 = 50, n ≤ 200, α = 0.001. Decided at ε = 0, 0.25 {bound}" in text
    assert "|  | σ | ≥ ACR |" in text
    both = text_of(spec, [TWO, grid])
    assert "Method of ours: cohen, n0 = 50, n = 200, α = 0.001. Method of fast: sequential, n0" in both
    assert f"Decided at ε = unknown {bound}" in text_of(spec, [unknown])


def test_a_row_from_logs_stands_apart_from_one_of_ours_with_its_name(tmp_path: Path) -> None:
    logs = log_files(tmp_path)
    named_alike = replace(TWO, label="theirs", block="Ours")
    spec = table_spec(["clean", "certified@0.25", "certified@0.75"], [logs], brackets="natural")
    text = text_of(spec, [named_alike, read_row(logs, tmp_path, tmp_path)])
    own, theirs = text.split("## Recomputed from logs of others")
    assert "| Ours: theirs | **85.0 ± 7.1** | (62.5) **62.5** ± 17.7 [12, 97] |" in own
    assert "66.7" not in own
    assert "| theirs | – | (66.7) **66.7** [9, 99] | (33.3) **33.3** [1, 91] |" in theirs
    assert "Test images of each: theirs: 3." in theirs
    only = text_of(spec, [read_row(logs, tmp_path, tmp_path)])
    assert only.startswith("# Title\n\nCaption.\n\n## Recomputed from logs of others")


def test_the_papers_rows_of_several_datasets_stand_beside_ours_of_the_same(tmp_path: Path) -> None:
    """A table with tasks: each row is there for each dataset, with one key in all of them."""
    lines = [
        f"mixed-noise,Table 5,,pretrain=mixed;finetune=clean,{dataset},clean_acc,,,{value},percent,,"
        for dataset, value in (("Food", "70.1"), ("Cars", "60.2"), ("Birds", "50.3"))
    ]
    published = quoted(tmp_path, *lines, table="Table 5")
    rows = [
        row_spec("mixed", [evaluated(run_spec("net/a@task"))], block=dataset.lower(), dataset=dataset, published=key)
        for dataset, key in (("Cars", "pretrain=mixed;finetune=clean"), ("Food", "pretrain=mixed;finetune=clean"))
    ]
    spec = table_spec(["clean"], rows, published="Table 5", paper="mixed-noise")
    found = {(row.name, row.cells) for row in paper_rows(published, spec)}
    assert found == {("Food: mixed", ("70.1",)), ("Cars: mixed", ("60.2",)), ("Birds: mixed → clean", ("50.3",))}
    text = markdown(spec, cells([result({}, [0.5], settings=Settings())], spec.columns), published)
    assert "## Quoted from the paper (Table 5, Birds, Cars, Food)" in text
    assert "| Cars: mixed | 60.2 |" in text


def test_a_paper_of_one_dataset_stands_beside_ours_whatever_that_is_called(tmp_path: Path) -> None:
    rows = [row_spec("our name", [evaluated(run_spec("net/a@b"))], published="method=ours", dataset="digits")]
    found = paper_rows(quoted(tmp_path, *LINES), table_spec(["clean", "certified@0.5"], rows))
    assert [(row.name, row.key, row.cells) for row in found] == [
        ("our name", ("CIFAR-10", "method=ours"), ("98.0", None)),
        ("Other 2021", ("CIFAR-10", "method=other"), (None, None)),
    ]


def test_summary_has_keys_that_dvc_can_nest() -> None:
    low = evaluated(run_spec("layer_norm/mixed@upstream/low_noise@downstream"), "certify")
    twice = [row_spec("ours", [low]), row_spec("again", [low], block="σ 0.25")]
    spec = table_spec(["clean", "certified@0.25", "acr"], [*twice, RowSpec(label="theirs", block="")])
    rows = [TWO, replace(TWO, label="again", block="σ 0.25", clean=np.array([0.1, 0.2])), replace(TWO, label="theirs")]
    made = summary(spec, cells(rows, spec.columns))
    name = "layer_norm/mixed@upstream/low_noise@downstream"
    assert made == {
        name: {"clean": 0.85, "certified_0_25": 0.625, "acr": 0.5},
        f"{name}/2": {"clean": 0.15, "certified_0_25": 0.625, "acr": 0.5},
    }
    assert "." not in " ".join([*made, *made[name]])


def test_a_table_is_written_from_records_cards_and_logs(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text(HEAD + "\n".join(LINES) + "\n")
    runs = [evaluated(run_spec("net/clean@downstream", seed), "certify") for seed in (0, 1)]
    for seed, each in enumerate(runs):
        write_records(tmp_path, each, radii_as_rows([0.3, 0.2 + seed, -np.inf, 0.9], 0.5))
        write_clean(tmp_path, each.run, 9 - seed)
    ours = row_spec("ours", *([each] for each in runs), published="method=ours", dataset="CIFAR-10")
    spec = table_spec(
        ["clean", "certified@0.25"], [ours, log_files(tmp_path)], paper="mixed-noise", published="Table 3"
    )
    out, metrics = tmp_path / "tables" / "table", tmp_path / "metrics" / "table.json"
    write_table(spec, tmp_path, tmp_path, tmp_path / "published.csv", out, metrics)
    lines = pd.read_csv(out.with_suffix(".csv"))
    own = shown(lines, spec.columns).set_index(["row", "column"])[["value", "oracle"]]
    assert own.loc[("ours", "certified@0.25")].tolist() == [0.625, False]  # at its one sigma
    assert own.loc[("theirs", "certified@0.25")].tolist() == [pytest.approx(2 / 3, abs=1e-6), True]
    text = out.with_suffix(".md").read_text()
    assert "| ours | 98.0 | 80.1 |" in text
    assert "| ours | **85.0 ± 7.1** | **62.5** ± 17.7 [12, 97] |" in text
    assert json.loads(metrics.read_text()) == {"net/clean@downstream": {"clean": 0.85, "certified_0_25": 0.625}}


def test_rows_of_the_paper_have_names_to_read() -> None:
    def names(table: str) -> list[str]:
        published = read_published(ROOT / "params" / "published.csv", "mixed-noise", table)
        return [each.name for each in paper_rows(published, table_spec(["clean"]))]

    assert not [name for table in ("Table 1", "Table 4", "Table 8") for name in names(table) if "=" in name]
    assert {"Full-Network: clean → σ 0.25", "Fixed-Feature: mixed → clean, epochs 1"} <= set(names("Table 1"))
    assert "scratch → σ 0.25" in names("Table 4")


def test_nothing_is_the_best_of_what_nobody_reaches_or_of_equals() -> None:
    spec = table_spec(["certified@0.25", "certified@2", "acr"])
    weak = result({0.5: [[0.3, -np.inf, -np.inf, -np.inf]]}, label="weak")
    strong = result({0.5: [[0.3, 0.3, -np.inf, -np.inf]]}, label="strong")
    text = text_of(spec, [weak, strong])
    assert "| weak | 25.0 [1, 81] | 0.0 [0, 60] | 0.075 |\n" in text
    assert "| strong | **50.0** [7, 93] | 0.0 [0, 60] | **0.150** |\n" in text
    alone = text_of(spec, [strong])
    assert "| strong | **50.0** [7, 93] | 0.0 [0, 60] | **0.150** |\n" in alone


def test_the_best_is_of_the_rows_of_one_dataset() -> None:
    rows = [
        result({0.5: [[0.3, *[-np.inf] * missed]]}, label=label, block=task, dataset=task)
        for task, label, missed in (("easy", "a", 0), ("easy", "b", 1), ("hard", "a", 3), ("hard", "b", 2))
    ]
    text = text_of(table_spec(["certified@0.25"]), rows)
    assert "| easy: a | **100.0** [3, 100] |\n| easy: b | 50.0 [1, 99] |\n" in text
    assert "| hard: a | 25.0 [1, 81] |\n| hard: b | **33.3** [1, 91] |\n" in text


def test_the_papers_rows_of_one_method_are_told_apart(tmp_path: Path) -> None:
    """The block is not said twice where it is the dataset."""
    lines = [
        f"mixed-noise,Table 3,{dataset},method=m;sigma={sigma},{dataset},certified_acc,0.25,{sigma},1.0,percent,M,"
        for dataset, sigma in (("A", 0.25), ("A", 0.5), ("B", 0.25))
    ]
    rows = paper_rows(quoted(tmp_path, *lines), table_spec(["certified@0.25"]))
    assert [row.name for row in rows] == ["A: M, σ 0.25", "A: M, σ 0.5", "B: M"]


def test_a_table_of_attacks_says_what_its_numbers_are_and_how_they_were_made(tmp_path: Path) -> None:
    lines = [
        "transfer,Table 2,,x=1,Food-101,standard_acc,,,74.5,percent,Theirs,",
        "transfer,Table 2,,x=1,Food-101,robust_acc,0.25,,62.3,percent,Theirs,",
    ]
    path = tmp_path / "published.csv"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    spec = table_spec(["clean", "standard", "robust@0.25"], published="Table 2", paper="transfer")
    right = [[1, 1, 1, 0]]
    rows = [
        result({}, label="a", attacks={0.25: attack_result(right, [[1, 1, 0, 0]])}),
        result({}, label="b", attacks={0.25: attack_result(right, [[1, 0, 0, 0]])}),
    ]
    text = text_of(spec, rows, read_published(path, "transfer", "Table 2"))
    assert "Attack at ε = 0.25: AutoPGD in l2.\n" in text
    assert "robust accuracy under attack within ε (RA, an upper bound) in percent" in text
    assert "value [95 % interval over 4 test images], one seed.\n" in text
    assert "|  | Clean | SA | RA, ε = 0.25 |\n" in text
    assert "| a | 90.0 | 75.0 [19, 99] | **50.0** [7, 93] |\n" in text
    assert "| Theirs | – | 74.5 | 62.3 |" in text
    other = [rows[0], replace(rows[1], attacks={0.25: attack_result(right, [[1, 0, 0, 0]], "linf")})]
    assert "Attack of a at ε = 0.25: AutoPGD in l2. Attack of b at ε = 0.25: AutoPGD in linf." in text_of(spec, other)
    assert "Attack" not in text_of(spec, [TWO])


def test_intervals_over_other_numbers_of_images_are_told() -> None:
    row = result({0.5: [[1.0, 0.3]]}, attacks={0.25: attack_result([[1] * 4], [[1] * 4])})
    assert "interval over 2 or 4 test images" in text_of(table_spec(["certified@0.25", "robust@0.25"]), [row])


def test_the_robust_accuracy_of_smoothed_classifiers_stands_beside_certified_accuracy() -> None:
    """The transfer study calls SA and RA what is certified, at 0 and at 0.5 (Table 3); attacked it is another thing."""
    published = read_published(ROOT / "params" / "published.csv", "transfer-study", "Table 3")
    rows = {row.key: row.cells for row in paper_rows(published, table_spec(["certified@0", "certified@0.5", "acr"]))}
    assert rows["Food-101", "pretrain=none;finetune=CR"] == ("63.0", "53.9", "0.891")
    published = read_published(ROOT / "params" / "published.csv", "transfer-study", "Table 2")
    rows = {row.key: row.cells for row in paper_rows(published, table_spec(["standard", "robust@0.5", "robust@0.25"]))}
    assert rows["Food-101", "pretrain=none;finetune=AT"] == ("74.5", "62.3", None)


def test_a_classifier_of_several_sigmas_stands_beside_the_oracle() -> None:
    settings = Settings("cascade of σ = 1, 0.5", 50, 200, 0.001)
    both = replace(TWO, multi_sigma=np.array([[1.0, 0.5, -np.inf, -np.inf]] * 2), multi_settings=settings)
    only = replace(both, label="cascade", curves={}, settings=settings)
    text = text_of(table_spec(["certified@0.25", "multi_sigma@0.25"]), [both, only])
    assert "|  | ε = 0.25 | ε = 0.25, multi-σ |" in text
    assert "Method of ours: cohen, n0 = 50, n = 200, α = 0.001." in text
    assert "cascade of σ = 1, 0.5, n0 = 50, n ≤ 200, α = 0.001." in text
    per_sigma = text.split("## Here: at each σ")[1]
    assert "cascade" not in per_sigma
    assert "multi-σ" not in per_sigma


@pytest.mark.parametrize(
    ("cell", "shown"),
    [("a|b", r"a\|b"), (r"a\|b", r"a\|b"), (r"a\\|b", r"a\\\|b"), ("a \n b", "a b"), ("a\u00a0 b", "a\u00a0 b")],
)
def test_no_cell_ends_a_column_or_a_row(cell: str, shown: str) -> None:
    assert markdown_table(["h"], [[cell]]) == f"| h |\n| --- |\n| {shown} |"
