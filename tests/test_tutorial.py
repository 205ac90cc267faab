"""docs/tutorial.md, executed: its Python as it stands, its commands in this process."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.calls import call


def test_the_tutorial_ends_with_a_certified_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL | re.MULTILINE)
    assert [language for language, _ in blocks] == ["python", "sh", "sh", "python"]
    commands = []
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "docs/tutorial.md", "exec"), {})  # each by itself
            continue
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "transmooth"
            call(*arguments)
            commands.append(arguments[0])
    assert commands == ["train", "finetune", "certify", "accuracy"]

    card = json.loads(Path("model/model.json").read_text())
    assert card["test"]["images"] == 359
    assert card["test"]["correct"] > 0.9 * 359
    found = json.loads(call("accuracy", "records.parquet", "--radii", "0,0.25", "--json").stdout)
    assert found["n"] == 100
    assert found["certified_accuracy"]["0.25"] > 0.6
    answers, labels = capsys.readouterr().out.splitlines()[-1].split("] [")
    assert len(re.findall(r"'(\d|\?)'", answers)) == len(labels.split(", ")) == 5
