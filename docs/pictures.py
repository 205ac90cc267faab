"""The pictures of docs/concepts.md: from closed forms and from the tables of the desk study, to docs/images/*.svg.

    python docs/pictures.py

The same bytes on every machine (a test compares): plain text, no drawing library.  Each picture has a background of its
own and follows the colour scheme of the page or of the system, so that it is legible on light and on dark.
"""

import csv
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist

DOCS = Path(__file__).parent
TABLES = DOCS.parent / "results" / "desk" / "tables"
NORMAL = NormalDist()
Point = tuple[float, float]

STYLE = """
svg { --ground: #ffffff; --ink: #24292f; --soft: #6a737d; --rule: #d8dde2; --wash: #e8f0f8;
      --a: #1f6fb2; --b: #b8500b; --c: #2b7d4f; --d: #7a4fa3 }
@media (prefers-color-scheme: dark) {
  svg { --ground: #1c1f26; --ink: #e6e8eb; --soft: #a3abb5; --rule: #3a404a; --wash: #233142;
        --a: #6cb2f0; --b: #f0964f; --c: #62c48d; --d: #c29ae8 }
}
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: var(--ink) }
text { paint-order: stroke; stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round }
.soft { fill: var(--soft) } .title { font-weight: 600 } .end { text-anchor: end } .mid { text-anchor: middle }
.rule { stroke: var(--rule); fill: none } .dash { stroke-dasharray: 5 4 } .line { fill: none; stroke-width: 2 }
"""


class Picture:
    """An SVG that grows by shapes, in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' role="img"><title>{title}</title><style>{STYLE}</style>',
            f'<rect width="{width}" height="{height}" rx="6" fill="var(--ground)"/>',
        ]

    def text(self, at: Point, words: str, kind: str = "", colour: str = "") -> None:
        style = f' style="fill: var(--{colour})"' if colour else ""
        self.parts.append(f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" class="{kind}"{style}>{words}</text>')

    def line(self, points: Sequence[Point], kind: str, colour: str = "") -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        stroke = f' stroke="var(--{colour})"' if colour else ""
        self.parts.append(f'<polyline points="{joined}" class="{kind}"{stroke}/>')

    def area(self, points: Sequence[Point], colour: str) -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon points="{joined}" fill="var(--{colour})"/>')

    def dot(self, at: Point, radius: float, fill: str, edge: str = "", kind: str = "") -> None:
        paint = "none" if fill == "none" else f"var(--{fill})"
        stroke = f' stroke="var(--{edge})" stroke-width="2"' if edge else ""
        self.parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{paint}"{stroke} class="{kind}"/>'
        )

    def save(self) -> str:
        return "\n".join([*self.parts, "</svg>"]) + "\n"


class Panel:
    """Axes in a picture: `at` maps data to pixels."""

    def __init__(self, picture: Picture, box: tuple[int, int, int, int], x: Point, y: Point, title: str) -> None:
        self.picture, self.x, self.y = picture, x, y
        self.left, self.top, self.width, self.height = box
        picture.text((self.left, self.top - 16), title, "title")

    def at(self, x: float, y: float) -> Point:
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * self.width, self.top + (1 - up) * self.height

    def rows(self, values: Sequence[float], show: Callable[[float], str]) -> None:
        for value in values:
            self.picture.line([self.at(self.x[0], value), self.at(self.x[1], value)], "rule")
            left, y = self.at(self.x[0], value)
            self.picture.text((left - 8, y + 4), show(value), "soft end")

    def columns(self, values: Sequence[tuple[float, str]], label: str) -> None:
        for value, words in values:
            x, y = self.at(value, self.y[0])
            self.picture.text((x, y + 19), words, "soft mid")
        x, y = self.at(sum(self.x) / 2, self.y[0])
        self.picture.text((x, y + 39), label, "soft mid")

    def interval(self, x: float, low: float, high: float, colour: str) -> None:
        self.picture.line([self.at(x, low), self.at(x, high)], "line", colour)


def ticks(largest: float) -> list[float]:
    """Return 0 and four or five marks at equal distances, whose last one is not below the largest value."""
    power = 10.0 ** math.floor(math.log10(largest))
    step = next(step for step in (0.2 * power, 0.25 * power, 0.5 * power, power, 2 * power) if 5 * step >= largest)
    return [step * at for at in range(math.ceil(largest / step) + 1)]


def read(table: str) -> list[dict[str, str]]:
    with (TABLES / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def certified(table: str, row: str, sigma: float, radius: float, block: str = "") -> tuple[float, float, float]:
    """Certified accuracy at one σ, no oracle, and its interval, in percent."""
    (found,) = (
        line
        for line in read(table)
        if (line["row"], line["block"], line["column"], line["oracle"])
        == (row, block, f"certified@{radius:g}", "False")
        and float(line["sigma"]) == sigma
    )
    return tuple(100 * float(found[key]) for key in ("value", "low", "high"))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------ what a radius is
SIGMA, CENTRE = 0.5, (0.0, 0.45)


def edge(x: float) -> float:
    """The base classifier's boundary: above it, class A."""
    return -0.42 + 0.3 * math.sin(3.1 * x + 0.5) + 0.16 * x * x


def chance(x: float, y: float) -> float:
    """P[f(x + δ) = A], δ ~ N(0, σ²I): the normal law of y integrated over that of x."""
    steps = [-5 + 10 * (i + 0.5) / 400 for i in range(400)]
    mass = (NORMAL.pdf(u) * NORMAL.cdf((y - edge(x + SIGMA * u)) / SIGMA) for u in steps)
    return sum(mass) * 10 / 400


def smoothed_edge(x: float) -> float:
    """Where the smoothed classifier changes from one class to the other."""
    low, high = -3.0, 3.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(x, middle) > 0.5 else (middle, high)
    return high


def radius_picture() -> str:
    picture = Picture(760, 400, "A certified radius: a base classifier, Gaussian noise around a point, and the radius")
    plane = Panel(picture, (20, 44, 340, 300), (-1.7, 1.7), (-1.35, 1.65), "Two pixels, two classes, σ = 0.5")
    grid = [-1.7 + 3.4 * i / 68 for i in range(69)]
    picture.area([plane.at(-1.7, 1.65), *(plane.at(x, edge(x)) for x in grid), plane.at(1.7, 1.65)], "wash")
    numbers = random.Random(7)
    for _ in range(260):
        x, y = (c + SIGMA * NORMAL.inv_cdf(numbers.random()) for c in CENTRE)
        if abs(x) < 1.68 and -1.33 < y < 1.63:
            picture.dot(plane.at(x, y), 2, "a" if y > edge(x) else "b")
    picture.line([plane.at(x, edge(x)) for x in grid], "line", "ink")
    picture.line([plane.at(x, smoothed_edge(x)) for x in grid[::2]], "line dash", "d")
    probability = chance(*CENTRE)
    radius = SIGMA * NORMAL.inv_cdf(probability)
    centre, pixel = plane.at(*CENTRE), plane.at(CENTRE[0] + radius, CENTRE[1])[0]
    picture.dot(centre, pixel - centre[0], "none", "c")
    picture.line([centre, (pixel, centre[1])], "line", "c")
    picture.dot(centre, 4.5, "ink")
    picture.text((centre[0] - 16, centre[1] + 5), "x", "title")
    picture.text(((centre[0] + pixel) / 2 - 4, centre[1] - 7), "R", "title", "c")
    picture.text(plane.at(-1.62, 1.48), "f says A", "title", "a")
    picture.text(plane.at(-1.62, -1.25), "f says B", "title", "b")
    picture.text(plane.at(0.62, smoothed_edge(1.1) - 0.42), "g changes here", "", "d")
    picture.text(
        (20, 368), f"{100 * probability:.1f} % of the noise stays in A: R = 0.5 · Φ⁻¹({probability:.3f}) = {radius:.2f}"
    )
    picture.text((20, 387), "No point within R gets another answer of g, whatever f looks like.", "soft")

    curve = Panel(picture, (450, 44, 280, 290), (0.5, 1.0), (0, 4.4), "What a vote is worth")
    curve.rows([0, 1, 2, 3, 4], lambda value: f"{value:g}σ")
    curve.columns([(0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")], "lower bound of p, the share of A")
    some = [0.5 + 0.5 * (1 - (1 - i / 300) ** 4) for i in range(300)]
    picture.line([curve.at(p, NORMAL.inv_cdf(p)) for p in some if NORMAL.inv_cdf(p) < 4.4], "line", "c")
    for samples in (100, 1000, 100_000):
        most = NORMAL.inv_cdf(0.001 ** (1 / samples))
        picture.line([curve.at(0.5, most), curve.at(1.0, most)], "rule dash", "d")
        x, y = curve.at(0.51, most)
        picture.text((x, y - 5), f"n = {samples:,}".replace(",", " ") + f": at most {most:.2f}σ", "", "d")
    return picture.save()


# -------------------------------------------------------------------------------------------- why mixed noise
def mixed_picture() -> str:
    picture = Picture(760, 350, "Certified accuracy after clean finetuning, by the noise of pretraining")
    for left, block in ((60, "Full network"), (440, "Fixed features")):
        panel = Panel(picture, (left, 44, 220, 240), (-0.35, 2.35), (0, 40), f"{block}, finetuned on clean images")
        panel.rows([0, 10, 20, 30, 40], lambda value: f"{value:g} %")
        panel.columns([(0, "0.25"), (1, "0.5"), (2, "1")], "σ of certification")
        picture.text((panel.at(0.5, 10)[0], panel.at(0, 10)[1] + 17), "chance", "soft mid")
        for shift, colour, row, name in (
            (-0.09, "b", "clean → clean", "clean"),
            (0.0, "d", "σ 0.25 → clean", "σ 0.25"),
            (0.09, "a", "mixed → clean", "mixed"),
        ):
            found = [certified("table1", row, sigma, 0.25, block) for sigma in (0.25, 0.5, 1.0)]
            picture.line([panel.at(i + shift, share) for i, (share, *_) in enumerate(found)], "line", colour)
            for i, (share, low, high) in enumerate(found):
                panel.interval(i + shift, low, high, colour)
                picture.dot(panel.at(i + shift, share), 4, colour)
            y = panel.at(2, found[-1][0])[1]
            places = {"clean": y + 14, "σ 0.25": y - 3, "mixed": y + 4}
            picture.text((panel.left + panel.width + 4, places[name]), name, "title", colour)
    picture.text(
        (20, 343), "Certified accuracy at ε = 0.25, 95 % intervals over 500 test images; desk study, Table 1.", "soft"
    )
    return picture.save()


# ---------------------------------------------------------------------------------------------- why not BatchNorm
def norm_picture() -> str:
    picture = Picture(
        760, 374, "Batch norm's statistics move between mixed noise and clean images; the others have none"
    )
    shifts = {name: list(moved(name)) for name in ("layer norm", "batch norm")}
    marks = ticks(max(map(max, shifts.values())))
    panel = Panel(picture, (60, 44, 250, 240), (-0.3, 3.3), (0, marks[-1]), "Features moved by statistics alone")
    panel.rows(marks, lambda value: f"{value:g}")
    panel.columns([(0, "0"), (1, "0.25"), (2, "0.5"), (3, "1")], "σ of the test images")
    for colour, values in zip("ab", shifts.values(), strict=True):
        points = [panel.at(i, shift) for i, shift in enumerate(values)]
        picture.line(points, "line", colour)
        for point in points:
            picture.dot(point, 4, colour)
    x, y = panel.at(2, shifts["batch norm"][2])
    picture.text((x - 12, y - 4), "batch norm", "title end", "b")
    x, y = panel.at(3.3, 0)
    picture.text((x, y - 12), "the other three: 0", "title end", "a")

    norms = ("batch norm", "instance norm", "group norm", "layer norm")
    panel = Panel(picture, (420, 44, 320, 240), (-0.5, 3.5), (0, 80), "After clean finetuning")
    panel.rows([0, 20, 40, 60, 80], lambda value: f"{value:g} %")
    panel.columns(
        [(i, name.removesuffix(" norm")) for i, name in enumerate(norms)], "normalisation layer, mixed → clean"
    )
    for i, name in enumerate(norms):
        share, low, high = certified("table6", name, 0.25, 0.25)
        clean = 100 * next(
            float(line["value"]) for line in read("table6") if (line["row"], line["column"]) == (name, "clean")
        )
        colour = "b" if name == "batch norm" else "a"
        panel.interval(i, low, high, colour)
        picture.dot(panel.at(i, share), 4.5, colour)
        picture.dot(panel.at(i, clean), 4.5, "ground", colour)
        x, y = panel.at(i, share)
        picture.text((x + 9, y + 5), f"{share:.1f}", "", colour)
        x, y = panel.at(i, clean)
        picture.text((x + 9, y + 5), f"{clean:.1f}", "", colour)
    note = (
        "Left: 0 nothing moves, 1 as much as there is (Table 2). Right: hollow clean accuracy, full certified accuracy"
    )
    picture.text((20, 343), note, "soft")
    picture.text((20, 361), "at ε = 0.25, certified at σ = 0.25, with 95 % intervals (Table 6). Desk study.", "soft")
    return picture.save()


def moved(norm: str) -> Iterator[float]:
    """The shift by statistics at each σ, averaged over the layers."""
    lines = [line for line in read("table2") if (line["row"], line["cause"]) == (norm, "statistics")]
    for sigma in sorted({float(line["sigma"]) for line in lines}):
        shifts = [float(line["shift"]) for line in lines if float(line["sigma"]) == sigma]
        yield sum(shifts) / len(shifts)


PICTURES = {"radius": radius_picture, "mixed": mixed_picture, "norm": norm_picture}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (DOCS / "images" / f"{name}.svg").write_text(draw(), encoding="utf-8")
