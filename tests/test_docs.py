"""The pages: links and anchors resolve, pages are in the site, commands have their options, examples work.

What needs no network and no site.  The site itself is built by .ci/run, which fails on any warning.
"""

import json
import os
import pydoc
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake.cli
import torch
import typer
import yaml

from tests.conftest import ROOT
from transmooth.cli.main import app
from transmooth.models.build import Network
from transmooth.models.check import check
from transmooth.noise import add_noise
from transmooth.params.load import load, studies
from transmooth.plan import Plan
from transmooth.specs import NetworkSpec

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [block for language, block in FENCE.findall(page.read_text()) if language in languages]


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What GitHub and the site both make of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor.startswith("transmooth."):  # what the API page documents
            assert there.name == "api.md", target
            assert pydoc.locate(anchor) is not None, target
        elif anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_line_became_a_heading_by_accident(page: Path) -> None:
    assert re.findall(r"^#+[^# ].*", prose(page), re.MULTILINE) == []  # "#6" at its start, where a text was wrapped


class _Site(yaml.SafeLoader):
    """mkdocs.yml has tags of its own."""


def leaves(nav: Any) -> Iterator[str]:
    for entry in nav:
        (value,) = entry.values()
        yield from [value] if isinstance(value, str) else leaves(value)


def test_every_page_is_in_the_site_once() -> None:
    nav = list(leaves(yaml.load((ROOT / "mkdocs.yml").read_text(), _Site)["nav"]))
    tables = sorted(ROOT.glob("results/*desk/tables/*.md"))
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert sorted(nav) == sorted([*pages, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *map(name, tables)])


def test_what_the_api_page_documents_exists() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for found, members in re.findall(r"^::: (\S+)\n(?:(?!:::).+\n)*?      members: (.+)", text, re.MULTILINE):
        for member in re.findall(r"\w+", members) if members.startswith("[") else []:
            assert hasattr(pydoc.locate(found), member), f"{found}.{member}"


def commands(page: Path, program: str) -> list[list[str]]:
    """The calls of a program in the blocks of a page and in its text, as arguments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
    words = [shlex.split(line, comments=True) for line in lines if re.match(rf"(uv run )?{program} ", line)]
    return [line[line.index(program) + 1 :] for line in words]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_transmooth_have_their_options(page: Path) -> None:
    top: Any = typer.main.get_command(app)
    for words in commands(page, "transmooth"):
        group, arguments = top, words
        if words[0] == "job":  # the workflow's own
            continue
        while hasattr(group, "commands") and arguments and not arguments[0].startswith("-"):
            command, *arguments = arguments
            assert command in group.commands, words
            group = group.commands[command]
        known = {option for parameter in group.params for option in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in arguments if word.startswith("--")} <= known, words


def test_commands_of_snakemake_have_their_options_studies_and_targets() -> None:
    known = {option for action in snakemake.cli.get_argument_parser()._actions for option in action.option_strings}
    targets = {"data", "stability"}  # a rule; the table that docs/extend.md adds
    targets |= {report for study in studies(ROOT) for report in load(study, ROOT).study.report}
    settings = {*(f"study={study}" for study in studies(ROOT)), "study=NAME", "study=mine"}
    for page in PAGES:
        for arguments in commands(page, "snakemake"):
            assert {word for word in arguments if word.startswith("-")} <= known, arguments
            for before, word in zip(["", *arguments], arguments, strict=False):
                if word.startswith("study="):
                    assert word in settings, arguments
                elif not word.startswith("-") and not before.startswith("--"):
                    assert word in targets, arguments


def test_runs_that_pages_name_are_runs_of_a_study() -> None:
    planned = {run for study in studies(ROOT) for run in Plan(load(study, ROOT)).runs}
    for page in PAGES:
        for run in re.findall(
            r"\b(?:train|evaluate)/([a-z_0-9]+(?:/[a-z_0-9]+@[a-z_0-9]+)+(?:/\d+)?)", page.read_text()
        ):
            assert run in planned or f"{run}/0" in planned, (name(page), run)


def picture_script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "pictures.py")))


def test_pictures_are_what_their_script_draws() -> None:
    for picture, draw in picture_script().PICTURES.items():
        assert (ROOT / "docs" / "images" / f"{picture}.svg").read_text() == draw(), "python docs/pictures.py"


def test_no_axis_of_a_picture_cuts_off_its_points() -> None:
    drawn = picture_script()
    for name in ("mixed", "norm"):  # panels from 44 to 284
        heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([-\d.]+)"', drawn.PICTURES[name]())]
        assert heights
        assert 44 <= min(heights) <= max(heights) <= 284, name
    for largest in (0.52, 1.0, 1.1, 2.0, 5.1, 9.99, 12.03, 80.0):
        marks = drawn.ticks(largest)
        assert marks[-2] < largest <= marks[-1]
        assert 4 <= len(marks) <= 6


def test_the_certified_circle_of_the_picture_stays_within_one_answer() -> None:
    drawn = picture_script()
    radius = drawn.SIGMA * drawn.NORMAL.inv_cdf(drawn.chance(*drawn.CENTRE))
    x, y = drawn.CENTRE
    nearest = min(((i / 50 - x) ** 2 + (drawn.smoothed_edge(i / 50) - y) ** 2) ** 0.5 for i in range(-50, 50))
    assert radius < nearest < 1.1 * radius


SECOND = "  second:\n    dataset: textures\n    schedule: finetune\n"


def extended(folder: Path) -> None:
    """The params and sources of the project, with the examples of docs/extend.md where they say they go."""
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("params", "src"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    (folder / "pictures" / "a").mkdir(parents=True)
    for block in blocks(ROOT / "docs" / "extend.md", "yaml", "python"):
        first, body = block.split("\n", 1)
        matched = re.fullmatch(r"# ([\w/.]+)(?:, (below|in place of) (\w+):?)?", first)
        assert matched, first
        path, how, key = folder / matched[1], matched[2], matched[3]
        body = body.replace("~/pictures", str(folder / "pictures"))
        if how is None:
            assert not path.exists(), first
            path.write_text(block)
            continue
        text = path.read_text().replace(SECOND, "") if key == "roles" else path.read_text()
        head, line, tail = re.split(rf"^( *{key}\b.*\n)", text, maxsplit=1, flags=re.MULTILINE)
        path.write_text(head + (line if how == "below" else "") + body + tail)


PLANNED = """
import json, numpy as np
from pathlib import Path
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.report.accuracy import RowResult, Settings
from transmooth.report.cells import cells, shown

plan = Plan(load("smoke", Path()))
table = plan.table_spec("stability")
run = plan.runs["layer_norm/mixed@upstream/stability_025@downstream/0"]
curves = {0.25: np.array([[-np.inf, 0.2, 0.3]]), 0.5: np.array([[-np.inf, -np.inf, 0.9]])}
row = RowResult("a", "", None, None, curves, np.array([0.5]), 3, Settings("cohen", 1, 2, 0.1))
print(json.dumps({
    "runs": [run.path for run in plan.runs_of("stability")],
    "second": [run.path for run in plan.runs_of("figure2")],
    "data": plan.prepared("mine"),
    "spec": plan.train_spec(run).dump(),
    "network": plan.network_spec("two_blocks").dump(),
    "columns": [column.text for column in table.columns],
    "median": shown(cells([row], table.columns), table.columns).set_index("column")["value"]["median"],
}))
"""


def test_the_examples_of_the_page_on_extending_are_planned(tmp_path: Path) -> None:
    extended(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", PLANNED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["runs"] == [
        "layer_norm/mixed@upstream/clean@downstream/0",
        "layer_norm/mixed@upstream/stability_025@downstream/0",
        "two_blocks/mixed@upstream/clean@downstream/0",
    ]
    assert "layer_norm/mixed@upstream/clean_one_epoch@second/0" in found["second"]
    assert found["data"] == "external/mine/manifest.json"
    assert (found["spec"]["objective"], found["spec"]["options"]) == ("stability", {"weight": 2.0})
    check(NetworkSpec.of(found["network"]))
    assert "median" in found["columns"]
    assert found["median"] == 0.2  # of 0, 0.2, 0.3; at the other sigma it is 0


def test_the_loss_of_the_page_on_extending_is_the_one_it_states(tmp_path: Path, network: Network) -> None:
    extended(tmp_path)
    loss_of = runpy.run_path(str(tmp_path / "src" / "transmooth" / "objectives" / "stability.py"))["loss"]
    images, labels, noise = torch.rand(6, 3, 8, 8), torch.arange(6), torch.Generator()
    logits = network(images)
    loss, metrics = loss_of(network, add_noise, images, labels, torch.zeros(6), noise, weight=2.0)
    clean = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss, clean)  # without noise there is nothing to be stable against
    assert metrics["score"] == (logits.argmax(1) == labels).sum()
    noisy, _ = loss_of(network, add_noise, images, labels, torch.full((6,), 0.5), noise, weight=2.0)
    assert noisy > clean


class LeftOrRight(torch.nn.Module):
    """Class 1 where the right half of an image is the brighter one: a linear network, whose radii are known."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 2] of images [B, 3, H, W]."""
        half = images.shape[3] // 2
        return torch.stack([images[..., :half].sum((1, 2, 3)), images[..., half:].sum((1, 2, 3))], 1)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_python_of_the_first_pages_runs_as_it_is_written(page: str) -> None:
    images, labels = torch.full((2, 3, 4, 4), 0.5), torch.tensor([0, 1])
    images[labels == 0, :, :, :2] += (
        0.4  # 24 of 48 pixels: a difference of 9.6, whose noise has a deviation of sigma √48
    )
    images[labels == 1, :, :, 2:] += 0.4
    names: dict[str, Any] = {
        "model": LeftOrRight().eval(),
        "images": images,
        "held_out": images.clone(),
        "labels": labels,
    }
    found = blocks(ROOT / page, "python")
    assert found
    for block in found:
        exec(block, names)
    frame, smoothed = names["frame"], names["smoothed"]
    assert (frame["prediction"] == frame["label"]).all()
    exact = 9.6 / 48**0.5  # distance to the boundary, which 100 000 samples nearly certify
    assert frame["radius"].between(0.95 * exact, exact).all()
    between = torch.full((1, 3, 4, 4), 0.5)
    assert smoothed.predict(torch.cat([images, between])).tolist() == [0, 1, -1]
    if page == "README.md":
        assert names["sigma"] == 1.0  # the farthest with 1000 samples: at 0.25 all votes agree, and n is the bound
        assert set(names["scores"]) == {0.25, 0.5, 1.0}
