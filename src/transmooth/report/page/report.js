"use strict";
// Draws the charts of the page and serves their switches and buttons.  `vegaEmbed` stands above.

const PANEL = { narrowest: 165, height: 190, gap: 20, axis: 55 };
const LIGHT = { "--back": "#ffffff", "--text": "#1a2029", "--soft": "#515b68", "--grid": "#e3e7ec" };
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
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
  const inner = Math.min(Math.max(wide, 60), 420);
  const named = spec.data.values.some((curve) => curve.panel);
  const facet = { ...spec.facet, header: { labelLimit: inner, labels: named } };
  return { ...spec, facet, columns, spec: { ...spec.spec, width: inner, height: PANEL.height } };
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // A busy machine starts the download late: it must still find the blob.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function csvOf(rows) {
  const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  return rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

function csv(spec, shown) {
  const lists = spec.transform[0].flatten;
  const curves = spec.data.values.filter((curve) => shown.includes(curve.curve));
  const single = Object.keys(curves[0] ?? {}).filter((key) => !lists.includes(key));
  const rows = curves.flatMap((curve) =>
    curve[lists[0]].map((_, at) => [...single.map((key) => curve[key]), ...lists.map((key) => curve[key][at])]),
  );
  return csvOf([[...single, ...lists], ...rows]);
}

// The cells of a table by their labels; a row of its own before others is their block.
function tableCsv(table) {
  const text = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll(".sr").forEach((hidden) => hidden.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  let block = "";
  const rows = [];
  for (const row of table.querySelectorAll("tbody tr")) {
    if (row.className === "block") block = text(row);
    else rows.push([block, ...[...row.cells].map(text)]);
  }
  const cells = [...(table.querySelector("tbody tr:not(.block)")?.cells ?? [])].slice(1);
  const head = ["block", text(table.querySelector("thead th")), ...cells.map((cell) => cell.dataset.label)];
  const lines = [head, ...rows];
  return csvOf(block ? lines : lines.map((line) => line.slice(1)));
}

// A view without a page, in light colours and with a legend, of the curves that are shown.
async function drawn(spec, shown) {
  const config = look((name) => LIGHT[name], spec.usermeta.colors.light, true);
  const { view } = await vegaEmbed(document.createElement("div"), spec, { renderer: "svg", actions: false, config });
  return view.signal("shown", shown).runAsync();
}

function chart(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot");
  const boxes = [...figure.querySelectorAll("input")];
  const shown = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const toggle = figure.querySelector("[data-do=toggle]");
  let view = null;

  const draw = async () => {
    const theme = dark() ? "dark" : "light";
    const config = look(styled, spec.usermeta.colors[theme], false);
    const options = { renderer: "svg", actions: false, config, tooltip: { theme } };
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
    if (target.dataset.do === "csv") save(new Blob([csv(spec, shown())], { type: "text/csv" }), `${name}.csv`);
    if (target.dataset.do === "svg" || target.dataset.do === "png") {
      const view = await drawn(fit(spec, 1100), shown());
      if (target.dataset.do === "svg") save(new Blob([await view.toSVG()], { type: "image/svg+xml" }), `${name}.svg`);
      else (await view.toCanvas(2)).toBlob((blob) => save(blob, `${name}.png`));
      view.finalize();
    }
    if (target.dataset.do === "toggle") {
      const on = !shown().length;
      boxes.forEach((box) => (box.checked = on));
      update();
    }
  });
  return draw;
}

for (const button of document.querySelectorAll("[data-do=table]")) {
  const table = button.closest("p").previousElementSibling.querySelector("table");
  const kind = { type: "text/csv" };
  button.addEventListener("click", () => save(new Blob([tableCsv(table)], kind), `${table.id}.csv`));
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
