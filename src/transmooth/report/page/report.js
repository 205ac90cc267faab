"use strict";
// Draws the charts of the page and serves their switches and buttons.  `vegaEmbed` stands above.

const PANEL = { narrowest: 165, height: 190, gap: 20, axis: 55 };
const LIGHT = { "--back": "#ffffff", "--text": "#1a2029", "--soft": "#515b68", "--grid": "#e3e7ec" };
const LIGHT_CURVES = [
  "#0b62a4", "#c44e00", "#00795a", "#a03b8a", "#8a6a00", "#2383b0", "#59636e", "#b3261e", "#5b4bb5", "#5f7a1f",
];

const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The look of the page, or, for a file, the light one with a legend in place of the switches.
function look(color, curves, forFile) {
  const axis = { labelColor: color("--soft"), titleColor: color("--text"), gridColor: color("--grid") };
  return {
    font: "system-ui, sans-serif",
    background: forFile ? color("--back") : "transparent",
    view: { stroke: null },
    axis: { ...axis, domainColor: color("--soft"), tickColor: color("--soft"), titleFontWeight: "normal" },
    header: { labelColor: color("--text"), labelFontSize: 13 },
    legend: { disable: !forFile, labelColor: color("--text"), labelLimit: 400, symbolType: "stroke" },
    line: { strokeWidth: 2 },
    rule: { color: color("--soft") },
    range: { category: curves },
    facet: { spacing: PANEL.gap },
  };
}

// As many panels in a line as fit, none narrower than readable.
function fit(spec, width) {
  const panels = new Set(spec.data.values.map((curve) => curve.panel)).size;
  const columns = Math.max(1, Math.min(panels, 4, Math.floor((width - PANEL.axis) / PANEL.narrowest)));
  const wide = Math.floor((width - PANEL.axis) / columns) - PANEL.gap;
  const inner = Math.min(wide, 420);
  const facet = { ...spec.facet, header: { labelLimit: inner } };
  return { ...spec, facet, columns, spec: { ...spec.spec, width: inner, height: PANEL.height } };
}

function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  // A busy machine starts the download late: it must still find the blob.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function csv(spec, shown) {
  const lists = spec.transform[0].flatten;
  const curves = spec.data.values.filter((curve) => shown.includes(curve.curve));
  const single = Object.keys(curves[0] ?? {}).filter((key) => !lists.includes(key));
  const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  const rows = curves.flatMap((curve) =>
    curve[lists[0]].map((_, at) => [...single.map((key) => curve[key]), ...lists.map((key) => curve[key][at])]),
  );
  return [[...single, ...lists], ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

async function svg(spec, shown) {
  const options = { renderer: "svg", actions: false, config: look((name) => LIGHT[name], LIGHT_CURVES, true) };
  const { view } = await vegaEmbed(document.createElement("div"), spec, options);
  await view.signal("shown", shown).runAsync();
  const text = await view.toSVG();
  view.finalize();
  return text;
}

function chart(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot");
  const boxes = [...figure.querySelectorAll("input")];
  const shown = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const toggle = figure.querySelector("[data-do=toggle]");
  let view = null;

  const draw = async () => {
    const curves = LIGHT_CURVES.map((_, at) => styled(`--curve-${at}`));
    const options = { renderer: "svg", actions: false, config: look(styled, curves, false) };
    options.tooltip = { theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" };
    view?.finalize();
    view = (await vegaEmbed(plot, fit(spec, figure.clientWidth), options)).view;
    await view.signal("shown", shown()).runAsync();
  };
  const update = () => {
    if (toggle) toggle.textContent = shown().length ? "Hide all" : "Show all";
    view?.signal("shown", shown()).runAsync();
  };

  figure.addEventListener("change", update);
  figure.addEventListener("click", async ({ target }) => {
    const name = figure.id.replace("chart-", "");
    if (target.dataset.do === "csv") save(`${name}.csv`, "text/csv", csv(spec, shown()));
    if (target.dataset.do === "svg") save(`${name}.svg`, "image/svg+xml", await svg(fit(spec, 1100), shown()));
    if (target.dataset.do === "toggle") {
      const on = !shown().length;
      boxes.forEach((box) => (box.checked = on));
      update();
    }
  });
  return draw;
}

const draws = [...document.querySelectorAll(".chart")].map(chart);
const drawAll = async () => {
  for (const draw of draws) await draw();
  document.documentElement.dataset.drawn = "true";
};
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
let width = innerWidth;
addEventListener("resize", () => {
  // Phones resize when their address bar hides: only the width matters.
  if (innerWidth !== width) drawAll();
  width = innerWidth;
});
