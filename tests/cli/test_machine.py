import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.calls import call, fault
from transmooth.cli import doctor


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without any pictures, in a home without any."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "datasets").mkdir(parents=True)  # where some of torchvision's sets lie side by side
    return tmp_path


def test_datasets_tell_what_is_there_and_how_to_get_the_rest(checkout: Path) -> None:
    def states() -> dict[str, str]:
        return {each["name"]: each["state"] for each in json.loads(call("datasets", "--json").stdout)}

    before = states()
    assert before["digits"] == "made here"
    assert before["cifar10"] == "downloaded when needed"
    assert before["tinyimagenet32"] == before["imagenet"] == "missing"
    shown = call("datasets").stdout
    assert f"{checkout}/home/datasets/tinyimagenet32: Tiny-ImageNet (http" in shown

    for split in ("train", "val"):
        (checkout / "home" / "datasets" / "tinyimagenet32" / split).mkdir(parents=True)
    (checkout / "data" / "digits").mkdir(parents=True)
    (checkout / "data" / "digits" / "manifest.json").touch()
    assert states() == before | {"tinyimagenet32": "there", "digits": "prepared"}


def test_the_doctor_tells_which_studies_can_run(checkout: Path) -> None:
    found = json.loads(call("doctor", "--json").stdout)
    assert found["studies"]["smoke"] == []
    assert found["studies"]["paper"] == ["imagenet32", "imagenet"]
    assert found["cores"] >= 1
    assert found["packages"][""]["torch"]
    shown = call("doctor").stdout
    assert "study=smoke" in shown
    assert "missing: imagenet32, imagenet; see transmooth datasets" in shown


def test_a_missing_package_is_told_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "packages", lambda: {"": {"torch": "2"}, "workflow": {"dvc": None, "accelerate": "1"}})
    done = call("doctor", status=1)
    assert "missing: dvc; in a checkout, pip install -e '.[workflow]' brings them" in done.stdout
    assert "this folder is no checkout" in done.stdout
    assert "params/datasets.yaml: no such file" in fault("datasets")


def test_without_the_packages_for_a_cluster_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = {"": {"torch": "2"}, "workflow": {"dvc": "3"}, "slurm": {"transmooth": "0", "plugin": None}}
    monkeypatch.setattr(doctor, "packages", lambda: found)
    assert "not installed (optional): plugin; in a checkout, pip install -e '.[slurm]'" in call("doctor").stdout
    assert json.loads(call("doctor", "--json").stdout)["complete"] is True


def test_wrong_params_are_told_in_a_line(checkout: Path) -> None:
    (checkout / "params" / "datasets.yaml").write_text("datasets:\n  Digits: {}\n")
    assert "params/datasets.yaml: datasets" in fault("datasets")
