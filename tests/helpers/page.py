"""A small study that is written by hand, its page, and a parser of pages."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tests.conftest import ROOT
from tests.helpers.records import row
from tests.helpers.report import evaluated, log_files, row_spec, run_spec, table_spec, write_clean, write_records
from transmooth.data.loader import open_split
from transmooth.records import table as records
from transmooth.report.page.study import write_report
from transmooth.report.shift import write_shift
from transmooth.report.tables import write_table
from transmooth.report.training import write_training
from transmooth.specs import FigureSpec, PageSpec, PanelSpec, RunSpec, ShiftReportSpec

LABELS = {"mixed": "mixed → <i>clean</i> & more", "scratch": "scratch"}
UPSTREAM = run_spec("layer_norm/mixed@upstream", dataset="characters")
RUNS = {
    "mixed": run_spec("layer_norm/mixed@upstream/clean@downstream"),
    "scratch": run_spec("layer_norm/clean@downstream"),
}
SIGMAS, IMAGES = (0.25, 0.5), 20
PUBLISHED = ROOT / "params" / "published.csv"


def rows_of(strength: float, digits: Path) -> list[dict[str, Any]]:
    """Records of a network that is wrong on every fifth image, abstains on the second, and certifies by position."""
    labels = open_split(digits, "test").labels
    made = []
    for sigma in SIGMAS:
        for index in range(IMAGES):
            label = int(labels[index])
            prediction = -1 if index == 1 else (label + 1) % 10 if index % 5 == 0 else label
            radius = 0.0 if prediction < 0 else strength * sigma * index / IMAGES
            other = {"label": label, "prediction": prediction, "selected": label, "radius": radius}
            made.append(row(index, sigma, picture=None, **other))
    return made


def write_training_of(results: Path, run: RunSpec, correct: int, lr: float | None = 0.003) -> Path:
    """The folder of a run with its card and two epochs of metrics; lr: None where it trained nothing."""
    spec = {"run": run.dump(), "sigmas": [0.0], "schedule": {"epochs": 2}}
    card = {"network": {"name": "resnet18"}, "lr": lr, "validation_score": 0.9, "weights_sha256": "ab" * 32}
    card |= {"commit": "c" * 40, "seconds": 61.0, "device": "cpu", "finished": "2026-11-21T12:00:00+00:00"}
    folder = write_clean(results, run, correct, 300, spec=spec, versions={"torch": "2.15.0"}, **card)
    lines = [{"lr": lr, "epoch": epoch, "validation_score": epoch * correct / 600} for epoch in (1, 2)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines if lr else [])))
    return folder


def write_curves(results: Path, folders: list[Path]) -> None:
    """Write the training curves; the rule runs in the results folder, where its runs are relative paths."""
    path = results / "metrics" / "training.csv"
    write_training(folders, path)
    curves = pd.read_csv(path)
    curves.columns = [name.removeprefix(f"{results}/") for name in curves.columns]
    curves.to_csv(path, index=False)


def write_study(results: Path, digits: Path) -> PageSpec:
    """Write two networks with a table, a figure, shifts and training curves, and their page; return its spec."""
    runs = [UPSTREAM, *RUNS.values()]
    folders = [write_training_of(results, run, 270 - at) for at, run in enumerate(runs)]
    write_curves(results, folders)
    certified = {name: evaluated(run, "certify") for name, run in RUNS.items()}
    made = {"spec": {"method": "cohen"}, "versions": {"torch": "2.15.0"}, "commit": "c" * 40}
    for strength, each in zip((3.0, 1.0), certified.values(), strict=True):
        write_records(results, each, rows_of(strength, digits), **made)
    published = {"mixed": "method=ours"}
    rows = [row_spec(LABELS[name], [each], published=published.get(name)) for name, each in certified.items()]
    table = table_spec(
        ["clean", "certified@0.25", "certified@0.5"],
        [*rows, log_files(results)],
        **{"name": "table3", "title": "Comparison", "caption": "Two networks.", "brackets": "natural"},
        **{"paper": "mixed-noise", "published": "Table 3", "against": LABELS["scratch"]},
    )
    write_table(table, results, results, PUBLISHED, results / "tables" / "table3", results / "metrics" / "table3.json")
    shifts = []
    for label in ("batch_norm", "layer_norm"):
        moved = evaluated(run_spec(f"{label}/mixed@upstream/clean@downstream"), "shift", kind="shift")
        lines = [
            {"cause": cause, "sigma": sigma, "layer": f"norm{depth}", "depth": depth, "shift": 0.1 * depth}
            for cause in ("statistics", "finetuning")
            for sigma in (0.0, 0.25)
            for depth in (1, 2, 3)
        ]
        measured = records.with_metadata(pa.Table.from_pylist(lines), {"spec": {"images": 7}})
        records.seal(measured, results / moved.records[0].path)
        shifts.append(row_spec(label, [moved]))
    shift = ShiftReportSpec(name="moved", title="Moved", caption="Moves.", rows=tuple(shifts))
    write_shift(shift, results, results / "tables" / "moved", results / "figures" / "moved")
    figure = FigureSpec(
        name="figure2", title="Curves", caption="One network.", panels=(PanelSpec(title="A", rows=tuple(rows[:1])),)
    )
    spec = PageSpec(
        study="small",
        tables=(table,),
        figures=(figure,),
        shifts=(shift,),
        trainings=tuple(f"train/{run.path}" for run in runs),
        records=tuple(path for each in certified.values() for path in each.records),
    )
    write_report(spec, results, results, PUBLISHED, {"digits": digits}, results / "report.html")
    return spec


class Tags(HTMLParser):
    """Every start tag with its attributes and the text of each element that has some, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be of this tag."""
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        """Keep a text with its element."""
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def attributes(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each element of a tag."""
        return [found for name, found in self.tags if name == tag]

    def text_of(self, tag: str) -> list[str]:
        """The texts that stand in elements of a tag."""
        return [text for name, text in self.texts if name == tag]


def read_page(path: Path) -> Tags:
    """A page, parsed; every element in it is closed."""
    tags = Tags(path.read_text(encoding="utf-8"))
    assert tags.open == []
    return tags


def charts_of(parsed: Tags) -> dict[str, Any]:
    """Chart id → Vega-Lite spec."""
    specs = [json.loads(text) for text in parsed.text_of("script") if text.startswith("{")]
    names = [found["id"] for found in parsed.attributes("figure") if found.get("class") == "chart"]
    return dict(zip(names, specs, strict=True))
