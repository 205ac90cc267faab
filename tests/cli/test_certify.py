import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.calls import call, fault
from tests.helpers.records import row, table
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.evaluation import test_indices as positions
from transmooth.models.build import Network
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.smoothing import methods
from transmooth.smoothing.methods import METHODS


def certify(model: Path, digits: Path, out: Path, *more: Any, sigma: float = 0.5) -> list[Any]:
    noise = [] if "--sigma" in more else ["--sigma", sigma]
    settings = [*noise, "--n0", 20, "--n", 200, "--alpha", 0.01, "--images", 40, "--out", out]
    return ["certify", model, digits, *settings, *more]


def observed(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "seconds"} for each in records.read(path).to_pylist()]


def test_certified_images_go_where_the_accuracy_is_read(model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "r.parquet"
    done = call(*certify(model, digits, out, "--batch", 64))
    assert done.stdout == ""
    found, first, *_, last, after = (
        done.stderr.splitlines()
    )  # between them how fast it is, where that is worth a timing
    assert found == f"{digits} test: 300 images in 10 classes, 40 used"
    assert after == f"next: transmooth accuracy {out}"
    assert first == "eager, fp32, batch 64; 40 images, at most 220 evaluations each"
    assert re.fullmatch(r"40 of 40 images in \d+ s, [\d.]+% certified at 0", last)
    rows = observed(out)
    assert {(each["engine"], each["batch"], each["dtype"]) for each in rows} == {("eager", 64, "fp32")}
    assert all(each["top_count"] + each["runner_up"] <= each["n"] == 200 for each in rows)
    assert any(0 < each["runner_up"] < each["top_count"] for each in rows)
    assert len({each["radius"] for each in rows}) > 5
    assert [each["index"] for each in rows] == positions(300, 40).tolist()
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
    out, real, asked = tmp_path / f"r.{suffix}", METHODS["cohen"], list[int]()

    def limited(counts: Any, images: Any, *rest: Any) -> Any:
        if len(asked) >= limit:
            raise KeyboardInterrupt
        asked.extend(images)
        return real(counts, images, *rest)

    limit = 32
    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", {"cohen": limited})
        done = call(*certify(model, digits, out), status=130)
    assert "stopped: 32 images are done and kept; the same command goes on" in done.stderr
    assert not out.exists()
    for change in (["--seed", 1], ["--n", 300]):
        assert "is of another job" in fault(*certify(model, digits, out, *change))
    asked.clear()
    limit = 100
    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", {"cohen": limited})
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
    weights.save(other, network, read_card(model))
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

    log = tmp_path / "certified.tsv"
    said = call(*certify(model, digits, log, "--method", "sequential", "--radii", "0,0.25", "--quiet")).stderr
    assert said.partition("but: ")[2] == done.stderr.partition("but: ")[2]
    assert (log.read_text().splitlines()[0], said.count("\n")) == ("idx\tlabel\tpredict\tradius\tcorrect\ttime", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--n", 6], "n = 6 samples can never certify at alpha = 0.01: cohen needs at least 7"),
        (["--method", "sequential"], "sequential, and no other method at one sigma, takes a grid of radii"),
        (["--out", "r.csv"], "r.csv: should end in .parquet (records) or .tsv (log)"),
        (["--split", "val"], "has no split 'val'"),
    ],
)
def test_faults_end_with_one_line(
    model: Path, digits: Path, tmp_path: Path, change: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fault(*certify(model, digits, Path("r.parquet"), *change))
    assert "sigma must be a positive" in fault(*certify(model, digits, Path("r.parquet"), sigma=0))
    assert list(tmp_path.iterdir()) == []


def test_other_faults_and_wrong_usage(digits: Path, tmp_path: Path) -> None:
    assert "a model is a checkpoint folder" in fault(*certify(tmp_path / "no", digits, tmp_path / "r.parquet"))
    assert "gone.tsv: no such file" in fault("accuracy", tmp_path / "gone.tsv")
    (tmp_path / "empty.tsv").touch()
    assert "at least one image, got nothing" in fault("accuracy", tmp_path / "empty.tsv")
    for option in ("--method", "--dtype"):
        wrong = call(*certify(tmp_path, digits, tmp_path / "r.parquet", option, "magic"), status=2)
        assert "'magic' is not one of" in wrong.stderr
    for radii in ("0,x", "-1", ""):
        assert "should be numbers >= 0" in call("accuracy", tmp_path, "--radii", radii, status=2).stderr


def test_a_report_of_records_shows_their_images(model: Path, digits: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "r.parquet", tmp_path / "new" / "report.html"
    call(*certify(model, digits, out))
    assert call("report", out, "--images", digits, "--radii", "0,0.125", "--out", page).output == ""
    written = page.read_text()
    assert written.count("<figure><img ") == 2 * 3 * 2
    right = [each for each in observed(out) if each["prediction"] == each["label"] and each["radius"] >= 0.125]
    assert f'data-label="ε = 0.125">{100 * len(right) / 40:.1f}<' in written
    assert "none.parquet: no such file" in fault("report", tmp_path / "none.parquet", "--out", page)
    assert "sigma = 0.5 is there twice" in fault("report", out, out, "--out", page)
    other = shutil.copy(out, tmp_path / "other.parquet")
    compared = tmp_path / "compared.html"
    call("report", out, other, "--out", compared)
    assert "compared</h1>" in compared.read_text()
    assert "--images: are of one network's page" in fault("report", out, other, "--images", digits, "--out", page)
    records.write(table(row(0, label=None)), tmp_path / "log.parquet")
    assert "log.parquet: labels are unknown" in fault("report", tmp_path / "log.parquet", "--out", page)
    assert page.read_text() == written


def test_one_classifier_of_several_sigmas(model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    several = ["--sigma", "1,0.25", "--method", "cascade", "--threshold", "0.1,0"]
    done = call(*certify(model, digits, out, *several, "--batch", 64))
    assert "eager, fp32, batch 64; 40 images, at most 440 evaluations each" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("40 of 40 images")
    rows = observed(out)
    stages = [(1.0, 0, 0.1), (0.25, 1, 0.0)]
    assert {(each["sigma"], each["stage"], each["threshold"]) for each in rows} == {*stages}
    assert len(rows) == 80
    shown = json.loads(call("accuracy", out, "--radii", "0", "--json").stdout)
    right = [each["radius"] for each in rows if each["stage"] == 0 and each["prediction"] == each["label"]]
    assert shown["n"] == 40
    assert shown["acr"] == pytest.approx(sum(right) / 40)
    assert "certified by cascade, not by Cohen's procedure" in shown["notes"]
    written = out.read_bytes()
    again = call(*certify(model, digits, out, *several))
    assert again.stderr == f"next: transmooth accuracy {out}\n"  # there is nothing left to do
    assert out.read_bytes() == written
    assert "is of another job" in fault(*certify(model, digits, out, *several[:4]))
    call(*certify(model, digits, tmp_path / "r.tsv", *several))
    assert logs.read(tmp_path / "r.tsv")["radius"].tolist() == pytest.approx(
        logs.read_any(out)["radius"].tolist(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["--threshold", 0.1],
            "--threshold: is for the methods cascade, margin, multiscale, dual_rs, found with cohen",
        ),
        (["--method", "margin", "--threshold", "0.1,0"], "for each of 1 --sigma, found 2"),
        (["--method", "margin", "--tolerance", "0.2"], "--tolerance: is of sequential alone, found with margin"),
        (["--sigma", "1,1", "--method", "cascade"], "each sigma should be one stage, got 1.0, 1.0"),
    ],
)
def test_options_of_several_sigmas_that_do_not_fit(
    model: Path, digits: Path, tmp_path: Path, change: list[Any], message: str
) -> None:
    assert message in fault(*certify(model, digits, tmp_path / "r.parquet", *change))
