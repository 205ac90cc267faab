"""What the runs of a study were made with and what they took, from their cards and records."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from transmooth.checkpoint.card import read_card
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.records.multi_sigma import one_row_each
from transmooth.report.accuracy import average_certified_radius, certified_radius, curves_of, stages_text
from transmooth.specs import RunSpec


@dataclass(frozen=True)
class Training:
    """A training: its folder below the results, and its card (see checkpoint/)."""

    path: str
    card: Mapping[str, Any]

    @property
    def run(self) -> RunSpec:
        """Which run it is the last stage of."""
        return RunSpec.of(self.card["spec"]["run"])

    @property
    def stage(self) -> str:
        """Which stage of its run it is."""
        return f"training, stage {len(self.run.stages)}"

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.run.seed

    @property
    def name(self) -> str:
        """Its run in words, without the seed."""
        return run_text(self.run)

    @property
    def clean(self) -> float | None:
        """Share of the test images that it classifies right, without noise; None of what gives no classes."""
        test = self.card["test"]
        return float(test["correct"] / test["images"]) if "correct" in test else None


@dataclass(frozen=True)
class Certification:
    """One network's records.

    frame: columns as of records/table.py; rows: one for each image and curve of it.
    acr: average certified radius by sigma, or EACH (see report/accuracy.py).
    stages: of a classifier of several sigmas, in words; its ACR is that of its first.  Else empty.
    """

    path: str
    frame: pd.DataFrame
    rows: pd.DataFrame
    made: Mapping[str, Any]
    acr: Mapping[float, float]
    stages: str = ""

    @property
    def run(self) -> RunSpec | None:
        """Which run of a study it is of; None for a network of its user."""
        run = self.made.get("spec", {}).get("run")
        return RunSpec.of(run) if run else None

    @property
    def transductive(self) -> bool:
        """Whether it is about regions around the test images."""
        return any(map(math.isnan, self.acr))

    @property
    def evaluations(self) -> int:
        """Forward passes spent; 0 where an imported log does not say."""
        return int(self.frame["evaluations"].sum())

    @property
    def sigmas(self) -> str:
        """The noise levels in words."""
        if self.transductive:
            return "a σ of each"
        return self.stages or "σ = " + ", ".join(f"{sigma:g}" for sigma in sorted(self.acr))

    @property
    def mean_acr(self) -> float:
        """Mean of the ACR over sigma."""
        return sum(self.acr.values()) / len(self.acr)


@dataclass(frozen=True)
class Attacked:
    """The records of one attack of a run.  frame: columns as of records/attacked.py."""

    path: str
    frame: pd.DataFrame
    made: Mapping[str, Any]

    @property
    def run(self) -> RunSpec:
        """Which run of a study it is of."""
        return RunSpec.of(self.made["spec"]["run"])

    @property
    def evaluations(self) -> int:
        """Forward passes spent, most of them with a backward one."""
        return int(self.frame["evaluations"].sum())


def run_text(run: RunSpec) -> str:
    """Return a run in words, without its seed."""
    return ": ".join(filter(None, (run.network, " → ".join(run.stages))))


def read_training(path: str, results: Path) -> Training:
    """Return the training in the folder `path` below `results`.  Raises CheckpointError where its card is damaged."""
    return Training(path, read_card(results / path))


def read_certification(path: str, results: Path) -> Certification:
    """Return the records `path` below `results`.  Raises RecordError where they are damaged."""
    frame = records.read(results / path).to_pandas()
    rows = one_row_each(frame, results / path)
    acr = {sigma: average_certified_radius(certified_radius(group)) for sigma, group in curves_of(rows)}
    made = records.metadata(results / path)
    return Certification(path, frame, rows, made, acr, stages_text(rows, made))


def read_attack(path: str, results: Path) -> Attacked:
    """Return the records `path` below `results`.  Raises RecordError where they are damaged."""
    return Attacked(path, attacked.read(results / path).to_pandas(), records.metadata(results / path))


def parameters(specs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return every key of the specs, nested ones with dots, and the distinct values that it has in them."""
    found: dict[str, dict[str, None]] = {}
    for spec in specs:
        for key, value in _flat(spec):
            found.setdefault(key, {})[json.dumps(value, ensure_ascii=False).strip('"')] = None
    return {key: " · ".join(values) for key, values in sorted(found.items())}


def _flat(value: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def versions(made: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return of each library the distinct versions that cards and records name; `commit` is that of the code."""
    found: dict[str, dict[str, None]] = {}
    for each in made:
        for name, version in {**each.get("versions", {}), "commit": each.get("commit") or "unknown"}.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(values) for name, values in sorted(found.items())}


def times(trainings: Iterable[Training]) -> tuple[datetime, datetime] | None:
    """Return when the first of these trainings started and the last one ended; None unless all cards have the time.

    A training that was resumed started earlier than this says: its seconds leave out the time in which it did not run.
    """
    spans = []
    for each in trainings:
        if "finished" not in each.card:  # it is from before cards had this
            return None
        finished = datetime.fromisoformat(each.card["finished"])
        spans.append((finished - timedelta(seconds=each.card["seconds"]), finished))
    return (min(started for started, _ in spans), max(ended for _, ended in spans)) if spans else None


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
