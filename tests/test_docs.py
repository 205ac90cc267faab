"""The pages: links and anchors resolve, pages are in the site, commands have their options, examples work.

What needs no network and no site.  The site itself is built by .ci/run, which fails on any warning.
"""

import pydoc
import re
import runpy
import shlex
import shutil
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
from transmooth import params
from transmooth.cli.main import app
from transmooth.models.build import Network
from transmooth.params import load
from transmooth.plan import Plan

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
    tables = sorted((ROOT / "results" / "desk" / "tables").glob("*.md"))
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert sorted(nav) == sorted([*pages, "CONTRIBUTING.md", "CHANGELOG.md", *map(name, tables)])


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
    group: Any = typer.main.get_command(app)
    for command, *arguments in commands(page, "transmooth"):
        if command == "job":  # the workflow's own
            continue
        assert command in group.commands, command
        known = {option for parameter in group.commands[command].params for option in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in arguments if word.startswith("--")} <= known, [command, *arguments]


def test_commands_of_snakemake_have_their_options_studies_and_targets() -> None:
    known = {option for action in snakemake.cli.get_argument_parser()._actions for option in action.option_strings}
    studies = params.studies(ROOT / "params")
    targets = {"data", "stability"}  # a rule; the table that docs/extend.md adds
    targets |= {report for study in studies for report in load(study, ROOT).study.report}
    settings = {*(f"study={study}" for study in studies), "study=NAME", "study=mine"}
    for page in PAGES:
        for arguments in commands(page, "snakemake"):
            assert {word for word in arguments if word.startswith("-")} <= known, arguments
            for before, word in zip(["", *arguments], arguments, strict=False):
                if word.startswith("study="):
                    assert word in settings, arguments
                elif not word.startswith("-") and not before.startswith("--"):
                    assert word in targets, arguments


def picture_script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "pictures.py")))


def test_pictures_are_what_their_script_draws() -> None:
    for picture, draw in picture_script().PICTURES.items():
        assert (ROOT / "docs" / "images" / f"{picture}.svg").read_text() == draw(), "python docs/pictures.py"


def test_the_certified_circle_of_the_picture_stays_within_one_answer() -> None:
    drawn = picture_script()
    radius = drawn.SIGMA * drawn.NORMAL.inv_cdf(drawn.chance(*drawn.CENTRE))
    x, y = drawn.CENTRE
    nearest = min(((i / 50 - x) ** 2 + (drawn.smoothed_edge(i / 50) - y) ** 2) ** 0.5 for i in range(-50, 50))
    assert radius < nearest < 1.1 * radius


def extended(folder: Path) -> None:
    """The params and objectives of the project with the examples of docs/extend.md where they say they go."""
    shutil.copytree(ROOT / "params", folder / "params")
    shutil.copytree(params.OBJECTIVES, folder / "objectives", ignore=shutil.ignore_patterns("__pycache__"))
    page = ROOT / "docs" / "extend.md"
    (folder / "pictures" / "a").mkdir(parents=True)
    for block in blocks(page, "yaml"):
        first, body = block.split("\n", 1)
        matched = re.fullmatch(r"# (params/\w+\.yaml), below (\w+):", first)
        assert matched, first
        path = folder / matched[1]
        body = body.replace("~/pictures", str(folder / "pictures"))
        if matched[1] == "params/smoke.yaml" and matched[2] == "roles":
            path.write_text(path.read_text().replace("  second: textures\n", body))
        else:
            head, key, tail = re.split(rf"^( *{matched[2]}:\n)", path.read_text(), maxsplit=1, flags=re.MULTILINE)
            path.write_text(head + key + body + tail)
    for block in blocks(page, "python"):
        where = block.split("\n", 1)[0].removeprefix("# src/transmooth/")
        (folder / where).write_text(block)


def test_the_examples_of_the_page_on_extending_are_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extended(tmp_path)
    monkeypatch.setattr(params, "OBJECTIVES", tmp_path / "objectives")
    plan = Plan(load("smoke", tmp_path))
    paths = {run.path for run in plan.runs_of("stability")}
    assert paths == {"mixed/digits/clean/0", "mixed/digits/stability_025/0"}
    second = {run.path for run in plan.runs_of("figure2")}
    assert "mixed/mine/clean_one_epoch/0" in second
    (run,) = (run for run in plan.runs if run.finetune == "stability_025")
    assert '"objective":"stability"' in plan.finetune(run).replace(" ", "")


def test_the_loss_of_the_page_on_extending_is_the_one_it_states(tmp_path: Path, network: Network) -> None:
    extended(tmp_path)
    loss_of = runpy.run_path(str(tmp_path / "objectives" / "stability.py"))["loss"]
    images, labels, noise = torch.rand(6, 3, 8, 8), torch.arange(6), torch.Generator()
    clean = torch.nn.functional.cross_entropy(network(images), labels)
    loss, metrics = loss_of(network, images, labels, torch.zeros(6), noise, weight=2.0)
    torch.testing.assert_close(loss, clean)  # without noise there is nothing to be stable against
    assert 0 <= metrics["correct"] <= 6
    noisy, _ = loss_of(network, images, labels, torch.full((6,), 0.5), noise, weight=2.0)
    assert noisy > clean
