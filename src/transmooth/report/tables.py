"""Tables as CSV (every number, tidy), Markdown (for people) and JSON (for dvc metrics)."""

import json
from collections.abc import Mapping, Sequence
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
        _method(lines),
        "## Here: the largest over σ at each ε",
        f"Clean and certified accuracy in percent: (curve at ε = 0) value [95 % interval over {images} test images]"
        + (f", mean of {seeds} seeds ± their standard deviation" if seeds > 1 else ", one seed")
        + ". Picking σ after seeing the results is an oracle, not a certificate: the numbers per σ stand below.",
        markdown_table(["", "Clean", *head], _our_rows(oracle, spec["radii"], sigma=False)),
        "## Here: at each σ",
        markdown_table(
            ["", "σ", "≥ ACR" if lines["grid"].any() else "ACR", *head],
            _our_rows(lines[~lines["oracle"]], spec["radii"], sigma=True),
        ),
    ]
    if len(logs):
        counts = ", ".join(f"{row}: {n}" for row, n in logs.groupby("row", sort=False)["images"].first().items())
        parts += [
            "## Recomputed from logs of others: the largest over σ at each ε",
            f"Nothing here was trained or certified by this study. Test images of each: {counts}.",
            markdown_table(["", "Clean", *head], _our_rows(logs[logs["oracle"]], spec["radii"], sigma=False)),
        ]
    if len(published):
        where = ", ".join(sorted(set(published["dataset"])))
        parts += [
            f"## Quoted from the paper ({spec['paper']}, {where})",
            markdown_table(["", "Clean", *head], _paper_rows(published, labels, spec["radii"])),
        ]
    return "\n\n".join(parts) + "\n"


def _method(lines: pd.DataFrame) -> str:
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


def _our_rows(lines: pd.DataFrame, radii: Sequence[float], *, sigma: bool) -> list[list[str]]:
    best = lines.groupby("radius")["certified_accuracy"].max()
    best_clean = lines["clean_accuracy"].max()
    rows = []
    for (block, label, at), group in lines.groupby(["block", "row", "sigma" if sigma else "oracle"], sort=False):
        first, cells = group.iloc[0], group.set_index("radius")
        name = f"{block}: {label}" if block else str(label)
        if sigma:
            rows.append([name, f"{at:g}", f"{first['acr']:.3f}"])
        else:
            known = not pd.isna(first["clean_accuracy"])
            clean = f"{100 * first['clean_accuracy']:.1f}{_spread(first['clean_sd'])}" if known else "–"
            rows.append([name, _bold(clean, first["clean_accuracy"] == best_clean)])
        for radius in radii:
            cell = cells.loc[radius]
            value = _bold(f"{100 * cell['certified_accuracy']:.1f}", cell["certified_accuracy"] == best[radius])
            bracket = f"({100 * cell['natural_certified_accuracy']:.1f})"
            interval = f"[{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]"
            rows[-1].append(f"{bracket} {value}{_spread(cell['seed_sd'])} {interval}")
    return rows


def _paper_rows(published: pd.DataFrame, labels: Mapping[str, str], radii: Sequence[float]) -> list[list[str]]:
    rows = []
    for key, group in published.groupby("key", sort=False):
        value = {(line.metric, line.radius): line.value for line in group.itertuples()}
        first = group.iloc[0]
        name = labels.get(str(key)) or first["method"] or str(first["row"])
        name = f"{first['block']}: {name}" if first["block"] else name
        cells = []
        for radius in radii:
            certified = value.get(("certified_acc", f"{radius:g}")) or value.get(
                ("certified_acc", f"{radius:.1f}"), "–"
            )
            bracket = value.get(("natural_certified_acc", f"{radius:g}")) or value.get(
                ("natural_certified_acc", f"{radius:.1f}")
            )
            cells.append(f"({bracket}) {certified}" if bracket else certified)
        rows.append([name, value.get(("clean_acc", ""), "–"), *cells])
    return rows


def _spread(deviation: float) -> str:
    return "" if pd.isna(deviation) else f" ± {100 * deviation:.1f}"


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
