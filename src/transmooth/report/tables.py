"""Tables as CSV (every number, tidy), Markdown (for people) and JSON (for dvc metrics)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from transmooth import files
from transmooth.params.values import MultiSigma
from transmooth.records.table import LOOKUP
from transmooth.report.accuracy import of_several, read_row
from transmooth.report.cells import EMPTY, Cell, cells, shown
from transmooth.report.differences import KEYS, compared_rows, differences
from transmooth.report.measures import FORMATS, MEASURES
from transmooth.specs import ColumnSpec, RowSpec, TableSpec


def write_table(spec: TableSpec, results: Path, base: Path, published: Path, out: Path, metrics: Path) -> None:
    """Write `out`.csv, `out`.md and `metrics` for a table.

    Rows come from the records and cards below `results`, those of other people's logs from paths that start at `base`.
    """
    rows = [read_row(row, results, base) for row in spec.rows]
    lines = cells(rows, spec.columns)
    table, paired = lines, pd.DataFrame()
    if spec.against is not None:
        own = shown(lines, spec.columns)
        paired = differences(rows, spec.columns, spec.against)
        table = lines.join(own[KEYS].merge(paired, on=KEYS, how="left").set_axis(own.index).drop(columns=KEYS))
    files.write_text(out.with_suffix(".csv"), table.to_csv(index=False, float_format="%.6g"))
    quoted = read_published(published, spec.paper, spec.published)
    files.write_text(out.with_suffix(".md"), markdown(spec, lines, quoted, paired))
    files.write_text(metrics, json.dumps(summary(spec, lines), indent=1, ensure_ascii=False) + "\n")


def read_published(path: Path, paper: str | None, table: str | None) -> pd.DataFrame:
    """Return a paper's own numbers of one of its tables; none where a name is None."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame = frame[(frame["paper"] == paper) & (frame["table"] == table)].copy()
    frame["key"] = [f"{block};{row}" if block else row for block, row in zip(frame["block"], frame["row"], strict=True)]
    return frame


def markdown(spec: TableSpec, lines: pd.DataFrame, published: pd.DataFrame, paired: pd.DataFrame | None = None) -> str:
    """Return title, how it was certified, our rows, their differences, each sigma, rows of logs, the paper's.

    paired: of `differences`.
    """
    others = {(row.block, row.label) for row in spec.rows if row.files}
    recomputed = np.array([names in others for names in zip(lines["block"], lines["row"], strict=True)], bool)
    ours, logs = lines[~recomputed], lines[recomputed]
    own, theirs = shown(ours, spec.columns), shown(logs, spec.columns)
    curves = [column for column in spec.columns if MEASURES[column.measure].per_sigma]
    parts = [f"# {spec.title}", spec.caption, methods(ours)]
    if len(ours):
        parts += [
            f"## Here{_choice(own)}",
            _words(spec, own),
            markdown_table(["", *map(title, spec.columns)], [_cells(row) for row in our_rows(own, spec)]),
        ]
    if paired is not None and len(paired):
        parts += [f"## Here: differences from {spec.against}, image by image", paired_words(spec, paired)]
        compared = compared_columns(spec, paired)
        rows = [
            [f"{block}: {label}" if block else label, *map(str, line)]
            for block, label, line in compared_rows(paired, compared)
        ]
        parts += [markdown_table(["", *map(title, compared)], rows)]
    if own["oracle"].any():
        parts += ["## Here: at each σ", _by_sigma(spec, ours, curves)]
    if len(logs):
        counts = ", ".join(f"{row}: {n}" for row, n in logs.groupby("row", sort=False)["images"].max().items())
        parts += [
            f"## Recomputed from logs of others{_choice(theirs)}",
            f"Nothing here was trained or certified by this study. Test images of each: {counts}.",
            markdown_table(["", *map(title, spec.columns)], [_cells(row) for row in our_rows(theirs, spec)]),
        ]
    if len(published):
        parts += [
            f"## Quoted from the paper ({spec.published}, {', '.join(sorted(set(published['dataset'])))})",
            markdown_table(
                ["", *map(title, spec.columns)], [_paper_cells(row, spec) for row in paper_rows(published, spec)]
            ),
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _choice(lines: pd.DataFrame) -> str:
    return ": the largest over σ at each ε" if lines["oracle"].any() else ""


def _words(spec: TableSpec, lines: pd.DataFrame) -> str:
    """Return what the numbers of the first part are, in two sentences."""
    what = []
    for unit in FORMATS:
        measures = [MEASURES[column.measure] for column in spec.columns]
        if words := dict.fromkeys(info.words for info in measures if info.unit == unit):
            what.append(_listed(list(words)) + ("" if unit in ("radius", "count") else f" in {unit}"))
    images, seeds = sorted(lines.loc[lines["low"].notna(), "images"].unique()), lines["seeds"].max()
    form = ("(curve at ε = 0) " if spec.brackets else "") + "value"
    form += f" [95 % interval over {' or '.join(map(str, images))} test images]" if images else ""
    form += f", mean of {seeds} seeds ± their standard deviation" if seeds > 1 else ", one seed"
    text = f"{_listed(what)}: {form}."
    if lines["oracle"].any():
        text += " Picking σ after seeing the results is an oracle, not a certificate: the numbers per σ stand below."
    else:
        text += _sigmas(lines)
    return text[0].upper() + text[1:]


def compared_columns(spec: TableSpec, paired: pd.DataFrame) -> list[ColumnSpec]:
    """Return the columns of a table that have differences."""
    return [column for column in spec.columns if column.text in set(paired["column"])]


def paired_words(spec: TableSpec, paired: pd.DataFrame) -> str:
    """Return what differences are, in two sentences.  paired: of `differences`."""
    spread, agree = "", ""
    if paired["difference_sd"].notna().any():
        spread, agree = " ± their standard deviation over seeds", " and all seeds have its sign"
    units = {MEASURES[column.measure].unit for column in compared_columns(spec, paired)}
    points = " (in points)" if "percent" in units else ""
    return (
        f"Of the same test images and seeds{points}{spread} [95 % interval over images, Student's t]; these networks"
        f" given. Bold: it leaves out 0{agree}."
    )


def _sigmas(lines: pd.DataFrame) -> str:
    """Return where rows are certified that have one sigma each; nothing where there is no sigma."""
    rows = {f"σ = {sigma:g}": ", ".join(group["row"].unique()) for sigma, group in lines.groupby("sigma")}
    own = lines[_of_curves(lines) & lines["sigma"].isna() & (lines["method"] != LOOKUP)]
    own = own[~own["method"].map(of_several).astype(bool)]
    rows |= {"a σ of each image": ", ".join(own["row"].unique())} if len(own) else {}
    places = [f"{sigma} ({names})" if len(rows) > 1 else sigma for sigma, names in rows.items()]
    return f" Certified at {_listed(places)}." if places else ""


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _by_sigma(spec: TableSpec, lines: pd.DataFrame, columns: Sequence[ColumnSpec]) -> str:
    certified = [column for column in columns if column.measure != "acr"]
    acr = "≥ ACR" if (lines["grid"] != "").any() else "ACR"
    rows = [
        [row.name, f"{row.sigma:g}", f"{row.acr:.3f}", *map(str, row.cells)]
        for row in our_rows(lines[~lines["oracle"] & lines["sigma"].notna()], spec, certified, by_sigma=True)
    ]
    return markdown_table(["", "σ", acr, *map(title, certified)], rows)


def methods(lines: pd.DataFrame) -> str:
    """Return a sentence for each way of certifying and of attacking, naming the rows where they differ; and chance."""
    certified = lines[_of_curves(lines)]
    groups = list(certified.groupby(["method", "n0", "n", "alpha", "grid"], sort=False))
    lookups = certified[certified["method"] == LOOKUP]
    sentences = [f"Without noise: {', '.join(lookups['row'].unique())}."] if len(lookups) else []
    for (method, n0, n, alpha, grid), group in groups:
        whose = f" of {', '.join(dict.fromkeys(group['row']))}" if len(groups) > 1 else ""
        most = "≤" if method.startswith(("sequential", "adaptive", *get_args(MultiSigma))) else "="
        sentences.append(f"Method{whose}: {method}, n0 = {n0:.0f}, n {most} {n:.0f}, α = {alpha:g}.")
        if grid:
            radii = grid.replace(" ", ", ")
            sentences.append(f"Decided at ε = {radii} only: the ACR, and accuracies at any other ε, are lower bounds.")
    attacks = lines[(lines["measure"] == "robust") & lines["value"].notna()]
    for radius, at_radius in attacks.groupby("radius", sort=False):
        ways = list(at_radius.groupby("method", sort=False))
        for method, group in ways:
            whose = f" of {', '.join(dict.fromkeys(group['row']))}" if len(ways) > 1 else ""
            sentences.append(f"Attack{whose} at ε = {radius:g}: {method}.")
    return " ".join([*sentences, *_chance(lines)])


def _chance(lines: pd.DataFrame) -> list[str]:
    """Return a sentence on what one answer for all images has, by dataset where they differ; none if unknown."""
    known = lines.dropna(subset="chance").drop_duplicates("dataset")
    shares = known["chance"].map(lambda share: f"{100 * share:.1f} %")
    datasets = known["dataset"].fillna("").groupby(shares, sort=False).agg(list)
    if not len(datasets):
        return []
    words = [f"{share} ({', '.join(names)})" for share, names in datasets.items()]
    return [
        f"Chance, one answer for all images: {_listed(words if len(words) > 1 else list(datasets.index))} at every ε."
    ]


def _of_curves(lines: pd.DataFrame) -> "pd.Series[bool]":
    """Return which lines are of curves: of certified radii."""
    return lines["measure"].map(lambda name: MEASURES[name].of_curves).astype(bool)


def title(column: ColumnSpec) -> str:
    """Return the heading of a column."""
    return MEASURES[column.measure].title.format(radius=column.radius)


@dataclass(frozen=True)
class OurRow:
    """A row of ours, with a cell for each column.

    sigma, acr: of a row at one of its sigmas; None and NaN for one that stands for all of them.
    """

    block: str
    label: str
    key: tuple[str, str]
    sigma: float | None
    acr: float
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """Tells it from the table's other rows."""
        return f"{self.block}: {self.label}" if self.block else self.label


def our_rows(
    lines: pd.DataFrame, spec: TableSpec, columns: Sequence[ColumnSpec] | None = None, by_sigma: bool = False
) -> list[OurRow]:
    """Return the rows of `cells` lines: one for each label, or one for each of its sigmas.

    columns: those of the table where they are not given.
    """
    columns = spec.columns if columns is None else columns
    each = lines.assign(dataset=lines["dataset"].fillna(""))
    best = {key: _best(key[1], group["value"]) for key, group in each.groupby(["dataset", "column"], sort=False)}
    rows = []
    for names, group in each.groupby(["block", "row", *(["sigma"] if by_sigma else [])], sort=False):
        block, label, sigma = names if by_sigma else (*names, None)
        first, by_column = group.iloc[0], group.set_index("column")
        acr = by_column["value"].get("acr", float("nan")) if by_sigma else float("nan")
        made = [
            _cell(by_column.loc[c.text], best[first["dataset"], c.text], spec) if c.text in by_column.index else EMPTY
            for c in columns
        ]
        key = str(first["dataset"]), "" if pd.isna(first["published"]) else str(first["published"])
        rows.append(OurRow(block, label, key, sigma, acr, tuple(made)))
    return rows


def _best(column: str, values: "pd.Series[float]") -> float:
    """Return the best value of a column; NaN, which no value is, where rows are all alike or none reaches anything."""
    info = MEASURES[column.partition("@")[0]]  # type: ignore[index]
    alike = values.nunique() == 1 and values.count() > 1
    if alike or (info.better == "larger" and values.max() <= 0):
        return float("nan")
    return float(values.max() if info.better == "larger" else values.min())


def _cell(line: "pd.Series[Any]", best: float, spec: TableSpec) -> Cell:
    info = MEASURES[line["measure"]]
    return Cell(
        info.text(line["value"]),
        line["value"] == best,
        info.text(line["seed_sd"]),
        info.text(line["natural"]) if spec.brackets else "",
        "" if pd.isna(line["low"]) else f"{100 * line['low']:.0f}",
        "" if pd.isna(line["high"]) else f"{100 * line['high']:.0f}",
    )


def _cells(row: OurRow) -> list[str]:
    return [row.name, *map(str, row.cells)]


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's table; for each column its value as printed and the one in brackets, None where it has none.

    name: ours, where a row of ours stands beside it, else the paper's.  key: its dataset and its row.
    """

    key: tuple[str, str]
    name: str
    cells: tuple[str | None, ...]
    natural: tuple[str | None, ...]


def paper_rows(published: pd.DataFrame, spec: TableSpec) -> list[PaperRow]:
    """Return the rows of `read_published`, in its order."""
    labels = {paper_key(row, published): row.label for row in spec.rows if row.published}
    several = published["dataset"].nunique() > 1
    each = published.drop_duplicates(["dataset", "key"])
    alike = set(each[each.duplicated(["dataset", "block", "method"], keep=False)]["key"])
    rows = []
    for (dataset, key), group in published.groupby(["dataset", "key"], sort=False):
        first = group.iloc[0]
        own = labels.get((dataset, key))
        name = own or first["method"] or _spoken(str(first["row"]))
        if own is None and first["method"] and key in alike:
            name = f"{name}, {_particular(str(first['row']))}"
        blocks = dict.fromkeys([dataset] * several + [first["block"]] * bool(first["block"]))
        cells = [_quoted(group, _published_names(column), column.radius) for column in spec.columns]
        natural = [
            _quoted(group, [f"natural_{MEASURES[column.measure].published}"], column.radius) if spec.brackets else None
            for column in spec.columns
        ]
        rows.append(PaperRow((dataset, key), ": ".join([*blocks, name]), tuple(cells), tuple(natural)))
    return rows


def paper_key(row: RowSpec | OurRow, published: pd.DataFrame) -> tuple[str, str]:
    """Return the dataset and row of the paper's table that a row of ours stands beside.

    A table of one dataset stands beside ours whatever that is called; of several, the one of the same name.
    """
    dataset, key = (row.dataset or "", row.published or "") if isinstance(row, RowSpec) else row.key
    datasets = set(published["dataset"])
    return (datasets.pop() if len(datasets) == 1 else dataset), key


def _published_names(column: ColumnSpec) -> list[str]:
    info = MEASURES[column.measure]
    return [] if info.published is None else [info.published, *info.also_published]


def _quoted(group: pd.DataFrame, metrics: Sequence[str], radius: float | None) -> str | None:
    lines = group[group["metric"].isin(metrics)]
    if radius is not None:  # a share that is right at all is one at radius 0
        lines = lines[pd.to_numeric(lines["radius"]).fillna(0) == radius]
    return None if lines.empty else str(lines["value"].iloc[0])


def _spoken(key: str) -> str:
    """`pretrain=clean;finetune=sigma0.25;epochs=1` as "clean → σ 0.25, epochs 1"; another key as it is."""
    parts = dict(part.partition("=")[::2] for part in key.split(";"))
    last = next((name for name in ("finetune", "train") if name in parts), None)
    if "pretrain" not in parts or last is None:
        return key
    stages = [parts.pop("pretrain").replace("none", "scratch"), parts.pop(last)]
    others = [f"{name} {value}" for name, value in parts.items() if value != "default"]
    return ", ".join([" → ".join(stages), *others]).replace("sigma", "σ ")


def _particular(key: str) -> str:
    """`method=ft-cadis;sigma=0.25` as "σ 0.25": what a method's name does not say."""
    parts = (part.partition("=")[::2] for part in key.split(";"))
    return ", ".join(f"{name} {value}" for name, value in parts if name != "method").replace("sigma", "σ")


def _paper_cells(row: PaperRow, spec: TableSpec) -> list[str]:
    pairs = zip(row.natural, row.cells, strict=True)
    return [row.name, *(f"({natural}) {value}" if natural and value else value or "–" for natural, value in pairs)]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of cells that are Markdown already; a bar or line's end in one ends no column or row."""

    def within(cell: str) -> str:
        return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", re.sub(r"\s*\n\s*", " ", cell))

    lines = [[within(cell) for cell in cells] for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary(spec: TableSpec, lines: pd.DataFrame) -> dict[str, Any]:
    """Return row -> column -> value, the oracle's where there is one; keys without dots, which DVC would split.

    An unknown value is left out, for JSON has no NaN.  A row is named by its first run, and by its number
    where an earlier row has that too.
    """
    found, own = dict[str, Any](), shown(lines, spec.columns)
    for number, row in enumerate(spec.rows, 1):
        if not row.runs:
            continue
        run = row.runs[0][0].run
        name = "/".join([run.network, *run.stages])
        group = own[(own["block"] == row.block) & (own["row"] == row.label)]
        found[f"{name}/{number}" if name in found else name] = {
            line.column.replace("@", "_").replace(".", "_"): round(float(line.value), 4)
            for line in group.dropna(subset="value").itertuples()
        }
    return found
