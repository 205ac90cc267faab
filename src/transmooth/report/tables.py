"""Tables as CSV (every number, tidy), Markdown (for people) and JSON (for dvc metrics)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from transmooth import files
from transmooth.report.accuracy import read_log_row, read_row, tidy


def write_table(spec: Mapping[str, Any], results: Path, base: Path, published: Path, out: Path, metrics: Path) -> None:
    """Write `out`.csv, `out`.md and `metrics` for a table's spec.

    Rows come from the records and cards below `results`, those of other people's logs from paths that start at `base`.
    """
    lines = tidy([read_row(row, results) for row in spec["rows"]], spec["radii"])
    logs = tidy([read_log_row(row, base) for row in spec["logs"]], spec["radii"])
    files.write_text(out.with_suffix(".csv"), pd.concat([lines, logs]).to_csv(index=False, float_format="%.6g"))
    files.write_text(out.with_suffix(".md"), markdown(spec, lines, read_published(published, spec["paper"]), logs))
    files.write_text(metrics, json.dumps(summary(spec, lines), indent=1, ensure_ascii=False) + "\n")


def read_published(path: Path, table: str | None) -> pd.DataFrame:
    """The mixed-noise paper's own numbers of one of its tables."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame = frame[(frame["paper"] == "mixed-noise") & (frame["table"] == table)].copy()
    frame["key"] = [f"{block};{row}" if block else row for block, row in zip(frame["block"], frame["row"], strict=True)]
    return frame


def markdown(spec: Mapping[str, Any], lines: pd.DataFrame, published: pd.DataFrame, logs: pd.DataFrame) -> str:
    """Title, how it was certified, our rows (oracle over sigma), the same at each sigma, rows of logs, the paper's."""
    images, seeds = lines["images"].max(), lines["seeds"].max()
    head = [f"ε = {radius:g}" for radius in spec["radii"]]
    oracle = lines[lines["oracle"]]
    named = pd.concat([lines, logs])
    labels = {key: label for key, label in zip(named["published"], named["row"], strict=True) if key}
    parts = [
        f"# {spec['title']}",
        spec["caption"],
        methods(lines),
        "## Here: the largest over σ at each ε",
        f"Clean and certified accuracy in percent: (curve at ε = 0) value [95 % interval over {images} test images]"
        + (f", mean of {seeds} seeds ± their standard deviation" if seeds > 1 else ", one seed")
        + ". Picking σ after seeing the results is an oracle, not a certificate: the numbers per σ stand below.",
        markdown_table(["", "Clean", *head], [_our_cells(row) for row in our_rows(oracle, spec["radii"], sigma=False)]),
        "## Here: at each σ",
        markdown_table(
            ["", "σ", "≥ ACR" if lines["grid"].any() else "ACR", *head],
            [_our_cells(row) for row in our_rows(lines[~lines["oracle"]], spec["radii"], sigma=True)],
        ),
    ]
    if len(logs):
        counts = ", ".join(f"{row}: {n}" for row, n in logs.groupby("row", sort=False)["images"].first().items())
        parts += [
            "## Recomputed from logs of others: the largest over σ at each ε",
            f"Nothing here was trained or certified by this study. Test images of each: {counts}.",
            markdown_table(
                ["", "Clean", *head],
                [_our_cells(row) for row in our_rows(logs[logs["oracle"]], spec["radii"], sigma=False)],
            ),
        ]
    if len(published):
        where = ", ".join(sorted(set(published["dataset"])))
        parts += [
            f"## Quoted from the paper ({spec['paper']}, {where})",
            markdown_table(
                ["", "Clean", *head], [_paper_cells(row, spec["radii"]) for row in paper_rows(published, labels)]
            ),
        ]
    return "\n\n".join(parts) + "\n"


def methods(lines: pd.DataFrame) -> str:
    """A sentence for each method and its settings, and what it leaves out; it names the rows where they differ."""
    groups = list(lines.groupby(["method", "n0", "n", "alpha", "grid"], sort=False))
    sentences = []
    for (method, n0, n, alpha, grid), group in groups:
        whose = f" of {', '.join(dict.fromkeys(group['row']))}" if len(groups) > 1 else ""
        most = "≤" if method in ("sequential", "adaptive") else "="
        sentences.append(f"Method{whose}: {method}, n0 = {n0}, n {most} {n}, α = {alpha:g}.")
        if grid:
            radii = grid.replace(" ", ", ")
            sentences.append(f"Decided at ε = {radii} only: the ACR, and accuracies at any other ε, are lower bounds.")
    return " ".join(sentences)


@dataclass(frozen=True)
class Cell:
    """An accuracy in percent.

    natural: the same curve at ε = 0; spread: the standard deviation of the seeds; low, high: the 95 % interval; each
    empty where there is none.  best: no row has more.
    """

    value: str
    best: bool
    spread: str = ""
    natural: str = ""
    low: str = ""
    high: str = ""

    def __str__(self) -> str:
        spread = f" ± {self.spread}" if self.spread else ""
        if not self.low:  # a clean accuracy, bold with its spread
            return _bold(self.value + spread, self.best) if self.value else "–"
        return f"({self.natural}) {_bold(self.value, self.best)}{spread} [{self.low}, {self.high}]"


@dataclass(frozen=True)
class OurRow:
    """A row of ours, certified at one sigma, or, where that is None, the oracle over them."""

    block: str
    label: str
    published: str | None
    sigma: float | None
    acr: float
    clean: Cell
    certified: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """Tells it from the table's other rows."""
        return f"{self.block}: {self.label}" if self.block else self.label


def our_rows(lines: pd.DataFrame, radii: Sequence[float], *, sigma: bool) -> list[OurRow]:
    """The rows of `accuracy.tidy` lines, of each sigma or all of the oracle; certified: a cell for each radius."""
    best = lines.groupby("radius")["certified_accuracy"].max()
    best_clean = lines["clean_accuracy"].max()
    rows = []
    for (block, label, at), group in lines.groupby(["block", "row", "sigma" if sigma else "oracle"], sort=False):
        first, by_radius = group.iloc[0], group.set_index("radius")
        clean = Cell(
            _percent(first["clean_accuracy"]), first["clean_accuracy"] == best_clean, _percent(first["clean_sd"])
        )
        certified = [
            Cell(
                _percent(line["certified_accuracy"]),
                line["certified_accuracy"] == best[radius],
                _percent(line["seed_sd"]),
                _percent(line["natural_certified_accuracy"]),
                f"{100 * line['low']:.0f}",
                f"{100 * line['high']:.0f}",
            )
            for radius, line in ((radius, by_radius.loc[radius]) for radius in radii)
        ]
        published = first["published"] if isinstance(first["published"], str) else None
        rows.append(OurRow(block, label, published, at if sigma else None, first["acr"], clean, tuple(certified)))
    return rows


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.1f}"


def _our_cells(row: OurRow) -> list[str]:
    before = [str(row.clean)] if row.sigma is None else [f"{row.sigma:g}", f"{row.acr:.3f}"]
    return [row.name, *before, *map(str, row.certified)]


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's table; values in percent as it prints them, `certified` and `natural` by radius.

    name: ours, where a row of ours stands beside it (`key` is that row's `published`), else the paper's.
    """

    key: str
    name: str
    clean: str | None
    certified: Mapping[float, str]
    natural: Mapping[float, str]


def paper_rows(published: pd.DataFrame, labels: Mapping[str, str]) -> list[PaperRow]:
    """The rows of `read_published`, in its order.  labels: our name of a row by its key."""
    rows = []
    for key, group in published.groupby("key", sort=False):
        first = group.iloc[0]
        name = labels.get(str(key)) or first["method"] or _spoken(str(first["row"]))
        name = f"{first['block']}: {name}" if first["block"] else name
        clean = group.loc[group["metric"] == "clean_acc", "value"]
        by_radius = [
            {float(line.radius): line.value for line in group[group["metric"] == metric].itertuples()}
            for metric in ("certified_acc", "natural_certified_acc")
        ]
        rows.append(PaperRow(str(key), name, None if clean.empty else clean.iloc[0], *by_radius))
    return rows


def _spoken(key: str) -> str:
    """`pretrain=clean;finetune=sigma0.25;epochs=1` as "clean → σ 0.25, epochs 1"; another key as it is."""
    parts = dict(part.partition("=")[::2] for part in key.split(";"))
    last = next((name for name in ("finetune", "train") if name in parts), None)
    if "pretrain" not in parts or last is None:
        return key
    stages = [parts.pop("pretrain").replace("none", "scratch"), parts.pop(last)]
    others = [f"{name} {value}" for name, value in parts.items() if value != "default"]
    return ", ".join([" → ".join(stages), *others]).replace("sigma", "σ ")


def _paper_cells(row: PaperRow, radii: Sequence[float]) -> list[str]:
    brackets = [f"({row.natural[radius]}) " if radius in row.natural else "" for radius in radii]
    certified = [row.certified.get(radius, "–") for radius in radii]
    return [row.name, row.clean or "–", *map("".join, zip(brackets, certified, strict=True))]


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary(spec: Mapping[str, Any], lines: pd.DataFrame) -> dict[str, Any]:
    """Row -> clean accuracy, and certified accuracy (oracle) by radius; keys without dots, which DVC would split."""
    oracle, result = lines[lines["oracle"]], dict[str, Any]()
    for row, (_, group) in zip(spec["rows"], oracle.groupby(["block", "row"], sort=False), strict=True):
        run = row["runs"][0]
        result[f"{run['pretrain']}-{run['dataset']}-{run['finetune']}"] = {
            "clean_accuracy": round(float(group["clean_accuracy"].iloc[0]), 4)
        } | {
            f"certified_accuracy_{line.radius:g}".replace(".", "_"): round(float(line.certified_accuracy), 4)
            for line in group.itertuples()
        }
    return result
