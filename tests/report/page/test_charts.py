"""Colours of curves: they differ, and can be seen on the page."""

from itertools import combinations

import pytest

from transmooth.report.page.charts import LIGHT, colors

BACK = {"light": "#ffffff", "dark": "#12161c"}


def channels(color: str) -> list[float]:
    """Linear red, green and blue of `#rrggbb`, by the sRGB standard."""
    values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def contrast(one: str, other: str) -> float:
    """Contrast as of WCAG 2.2."""
    dark, light = sorted(
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels(each), strict=True)) for each in (one, other)
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("count", [1, 10, 11, 18, 31])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_differ_and_stand_out_from_the_page(theme: str, count: int) -> None:
    found = colors(count)[theme]
    assert len({*found}) == count
    assert min(contrast(each, BACK[theme]) for each in found) >= 3  # WCAG 1.4.11
    nearest = min(
        (
            max(abs(int(a[at : at + 2], 16) - int(b[at : at + 2], 16)) for at in (1, 3, 5))
            for a, b in combinations(found, 2)
        ),
        default=255,
    )
    assert nearest >= 10


def test_few_colours_are_those_chosen_by_hand() -> None:
    assert tuple(colors(10)["light"]) == LIGHT
    assert colors(2)["light"] == list(LIGHT[:2])


def test_a_known_colour_of_oklch() -> None:
    """Red of sRGB is (0.62796, 0.25768, 29.2339°) in OKLCH, by CSS Color 4; here of less chroma: it stays red."""
    first = colors(11)["light"][0]
    red, green, blue = channels(first)
    assert red > 3 * max(green, blue)
