"""The page in a real browser: it draws, loads nothing, obeys its switches, and can be used without a mouse."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.page import IMAGES, LABELS
from tests.report.page.conftest import Made

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
# Asked for by name: on a busy machine a browser waits for minutes, and nothing else in the tests needs one.
CHROMIUM = os.environ.get("CHROMIUM")
TIMEOUT = 30_000  # ms
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="set CHROMIUM to the path of a Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Any, made: Made) -> Iterator[Any]:
    """The drawn page, with `.faults` and `.asked`: what its console said and which addresses it asked for."""
    page = browser.new_page(color_scheme=request.param, viewport={"width": 1200, "height": 900})
    page.set_default_timeout(TIMEOUT)
    page.faults, page.asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((made.results / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn]")
    yield page
    page.close()


def test_it_draws_every_chart_without_a_fault_and_without_the_network(opened: Any) -> None:
    assert opened.faults == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.locator(".chart svg").count() == opened.locator(".chart").count() == 4


def expect_curves(opened: Any, count: int) -> None:
    """Waits until the chart of the table has so many."""
    drawn = opened.locator("#chart-table3 svg .mark-line path[stroke]")
    playwright.expect(drawn).to_have_count(count, timeout=TIMEOUT)


def test_switches_hide_and_show_curves(opened: Any) -> None:
    chart = opened.locator("#chart-table3")
    expect_curves(opened, 3 * 3)  # two networks and other people's logs, a panel for each sigma and the oracle
    box = chart.get_by_label("scratch", exact=True)
    box.focus()
    opened.keyboard.press("Space")
    expect_curves(opened, 3 * 2)
    chart.get_by_role("button", name="Hide all").click()
    expect_curves(opened, 0)
    chart.get_by_role("button", name="Show all").click()
    expect_curves(opened, 3 * 3)


def test_pointing_at_a_curve_tells_radius_accuracy_interval_and_images(opened: Any) -> None:
    drawn = opened.locator("#chart-table3 svg")
    drawn.scroll_into_view_if_needed()
    frame = drawn.bounding_box()
    opened.mouse.move(frame["x"] + 150, frame["y"] + 100)
    opened.mouse.move(frame["x"] + 152, frame["y"] + 101)
    shown = opened.locator("#vg-tooltip-element.visible")
    shown.wait_for()
    text = shown.inner_text()
    assert "radius ε" in text
    assert f"test images\t{IMAGES}" in text.replace("\n", "\t") or str(IMAGES) in text
    assert "% [" in text
    assert LABELS["mixed"] in text
    opened.mouse.move(0, 0)


def test_a_chart_can_be_taken_along(opened: Any, tmp_path: Path) -> None:
    chart = opened.locator("#chart-table3")
    with opened.expect_download() as download:
        chart.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert {line["curve"] for line in read} == {*LABELS.values(), "theirs"}
    assert {line["radius ε"] for line in read} >= {"0", "0.25", "0.5"}
    with opened.expect_download() as download:
        chart.get_by_role("button", name="Download SVG").click()
    download.value.save_as(tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "scratch" in drawn  # a legend, in place of the switches
    assert "#ffffff" in drawn  # light, whatever the page is


def test_a_chart_is_a_picture_and_a_table_a_csv_too(opened: Any, tmp_path: Path) -> None:
    with opened.expect_download() as download:
        opened.locator("#chart-table3").get_by_role("button", name="Download PNG").click()
    download.value.save_as(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Download CSV: Comparison: what is certified").click()
    download.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [line["σ"] for line in read if line["Network"] == "scratch"] == ["0.25", "0.5"]
    assert {line["block"] for line in read} == {"", "Recomputed from logs of others"}
    assert {line["evaluations"] for line in read if line["Network"] == "scratch"} == {"1,100"}


def test_a_heading_has_a_link_to_itself_and_the_contents_name_it(opened: Any) -> None:
    opened.get_by_role("link", name="Link to “Comparison”").click()
    assert opened.url.endswith("#table3")
    contents = opened.get_by_role("navigation", name="Contents")
    assert contents.get_by_role("link", name="By class").get_attribute("href") == "#classes"


def test_intervals_appear_on_demand(opened: Any) -> None:
    interval = opened.locator("#table3 .interval").first
    assert interval.evaluate("each => getComputedStyle(each).opacity") == "0"
    opened.get_by_label("Show all 95 % intervals").check()
    assert interval.evaluate("each => getComputedStyle(each).opacity") == "1"
    opened.get_by_label("Show all 95 % intervals").uncheck()


def test_no_rule_of_accessibility_is_broken(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(opened).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_a_phone_scrolls_down_only(browser: Any, made: Made) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(TIMEOUT)
    page.goto((made.results / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Tables fit too, but for the confusion of many classes.
    wide = "[...document.querySelectorAll('.cards')].filter((each) => each.offsetWidth > 366).map((each) => each.id)"
    assert page.evaluate(wide) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.close()
