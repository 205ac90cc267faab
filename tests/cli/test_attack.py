"""transmooth attack: of a network by itself and smoothed, on a few pictures."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers.calls import call, fault
from tests.helpers.specs import train_spec
from transmooth.attacks import robust
from transmooth.evaluation import test_indices as positions
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.training.loop import train

IMAGES = 8


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, also of noise."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    train(train_spec(epochs=5, lr=[0.02], sigmas=[0.0, 0.1]), digits, folder)
    return folder


@pytest.fixture(scope="module")
def certified(model: Path, digits: Path) -> Path:
    """Records of the same model and pictures."""
    out = model.parent / "certified.parquet"
    settings = ["--sigma", 0.1, "--n0", 20, "--n", 200, "--alpha", 0.01, "--images", IMAGES, "--quiet"]
    call("certify", model, digits, *settings, "--out", out)
    return out


def attack(model: Path, digits: Path, *more: Any, epsilon: float = 0.4) -> list[Any]:
    return ["attack", model, digits, "--epsilon", epsilon, "--steps", 5, "--images", IMAGES, *more]


def observed(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "seconds"} for each in attacked.read(path).to_pylist()]


def test_what_survives_is_printed_and_recorded(model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "r.parquet"
    done = call(*attack(model, digits, "--batch", 3, "--out", out))
    rows = observed(out)
    assert [each["index"] for each in rows] == positions(300, IMAGES).tolist()
    right, stand = sum(each["prediction"] == each["label"] for each in rows), sum(each["robust"] for each in rows)
    assert 0 < stand < right
    first, second, third, last = done.stdout.splitlines()
    assert re.fullmatch(rf"SA +{right / IMAGES:.2%}  95 % interval [\d.]+% to [\d.]+%", first)
    assert re.fullmatch(rf"RA +{stand / IMAGES:.2%}  95 % .*, within epsilon = 0\.4 \(l2\), at most", second)
    assert re.fullmatch(rf"left after cross_entropy [\d.]+%, margin {stand / IMAGES:.2%}", third)
    assert last == f"8 images, AutoPGD of 5 steps, {sum(each['evaluations'] for each in rows)} evaluations"
    assert re.fullmatch(rf"8 of 8 images in \d+ s, {100 * stand / IMAGES:.1f}% robust", done.stderr.splitlines()[-1])
    assert [path.name for path in out.parent.iterdir()] == ["r.parquet"]
    made = records.metadata(out)
    assert made["model"]["model"] == str(model)  # its page's title
    assert made["data"]["images"] == f"{digits} test"
    shown = json.loads(call(*attack(model, digits, "--json", "--quiet")).stdout)
    assert (shown["n"], shown["robust_accuracy"]["share"], shown["epsilon"]) == (IMAGES, stand / IMAGES, 0.4)
    # A wider ball leaves no more, another norm another number.
    wide = json.loads(call(*attack(model, digits, "--json", epsilon=1.5)).stdout)
    linf = json.loads(call(*attack(model, digits, "--json", "--norm", "linf")).stdout)
    assert wide["robust_accuracy"]["share"] < stand / IMAGES
    assert linf["robust_accuracy"]["share"] == 0
    assert wide["standard_accuracy"] == linf["standard_accuracy"] == shown["standard_accuracy"]


def test_an_interrupted_call_keeps_what_is_done_and_goes_on(
    model: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(*attack(model, digits, "--batch", 3, "--out", tmp_path / "whole.parquet"))
    out, real, started = tmp_path / "r.parquet", robust._attack, list[int]()

    def limited(target: Any, images: Any, labels: Any, indices: list[int], settings: Any) -> Any:
        if len(started) >= 6:
            raise KeyboardInterrupt
        started.extend(indices)
        return real(target, images, labels, indices, settings)

    with monkeypatch.context() as patch:
        patch.setattr(robust, "_attack", limited)
        done = call(*attack(model, digits, "--batch", 3, "--out", out), status=130)
        assert "stopped: 6 images are done and kept; the same command goes on from there" in done.stderr
        started.clear()
        done = call(*attack(model, digits, "--batch", 3), status=130)
        assert "stopped: 6 images were done; --out keeps them" in done.stderr
    assert not out.exists()
    for change in (["--seed", 1], ["--epsilon", 0.3]):
        assert "is of another job" in fault(*attack(model, digits, "--batch", 3, "--out", out, *change))
    call(*attack(model, digits, "--batch", 3, "--out", out))
    assert observed(out) == observed(tmp_path / "whole.parquet")
    assert list(tmp_path.glob("*.journal")) == []
    before = out.read_bytes()
    call(*attack(model, digits, "--batch", 3, "--out", out))  # nothing is left to do
    assert "is of another job (batch: 3 there, 4 asked for)" in fault(
        *attack(model, digits, "--batch", 4, "--out", out)
    )
    assert out.read_bytes() == before


SMOOTHED = ["--sigma", 0.1, "--samples", 2, "--n", 100, "--alpha", 0.01]


def test_certified_radii_stand_beside_distances(model: Path, digits: Path, certified: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    done = call(*attack(model, digits, *SMOOTHED, "--records", certified, "--out", out, epsilon=1.0))
    rows = {each["index"]: each for each in observed(out)}
    assert {each["sigma"] for each in rows.values()} == {0.1}
    radii = {each["index"]: each["radius"] for each in records.read(certified).to_pylist() if each["prediction"] >= 0}
    beside = done.stdout.splitlines()[5:-1]
    assert beside
    seen = set()
    for line in beside:
        index, _, radius, distance, there = line.split()
        assert float(radius) == pytest.approx(radii[int(index)], abs=1e-4)
        assert float(distance) == pytest.approx(rows[int(index)]["distance"], abs=1e-4)
        assert int(there) == rows[int(index)]["adversarial"] != rows[int(index)]["label"]
        seen.add(int(index))
    assert seen == {index for index, each in rows.items() if each["adversarial"] is not None and index in radii}
    assert done.stdout.splitlines()[-1] == f"{len(beside)} certified images have a point, 0 nearer than their radius"
    shown = json.loads(call(*attack(model, digits, *SMOOTHED, "--records", certified, "--json", epsilon=1.0)).stdout)
    assert {each["index"] for each in shown["certified"]} == seen


def test_a_point_within_a_certified_radius_is_an_error(
    model: Path, digits: Path, certified: Path, tmp_path: Path
) -> None:
    """Radii of somebody's faulty certification, too large by far."""
    table, path = records.read(certified), tmp_path / "faulty.parquet"
    radius = np.where(table["prediction"].to_numpy() >= 0, 1.5, 0.0)
    at = table.schema.names.index("radius")
    records.write(table.set_column(at, "radius", pa.array(radius)), path)
    done = call(*attack(model, digits, *SMOOTHED, "--records", path, "--quiet", epsilon=1.0), status=1)
    assert done.stderr.count("\n") == 1
    told = (
        r"transmooth: image (\d+): certified at radius 1\.5000 for class (\d), but class (\d) is answered at distance "
    )
    found = re.match(
        told + r"([\d.]+); so are (\d) of \5\. Of each image the certificate is wrong with a .* 0\.01", done.stderr
    )
    assert found
    assert found[2] != found[3]
    assert 0 < float(found[4]) <= 1
    assert f"{found[5]} nearer than their radius" in done.stdout


def test_records_of_other_images_are_refused(model: Path, digits: Path, certified: Path, tmp_path: Path) -> None:
    table, path = records.read(certified), tmp_path / "other.parquet"
    at = table.schema.names.index("label")
    other = records.with_metadata(table.set_column(at, "label", pa.array(9 - table["label"].to_numpy())), {})
    records.write(other, path)
    assert "other.parquet: is of other images than" in fault(*attack(model, digits, *SMOOTHED, "--records", path))
    at = table.schema.names.index("picture")
    records.write(table.set_column(at, "picture", pa.array(["of another"] * len(table))), path)
    assert "other.parquet: is of other images than" in fault(*attack(model, digits, *SMOOTHED, "--records", path))
    at = table.schema.names.index("dtype")
    records.write(table.set_column(at, "dtype", pa.array(["bf16"] * len(table))), path)
    assert "is of another dtype, bf16; the attack is of fp32" in fault(
        *attack(model, digits, *SMOOTHED, "--records", path)
    )
