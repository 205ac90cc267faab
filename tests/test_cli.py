import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.test_records import row, table
from tests.test_train import spec
from transmooth import checkpoint, jobs, logs, records
from transmooth.certify import chunks
from transmooth.certify.bounds import radius
from transmooth.cli import app
from transmooth.models import Network
from transmooth.train import train

COMMANDS = ("certify", "predict", "accuracy", "audit", "compare", "export-log", "import-log")


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, so that predictions and radii differ from image to image."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    train(spec(epochs=8, lr=[0.02]), digits, folder)
    return folder


def call(*arguments: Any, status: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, (done.output, done.exception)
    return done


def fault(*arguments: Any) -> str:
    """The one line on stderr that a fault ends with."""
    done = call(*arguments, status=1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return str(done.stderr)


def certify(model: Path, digits: Path, out: Path, *more: Any, sigma: float = 0.5) -> list[Any]:
    settings = ["--sigma", sigma, "--n0", 20, "--n", 200, "--alpha", 0.01, "--images", 40, "--out", out]
    return ["certify", model, digits, *settings, *more]


def observed(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "seconds"} for each in records.read(path).to_pylist()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    shown = " ".join(call(command, "--help").stdout.split())
    assert re.search(f"Example: transmooth {command} ", shown)


def test_certified_images_go_where_the_accuracy_is_read(model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "r.parquet"
    done = call(*certify(model, digits, out))
    assert done.output == ""  # no progress but on a terminal
    rows = observed(out)
    assert len({each["radius"] for each in rows}) > 5
    assert [each["index"] for each in rows] == jobs.test_indices(300, 40).tolist()
    assert {each["evaluations"] for each in rows} == {220}
    assert [path.name for path in out.parent.iterdir()] == ["r.parquet"]
    shown = json.loads(call("accuracy", out, "--radii", "0,0.250", "--json").stdout)
    assert shown["n"] == 40
    right = [each["radius"] for each in rows if each["prediction"] == each["label"]]
    assert list(shown["certified_accuracy"]) == ["0", "0.250"]
    assert shown["certified_accuracy"]["0"] == len(right) / 40
    assert shown["certified_accuracy"]["0.250"] == sum(radius >= 0.25 for radius in right) / 40
    assert shown["acr"] == pytest.approx(sum(right) / 40)
    assert shown["abstentions"] == sum(each["prediction"] == -1 for each in rows) / 40
    assert shown["alpha"] == 0.01
    assert f"{len(right) / 40:.2%}" in call("accuracy", out, "--radii", "0").stdout


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_an_interrupted_call_keeps_what_is_done_and_goes_on(
    model: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    call(*certify(model, digits, tmp_path / f"whole.{suffix}"))
    out, real, asked = tmp_path / f"r.{suffix}", chunks.METHODS["cohen"], []

    def interrupted(counts: Any, images: Any, *rest: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(images)
        return real(counts, images, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "METHODS", {"cohen": interrupted})
        done = call(*certify(model, digits, out), status=130)
    assert "stopped: 32 images are done and kept; the same command goes on" in done.stderr
    assert not out.exists()
    for change in (["--seed", 1], ["--n", 300]):
        assert "is of another job" in fault(*certify(model, digits, out, *change))
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "METHODS", {"cohen": lambda *given: asked.extend(given[1]) or real(*given)})
        call(*certify(model, digits, out))
    assert len(asked) == 8
    if suffix == "parquet":
        assert observed(out) == observed(tmp_path / "whole.parquet")
        assert list(tmp_path.glob("*.journal")) == []
    else:
        kept = ["index", "label", "prediction", "radius"]
        assert logs.read(out)[kept].equals(logs.read(tmp_path / "whole.tsv")[kept])


def test_records_of_another_job_are_not_touched(model: Path, digits: Path, network: Network, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    call(*certify(model, digits, out))
    before = out.read_bytes()
    call(*certify(model, digits, out))  # nothing is left to do
    message = fault(*certify(model, digits, out, sigma=0.25))
    assert "r.parquet: is of another job (sigmas: [0.5] there, [0.25] asked for)" in message
    other = tmp_path / "other"
    checkpoint.save(other, network, checkpoint.read_card(model))
    assert re.search(
        r"another job \(model.*; model.sha256: \w{64} there, \w{64} asked",
        fault(*certify(other, digits, out)),
    )
    assert out.read_bytes() == before


def test_the_sequential_method_says_where_it_looked(model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    call(*certify(model, digits, out, "--method", "sequential", "--radii", "0,0.25"))
    rows = observed(out)
    assert {each["method"] for each in rows} == {"sequential"}
    wrong = [each for each in rows if each["selected"] != each["label"]]
    assert wrong
    assert {each["n"] for each in wrong} == {0}
    notes = json.loads(call("accuracy", out, "--json").stdout)["notes"]
    assert "decided at the radii 0.0, 0.25 only" in notes[0]
    assert f"{len(wrong)} images were given up after the selection" in notes[1]
    assert notes[2] == "certified by sequential, not by Cohen's procedure"
    assert "ACR at least" in call("accuracy", out).stdout

    cohen = tmp_path / "cohen.parquet"
    call(*certify(model, digits, cohen))
    found = json.loads(call("compare", cohen, out, "--radius", 0.25, "--json").stdout)
    assert found["notes"] == [f"B: {note}" for note in notes]
    shown = call("compare", cohen, out, "--radius", 0.3).stdout
    assert "ACR (a lower bound for B): " in shown
    assert f"note: B: {notes[0]}\n" in shown
    assert "note: B: the radius 0.3 is not on its grid" in shown

    done = call("export-log", out, tmp_path / "log.tsv")
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "decided at the radii 0.0, 0.25 only" in done.stderr
    assert call("export-log", cohen, tmp_path / "cohen.tsv").stderr == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--sigma", 0], "sigma must be a positive finite number"),
        (["--n", 6], "n = 6 samples can never certify at alpha = 0.01: cohen needs at least 7"),
        (["--method", "magic"], "unknown method 'magic'"),
        (["--method", "sequential"], "sequential, and no other method, takes a grid of radii"),
        (["--out", "r.csv"], "r.csv: should end in .parquet (records) or .tsv (log)"),
        (["--dtype", "fp8"], "dtype should be fp32 or bf16, found 'fp8'"),
        (["--split", "val"], "has no split 'val'"),
    ],
)
def test_faults_end_with_one_line(
    model: Path, digits: Path, tmp_path: Path, change: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fault(*certify(model, digits, Path("r.parquet"), *change))
    assert list(tmp_path.iterdir()) == []


def test_other_faults_and_wrong_usage(digits: Path, tmp_path: Path) -> None:
    assert "a model is a checkpoint folder" in fault(*certify(tmp_path / "no", digits, tmp_path / "r.parquet"))
    assert "gone.tsv: no such file" in fault("accuracy", tmp_path / "gone.tsv")
    (tmp_path / "empty.tsv").touch()
    assert "at least one image, got nothing" in fault("accuracy", tmp_path / "empty.tsv")
    for radii in ("0,x", "-1", ""):
        assert "should be numbers >= 0" in call("accuracy", tmp_path, "--radii", radii, status=2).stderr


def test_predict_prints_a_line_for_each_image(model: Path, digits: Path) -> None:
    shown = call("predict", model, digits, "--sigma", 0.1, "--n", 50, "--images", 20).stdout.splitlines()
    assert shown[0] == "index\tlabel\tprediction"
    lines = np.array([line.split("\t") for line in shown[1:]], int)
    assert lines[:, 0].tolist() == jobs.test_indices(300, 20).tolist()
    assert set(lines[:, 2]) <= set(range(-1, 10))
    assert len(set(lines[:, 2])) > 1


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
