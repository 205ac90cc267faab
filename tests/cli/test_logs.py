import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.calls import call, fault
from tests.helpers.records import attacked_row, row, table
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.smoothing.bounds import radius


def test_records_and_logs_turn_into_each_other(tmp_path: Path) -> None:
    two, one = tmp_path / "two.parquet", tmp_path / "one.tsv"
    rows = [row(i, s, radius=0.123456789, seconds=1.5) for i in range(3) for s in (0.5, 1.0)]
    records.write(table(*rows, row(3, radius=0.0, prediction=-1, n=0), row(3, 1.0)), two)
    assert "several sigmas; choose one: 0.5, 1.0" in fault("accuracy", two)
    assert "no records of sigma = 2.0; there are: 0.5, 1.0" in fault("accuracy", two, "--sigma", 2)
    call("export-log", two, one, "--sigma", 0.5)
    assert one.read_text().splitlines()[1] == "0\t3\t3\t0.123456\t1\t0:00:01.500000"
    first = json.loads(call("accuracy", two, "--sigma", 0.5, "--json").stdout)
    assert first["n"] == 4
    assert first["abstentions"] == 0.25

    log = tmp_path / "log.tsv"
    log.write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n4\t1\t1\t0.476\t1\t0:00:01\n5\t1\t-1\t0.0\t0\t0:00:01\n"
    )
    back = tmp_path / "back.parquet"
    settings = ["--sigma", 0.25, "--alpha", 0.001]
    assert "1 radii are not those of sigma = 0.25" in fault("import-log", log, back, *settings, "--n", 100)
    call("import-log", log, back, *settings, "--n", 100_000)
    rows = records.read(back).to_pylist()
    assert [(r["index"], r["prediction"], r["selected"], r["radius"], r["n"]) for r in rows] == [
        (4, 1, 1, 0.476, 100_000),
        (5, -1, None, 0.0, 100_000),
    ]
    assert rows[0]["top_count"] is None
    same = json.loads(call("accuracy", back, "--json").stdout)
    assert same["certified_accuracy"] == json.loads(call("accuracy", log, "--json").stdout)["certified_accuracy"]


def test_audit_and_compare(tmp_path: Path) -> None:
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    top = 0.25 * 3.8115  # all of 100 000 at alpha = 0.001
    records.write(table(*(row(i, 0.25, radius=round(top, 3)) for i in range(20))), a)
    records.write(table(*(row(i, 0.25, radius=0.1) for i in range(20))), b)
    best = json.loads(call("audit", a, "--json").stdout)["candidates"][0]
    assert (best["alpha"], best["n"], best["sigma"], best["verdict"]) == (0.001, 100_000, 0.25, "saturates")
    assert "saturates" in call("audit", a).stdout
    # No usual alpha and n: radii of 0 to 19 failures, which only these two explain.
    radii = radius(np.arange(20), 137, 0.02, 0.25).tolist()
    own = tmp_path / "own.parquet"
    records.write(table(*(row(i, 0.25, radius=r, alpha=0.02, n=137) for i, r in enumerate(radii))), own)
    best = json.loads(call("audit", own, "--json").stdout)["candidates"][0]
    assert (best["alpha"], best["n"], best["verdict"]) == (0.02, 137, "saturates")
    call("export-log", own, tmp_path / "own.tsv")
    arguments = ["audit", tmp_path / "own.tsv", "--sigma", 0.25, "--json"]
    assert json.loads(call(*arguments).stdout)["candidates"][0]["verdict"] != "saturates"
    best = json.loads(call(*arguments, "--alpha", 0.02, "--n", 137).stdout)["candidates"][0]
    assert (best["alpha"], best["n"], best["verdict"]) == (0.02, 137, "saturates")

    records.write(table(row(0, label=-1, prediction=-1, radius=0.0)), tmp_path / "c.parquet")
    assert "c.parquet: labels must be ≥ 0, got [-1] for images [0]" in fault("accuracy", tmp_path / "c.parquet")
    records.write(table(row(0, method="sequential", radius=0.5)), tmp_path / "c.parquet")
    (note, _) = json.loads(call("accuracy", tmp_path / "c.parquet", "--json").stdout)["notes"]
    assert "decided at a few radii, which the file does not tell, only" in note
    records.write(table(row(0, method="adaptive")), tmp_path / "c.parquet")
    assert "an audit is of radii by Cohen's procedure, these are by adaptive" in fault("audit", tmp_path / "c.parquet")
    found = json.loads(call("compare", a, b, "--radius", 0.5, "--json").stdout)
    assert (found["n"], found["difference"], found["only_a"], found["only_b"]) == (20, 1.0, 20, 0)
    assert "+100.00%" in call("compare", a, b, "--radius", 0.5).stdout


def test_another_alpha_is_computed_from_the_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    kept = radius(np.array([0, 40, 60]), 100, 0.001, 0.25).clip(0)
    rows = [
        row(i, 0.25, radius=float(r), prediction=3 if r > 0 else -1, n=100, top_count=100 - lost)
        for i, (r, lost) in enumerate(zip(kept, (0, 40, 60), strict=True))
    ]
    records.write(table(*rows), path)

    def told(*more: object) -> dict[str, Any]:
        return dict(json.loads(call("accuracy", path, "--radii", "0,0.4", "--json", *more).stdout))

    assert told()["max_radius"] == float(radius(0, 100, 0.001, 0.25)) == told("--alpha", 0.001)["max_radius"]
    at = told("--alpha", 0.05)
    assert at["max_radius"] == float(radius(0, 100, 0.05, 0.25))
    assert (at["certified_accuracy"]["0.4"], at["alpha"]) == (1 / 3, 0.05)
    assert (told()["certified_accuracy"]["0"], at["certified_accuracy"]["0"]) == (1 / 3, 2 / 3)
    assert told("--alpha", 1e-9)["max_radius"] == float(radius(0, 100, 1e-9, 0.25)) < told()["max_radius"]
    for changes, message in (
        ({"method": "adaptive"}, "was certified by adaptive"),
        ({"top_count": None}, "counts are"),
    ):
        records.write(table(row(0, **changes)), path)
        assert message in fault("accuracy", path, "--alpha", 0.05)
    assert "alpha must be" in fault("accuracy", path, "--alpha", 0)


def test_the_numbers_of_each_class(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    rows = [
        row(0, label=0, prediction=0, radius=0.5),
        row(1, label=0, prediction=1),
        row(2, label=1, prediction=-1, radius=0.0),
    ]
    records.write(records.from_rows(rows, {"data": {"classes": ["cat", "dog"]}}), path)
    cat, dog = json.loads(call("accuracy", path, "--radii", "0.5,1", "--by-class", "--json").stdout)["classes"]
    assert (cat["class"], cat["n"], cat["certified_accuracy"]) == ("cat", 2, {"0.5": 0.5, "1": 0.0})
    assert cat["predictions"] == {"cat": 1, "dog": 1}
    assert (dog["class"], dog["abstentions"], dog["predictions"]) == ("dog", 1.0, {"abstained": 1})
    shown = call("accuracy", path, "--radii", "0.5", "--by-class").stdout
    assert "cat: 2 images    50.00%  abstained 0.00%  taken for dog 1\n" in shown
    assert "dog: 1 images     0.00%  abstained 100.00%\n" in shown


def test_predictions_and_labels_of_another_log(tmp_path: Path) -> None:
    path, other = tmp_path / "log.tsv", tmp_path / "other.tsv"
    path.write_text("index\tlabel\tprediction\n0\t1\t1\n1\t1\t-1\n2\t1\t0\n3\t1\t1\n")
    found = json.loads(call("accuracy", path, "--json").stdout)
    assert found == {"n": 4, "accuracy": 0.5, "abstentions": 0.25, "wrong": 0.25, "notes": found["notes"]}
    assert "4 predictions without radii: 50.00% right, 25.00% abstained, 25.00% wrong" in call("accuracy", path).stdout
    for option in (["--radii", "0.5"], ["--alpha", 0.2], ["--by-class"]):
        assert f"{option[0]}: is about certified radii: {path} has none" in fault("accuracy", path, *option, "--json")
    other.write_text("idx\tpredict\tradius\n0\t1\t0.5\n3\t2\t0.5\n")
    assert "names no column label; --labels" in fault("accuracy", other)
    found = json.loads(call("accuracy", other, "--labels", path, "--radii", "0.5", "--json").stdout)
    assert found["certified_accuracy"] == {"0.5": 0.5}
    back = tmp_path / "r.parquet"
    settings = ["--sigma", 0.25, "--alpha", 0.001, "--n", 1000, "--labels", path]
    call("import-log", other, back, *settings, "--n0", 100)
    assert [(each["label"], each["n0"]) for each in records.read(back).to_pylist()] == [(1, 100), (1, 100)]


def test_imported_records_have_a_page_and_a_log_says_how(tmp_path: Path) -> None:
    log, back = tmp_path / "log.tsv", tmp_path / "r.parquet"
    log.write_text("idx\tlabel\tpredict\tradius\n0\t1\t1\t0.476\n1\t1\t-1\t0\n")
    assert "is a log, which does not tell sigma, alpha and n; transmooth import-log" in fault(
        "report", log, "--out", tmp_path / "p.html"
    )
    call("import-log", log, back, "--sigma", 0.25, "--alpha", 0.001, "--n", 100_000)
    before = back.read_bytes()
    assert "r.parquet: should end in .html, as pages do" in fault("report", back, "--out", back)
    assert "r.parquet: is named as records are, and a log is to be written" in fault("export-log", back, back)
    assert back.read_bytes() == before
    call("report", back, "--out", tmp_path / "p.html")
    assert "Certified accuracy" in (tmp_path / "p.html").read_text()


def test_a_page_is_written_and_names_what_contradicts_a_certificate(tmp_path: Path) -> None:
    point = {"robust": False, "adversarial": 5, "distance": 0.2, "loss": "margin", "restart": 0}
    certified, attack = tmp_path / "c.parquet", tmp_path / "a.parquet"
    records.write(table(row(0, radius=0.5)), certified)
    attacked.write(attacked.from_rows([attacked_row(0, sigma=0.5, **point)], {"spec": {"alpha": 0.01}}), attack)
    done = call("report", certified, attack, "--out", tmp_path / "p.html")
    assert done.stderr.startswith(
        "contradiction: image 0: certified at radius 0.5000 for class 3, but class 5 is answered"
    )
    assert "Contradiction: image 0" in (tmp_path / "p.html").read_text()


def test_records_are_joined_and_compared_on_common_images(tmp_path: Path) -> None:
    a, b, both = tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "c.parquet"
    records.write(table(row(0, radius=0.5), row(1, radius=0.5)), a)
    records.write(table(row(1, radius=0.1), row(2, radius=0.1)), b)
    assert "2 in one alone, such as [0, 2]; --common compares those in both" in fault("compare", a, b, "--radius", 0)
    c = tmp_path / "d.parquet"
    records.write(table(row(7, radius=0.1)), c)
    assert "the two logs have no image in common" in fault("compare", a, c, "--radius", 0, "--common")
    assert "x.tsv: should end in .parquet" in fault("merge", a, c, "--out", tmp_path / "x.tsv")
    more = ("--sigma", 0.25, "--alpha", 0.001, "--n", 100)
    assert "x.tsv: should end in .parquet" in fault("import-log", a, tmp_path / "x.tsv", *more)
    assert "a.parquet: is records, not a log" in fault("import-log", a, tmp_path / "x.parquet", *more)
    assert not list(tmp_path.glob("x.*"))
    found = json.loads(call("compare", a, b, "--radius", 0.3, "--common", "--json").stdout)
    assert (found["n"], found["only_a"]) == (1, 1)
    assert found["notes"] == [f"{name}: 1 of 2 images are in it alone and left out" for name in "AB"]
    records.write(table(row(1, 1.0, radius=0.1)), b)
    call("merge", a, b, "--out", both)
    assert len(records.read(both)) == 3
