import json
from pathlib import Path

import numpy as np

from tests.helpers.calls import call, fault
from tests.helpers.records import row, table
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
