"""Interactive curves: a Vega-Lite spec for each chart, and the JavaScript that draws them all without a network."""

import math
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

BAND = 4  # curves of a panel, at most, whose intervals are drawn as bands: more would hide each other
DASH = [6, 4]
# Apart from each other, and from the page behind them, in light and in dark.
LIGHT = (
    *("#0b62a4", "#c44e00", "#00795a", "#a03b8a", "#8a6a00"),
    *("#2383b0", "#59636e", "#b3261e", "#5b4bb5", "#5f7a1f"),
)
DARK = (
    *("#6cb6ff", "#ff9d5c", "#4fd1a5", "#f29cdf", "#f0c94a"),
    *("#9be4ff", "#b9c2cc", "#ff8a80", "#b8a9ff", "#c3dc7a"),
)

EXPORT = "window.vegaEmbed = vegaEmbed;"  # the one name that the page's own script uses


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, of the versions that the specs are made for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return str(vl_convert.javascript_bundle(EXPORT, vl_version=version))


def chart(lines: pd.DataFrame, *, title: str, x: str, y: str, percent: bool, step: bool) -> dict[str, Any]:
    """Return a spec with one panel for each `panel` of `lines`, and in it one line for each `curve`.

    lines: columns panel, curve, oracle (dashed), x, y; and where shares have an interval, low, high and images (how
    many it is over).  The param `shown` lists the curves to draw.  The selection `near` is the x under the pointer:
    there the panel shows every curve's value.  percent: y is a share; step: a value holds until the next one.
    """
    interval = "low" in lines
    measured = ["low", "high"] if interval else []
    values = [
        {"panel": panel, "curve": curve, "oracle": bool(group["oracle"].iloc[0])}
        | ({"test images": int(group["images"].iloc[0])} if interval else {})
        | {x: group["x"].round(6).tolist(), y: group["y"].round(4).tolist()}
        | {field: group[field].round(4).tolist() for field in measured}
        for (panel, curve), group in lines.groupby(["panel", "curve"], sort=False)
    ]
    names, panels = (list(dict.fromkeys(lines[column])) for column in ("curve", "panel"))
    shape = ".1%" if percent else ".3f"
    text = f"format(datum['{y}'], '{shape}')"
    if interval:
        text += f" + ' [' + format(datum.low, '{shape}') + ', ' + format(datum.high, '{shape}') + ']'"

    near = alt.selection_point(
        name="near", fields=[x], nearest=True, on="pointermove", clear="pointerout", empty=False, resolve="global"
    )
    over = alt.X(f"{x}:Q").scale(domain=[0 if interval else float(lines["x"].min()), float(lines["x"].max())])
    base = alt.Chart().encode(x=over.axis(tickCount=5, **({} if interval else {"tickMinStep": 1, "format": "d"})))
    height = alt.Y(f"{y}:Q").axis(format="%" if percent else "~g", tickCount=5)
    color = alt.Color("curve:N").scale(domain=names).title(None)
    bottom = min(0.0, float(lines["y"].min()))  # a score may be below
    coloured = base.encode(y=height.scale(domain=[bottom, 1 if percent else float(lines["y"].max())]), color=color)
    dash = alt.StrokeDash("oracle:N").scale(domain=[False, True], range=[[1, 0], DASH]).legend(None)
    # A training of one epoch is a point, not a line.
    line = coloured.mark_line(aria=False, interpolate="step-after" if step else "linear", point=not step)
    layers = [line.encode(strokeDash=dash)]
    if interval:
        ends = {"y": alt.Y("low:Q").title(y), "y2": "high:Q"}
        if lines.groupby("panel")["curve"].nunique().max() <= BAND:
            layers.insert(0, coloured.mark_area(aria=False, opacity=0.13, interpolate="step-after").encode(**ends))
        layers.append(coloured.mark_rule(aria=False, strokeWidth=2, opacity=0.5).encode(**ends).transform_filter(near))
    layers.append(coloured.mark_point(aria=False, filled=True, opacity=1, size=45).transform_filter(near))
    # Each group has one text; `max` hands it on, the default, a sum, would want a number.
    ruler = base.transform_pivot(
        "curve", value="text", op="max", groupby=["panel", x, *(["test images"] if interval else [])]
    )
    ruler = ruler.mark_rule(aria=False, tooltip=alt.TooltipContent("data"))
    layers.append(ruler.encode(opacity=alt.when(near).then(alt.value(0.6)).otherwise(alt.value(0))).add_params(near))

    facet = alt.Facet("panel:N").sort(panels).title(None)
    figure = (
        alt.layer(*layers, data=alt.Data(values=values))
        .facet(facet, columns=len(panels))
        .transform_flatten([x, y, *measured])
        .transform_filter("indexof(shown, datum.curve) >= 0")
        .transform_calculate(text=text)
        .add_params(alt.param(name="shown", value=names))
        .properties(description=title, usermeta={"colors": colors(len(names))})
    )
    spec: dict[str, Any] = figure.to_dict()
    del spec["config"]  # Altair's default look: the page has its own, light and dark
    return spec


def colors(count: int) -> dict[str, list[str]]:
    """Return as many colours that differ, for a light page and for a dark one.

    Up to ten are chosen by hand.  More are hues at equal distances, of two lightnesses in turn, in OKLCH (Ottosson
    2020), where equal distances look equal.
    """
    if count <= len(LIGHT):
        return {"light": list(LIGHT[:count]), "dark": list(DARK[:count])}
    hues = [2 * math.pi * number / count for number in range(count)]
    lightnesses = {"light": (0.42, 0.6), "dark": (0.7, 0.88)}
    return {theme: [_hex(both[at % 2], hue) for at, hue in enumerate(hues)] for theme, both in lightnesses.items()}


def _hex(lightness: float, hue: float, chroma: float = 0.16) -> str:
    """Return the colour of OKLCH in sRGB, of less chroma where a screen cannot show it."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    cones = np.array([[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.2914855480]])
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.array(to_rgb) @ (lightness + cones @ [a, b]) ** 3
    if linear.min() < 0 or linear.max() > 1:
        return _hex(lightness, hue, chroma - 0.01)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * value):02x}" for value in shown)
