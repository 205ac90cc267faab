"""Interactive curves: a Vega-Lite spec for each chart, and the JavaScript that draws them all without a network."""

from functools import cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

BAND = 4  # curves of a panel, at most, whose intervals are drawn as bands: more would hide each other
DASH = [6, 4]


EXPORT = "window.vegaEmbed = vegaEmbed;"  # the one name that the page's own script uses


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, of the versions that the specs are made for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return str(vl_convert.javascript_bundle(EXPORT, vl_version=version))


def chart(lines: pd.DataFrame, *, title: str, x: str, y: str, percent: bool, step: bool) -> dict[str, Any]:
    """A spec with one panel for each `panel` of `lines`, and in it one line for each `curve`.

    lines: columns panel, curve, oracle (dashed), x, y; and where shares have an interval, low, high and images (how
    many it is over).  The param `shown` lists the curves to draw, the selection `near` is the x under the pointer:
    there the panel tells every curve's value.  percent: y is a share; step: a value holds until the next one.
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
        .properties(description=title)
    )
    spec: dict[str, Any] = figure.to_dict()
    del spec["config"]  # Altair's default look: the page has its own, light and dark
    return spec
