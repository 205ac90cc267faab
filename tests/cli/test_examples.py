"""Every example in a help text, and every command of README.md, runs: on small pictures, models, records and logs."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import ROOT
from tests.helpers.calls import call
from tests.helpers.fake_hub import FakeHub
from tests.helpers.records import row, table
from tests.helpers.specs import train_spec
from transmooth.checkpoint.card import read_card
from transmooth.cli.main import COMMANDS
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.training import own_pictures
from transmooth.training.loop import train


def examples(*command: str) -> list[list[str]]:
    """The indented lines of a help text that begin with `transmooth`, continued lines joined, as arguments."""
    text = call(*command, "--help").stdout.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    transmooth ")]
    return [shlex.split(line)[1:] for line in lines]


def digits(folder: Path, each: int, skip: int = 0) -> None:
    """Zeros and ones as grey pictures, `each` of both."""
    bunch = load_digits()
    for label in (0, 1):
        (folder / str(label)).mkdir(parents=True)
        for number in np.flatnonzero(bunch.target == label)[skip : skip + each]:
            picture = np.rint(bunch.images[number] * (255 / 16)).astype(np.uint8)
            Image.fromarray(picture).save(folder / str(label) / f"{number}.png")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples read, by the names that they use."""
    folder = tmp_path_factory.mktemp("examples")
    digits(folder / "pictures", 4)
    digits(folder / "many" / "train", 5)
    digits(folder / "many" / "test", 1, skip=5)
    data = own_pictures.prepared(str(folder / "pictures"), folder / "model" / "data", 8, [], 0.2, 0)
    train(train_spec(epochs=2), data, folder / "model")
    shutil.copytree(folder / "model", folder / "base")
    unet = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
    options = {"unet": unet, "schedule": {}}
    denoiser = {"name": "unet2d", "stem": "imagenet", "norm": "own", "groups": 1, "options": options}
    train(train_spec(network=denoiser, objective="denoise", sigmas=[1.0], epochs=2), data, folder / "unet")
    safetensors.torch.save_file(
        timm.create_model("resnet10t", num_classes=2).state_dict(), folder / "weights.safetensors"
    )
    weights = read_card(folder / "model")["weights_sha256"]
    own = {"n": 100_000, "model": weights, "picture": None}
    rows, more = (table(*(row(i, s, radius=0.476 * (i % 2), **own) for i in range(4))) for s in (0.25, 0.5))
    records.write(rows, folder / "records.parquet")
    records.write(more, folder / "more.parquet")
    for name in ("ours", "theirs"):
        shutil.copy(folder / "records.parquet", folder / f"{name}.parquet")
    certify = ("certify", folder / "model", folder / "model" / "data", "--sigma", 0.25, "--n", 200, "--quiet")
    call(*certify, "--out", folder / "certified.parquet")
    attack = ("attack", folder / "model", folder / "model" / "data", "--epsilon", 0.25, "--steps", 2, "--quiet")
    call(*attack, "--out", folder / "attacked.parquet")
    for name in ("log.tsv", "theirs.tsv"):
        logs.write(rows.to_pandas(), folder / name)
    shutil.copytree(ROOT / "params", folder / "params")
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    FakeHub(tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


GROUPED = [("leaderboard", name) for name in ("show", "add")]


@pytest.mark.parametrize(
    "command", [(), *((name,) for name in COMMANDS), *GROUPED], ids=lambda command: "-".join(command) or "-"
)
def test_the_examples_of_the_help_text_run(command: tuple[str, ...], folder: Path) -> None:
    found = examples(*command)
    assert found
    assert all(tuple(example[: len(command)]) == command for example in found)
    for example in found:
        run(example)


def run(command: list[str]) -> None:
    """Run a command that begins anew, and expect what it is to write."""
    out = Path(command[command.index("--out") + 1]) if "--out" in command else None
    if out is not None and out.exists():
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    call(*command)
    assert out is None or out.exists()


# What a few seconds have in place of README's networks and pictures, and options that every such command gets.
SMALL = {"resnet50": "resnet10t", "diffusers:OWNER/NAME": "unet/", "--size 224": "--size 32", "--size 32": "--size 16"}
TINY = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "stem_type": "deep", "stem_width": 4}'
SHORT = {
    "certify": ["--n0", "10", "--n", "40", "--images", "2"],
    "attack": ["--steps", "5", "--images", "2"],
    "train": ["--epochs", "1", "--options", TINY],
    "finetune": ["--epochs", "1"],
}
# What needs a study, its history or all tests: tests/test_workflow.py, tests/test_dvc.py and .ci/run have these.
ELSEWHERE = (
    *("snakemake", "snakemake table1", "snakemake -n", "snakemake --config study=desk -n", "pytest -n 2"),
    *("dvc exp run", "dvc exp show --only-changed", "dvc exp apply", "dvc metrics diff", "dvc plots diff"),
)


def commands_of_readme() -> list[list[str]]:
    """The lines of README.md's shell blocks, made small, continued ones joined, as words after `uv run`."""
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE))
    for large, small in SMALL.items():
        text = text.replace(large, small)
    lines = text.replace("\\\n", " ").replace("&& uv run", "\nuv run").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line]
    assert all(line[:2] == ["uv", "run"] for line in words)
    return [line[2:] for line in words]


def test_the_commands_of_readme_run(folder: Path) -> None:
    for program, *command in commands_of_readme():
        if program == "transmooth":
            run([*command, *SHORT.get(command[0], [])])  # of two values of an option the last one counts


def test_every_other_command_of_readme_is_run_elsewhere() -> None:
    found = {" ".join(words) for words in commands_of_readme() if words[0] != "transmooth"}
    assert found
    for line in found:
        assert line in ELSEWHERE or line.startswith(tuple(each for each in ELSEWHERE if each.startswith("dvc"))), line
