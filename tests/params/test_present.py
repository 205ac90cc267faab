"""What params name outside of themselves: logs, folders of pictures, packages."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.params import copied, edit
from transmooth.params.load import load
from transmooth.params.messages import ParamsError
from transmooth.params.present import JOBS_IMPORT, below, check_logs, check_packages, check_sources, check_weights

PICTURES = {"kind": "imagefolder", "root": "pictures/of/nothing"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return copied(tmp_path)


def test_a_dataset_that_is_not_there_is_told_before_any_work(base: Path) -> None:
    edit(base, "datasets", "datasets.digits", {"source": PICTURES, "size": 16})
    params = load("smoke", base)
    assert check_sources(params, ["characters"], base) == []
    with pytest.raises(ParamsError, match=r"datasets.digits.source.root: no such folder: .*pictures/of/nothing"):
        check_sources(params, ["characters", "digits"], base)
    (base / "external" / "digits").mkdir(parents=True)
    (base / "external" / "digits" / "manifest.json").touch()
    assert check_sources(params, ["digits"], base) == []  # prepared once, the source may go


def test_a_split_that_is_not_there_and_a_root_that_is_no_folder_are_told(base: Path) -> None:
    edit(base, "datasets", "datasets.digits", {"source": PICTURES, "size": 16})
    params = load("smoke", base)
    (base / PICTURES["root"] / "train").mkdir(parents=True)
    with pytest.raises(ParamsError, match=r"no such folder: .*nothing/test$"):
        check_sources(params, ["digits"], base)
    (base / PICTURES["root"] / "test").touch()
    with pytest.raises(ParamsError, match=r"not a folder: .*nothing/test$"):
        check_sources(params, ["digits"], base)


def test_what_torchvision_downloads_need_not_be_there(base: Path) -> None:
    source = {"kind": "torchvision", "name": "MNIST", "root": "nowhere", "download": True}
    edit(base, "datasets", "datasets.digits", {"source": source, "size": 16})
    assert check_sources(load("smoke", base), ["digits"], base) == []
    edit(base, "datasets", "datasets.digits.source.download", False)
    with pytest.raises(ParamsError, match=r"datasets.digits.source.root: no such folder: .*nowhere"):
        check_sources(load("smoke", base), ["digits"], base)


def test_pictures_to_fetch_by_hand_can_be_planned_with(base: Path) -> None:
    edit(base, "datasets", "datasets.digits", {"source": PICTURES, "size": 16, "fetch": "Ask the owner."})
    (line,) = check_sources(load("smoke", base), ["characters", "digits"], base)
    assert re.fullmatch(
        r"params/datasets.yaml: datasets.digits.source.root: .*nothing\n  to fetch: Ask the owner.", line
    )


def test_weights_to_fetch_by_hand_can_be_planned_with(tmp_path: Path) -> None:
    there, missing = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    there.touch()
    (line,) = check_weights({"one": there, "two": missing})
    assert line == f"params/recipes.yaml: networks.two.options.from: no such file: {missing}"


def test_a_log_that_is_not_there_is_told_before_any_work(base: Path) -> None:
    row = {"label": "x", "files": [{"sigma": 0.25, "file": "theirs.tsv"}, {"sigma": 0.5, "file": "more.tsv"}]}
    edit(base, "tables/mixed_noise", "tables.table3.rows", [row])
    place = r"params/tables/mixed_noise.yaml: tables.table3.rows\[0\].files\[{}\].file: no such file: .*/{}.tsv"
    with pytest.raises(ParamsError, match=f"{place.format(0, 'theirs')}\n{place.format(1, 'more')}"):
        check_logs(load("smoke", base), base)
    (base / "theirs.tsv").touch()
    (base / "more.tsv").touch()
    check_logs(load("smoke", base), base)


def test_logs_of_what_the_study_does_not_report_need_not_be_there(base: Path) -> None:
    row = {"label": "x", "files": [{"sigma": 0.25, "file": "theirs.tsv"}]}
    edit(base, "tables/mixed_noise", "tables.table11.rows", [row])
    check_logs(load("smoke", base), base)
    edit(base, "studies/smoke", "report", ["table11"])
    with pytest.raises(ParamsError, match="no such file"):
        check_logs(load("smoke", base), base)


def test_a_path_may_have_a_home_and_variables(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("LOGS", "their/logs")
    assert below(base, "~/a") == Path("/home/somebody/a")
    assert below(base, "$LOGS/a") == base / "their" / "logs" / "a"
    assert below(base, "/a") == Path("/a")


def test_packages_of_the_last_jobs_are_missed_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages()
    for lacking, they in ((["vl_convert"], "it"), (["altair", "vl_convert"], "them")):
        with monkeypatch.context() as patch:
            for name in lacking:
                patch.setitem(sys.modules, name, None)  # as if it were not installed
            with pytest.raises(ParamsError) as error:
                check_packages()
        cure = f"in a checkout, pip install -e '.[workflow]' brings {they}"
        assert str(error.value) == f"the jobs of a study need {', '.join(lacking)}: {cure}"


def test_packages_of_jobs_are_those_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["workflow"]
    distributions = {re.split("[<>=]", each)[0] for each in extra}
    owners = packages_distributions()
    assert {owners[name][0].lower() for name in JOBS_IMPORT} <= distributions
