"""The page of a small study, made once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.page import Tags, read_page, write_study
from transmooth.specs import PageSpec


@dataclass(frozen=True)
class Made:
    """A study whose page was made: its results, what the page was asked to show, and the page as it is parsed."""

    results: Path
    spec: PageSpec
    page: Tags


@pytest.fixture(scope="session")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Results of two networks with a table, a figure, shifts and training curves, and their page."""
    results = tmp_path_factory.mktemp("results")
    spec = write_study(results, digits)
    return Made(results, spec, read_page(results / "report.html"))
