"""The field's certification logs: read, write, and turn into records.

The format is that of Cohen et al. (2019), one line per image: `idx label predict radius correct time`,
tab-separated, time as H:MM:SS.ffffff, radius printed to a few digits, predict −1 for abstained.
"""

import csv
import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from transmooth import files
from transmooth.records import table as records
from transmooth.records.audit import audit
from transmooth.records.multi_sigma import one_row_each
from transmooth.smoothing.bounds import Floats

COLUMNS = ["index", "label", "prediction", "radius", "correct", "seconds"]
# What other repositories call them.
NAMES = {"idx": "index", "id": "index", "predict": "prediction", "pred": "prediction", "time": "seconds"}
FLAGS = {"true": 1.0, "false": 0.0}


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a log: columns index, label, prediction, radius, correct, seconds, then any others, as text.

    Columns are found by name, in any order, between tabs, commas or spaces; byte-order mark and CRLF are
    fine. `correct` is always recomputed as prediction = label, since some logs hold a running count or
    accuracy there. A last line that was cut off is dropped, and so is one without a newline that ends in a number
    which could have lost digits (only the time may). Each such liberty is told in `.attrs["notes"]`.
    Without a time column, seconds is NaN. Raises ValueError for anything that would make a number derived
    from the log doubtful.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a log is text in UTF-8, got the byte {error.object[error.start]:#04x}") from None
    # "1 day, 0:00:14" would fall apart at its comma and space.
    lines = [re.sub(r"(?<!\d)(\d+) days?,? *", r"\1d", line) for line in text.splitlines()]
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(rows) < 2:
        raise ValueError(
            f"{path}: a log has a header and at least one image, got {'a header only' if rows else 'nothing'}"
        )
    separator = next((s for s in "\t," if s in rows[0][1]), None)
    try:
        names = [NAMES.get(name.lower(), name.lower()) for name in _split(rows[0][1], separator)]
    except ValueError as error:
        raise ValueError(f"{path}, line {rows[0][0]}: {error}") from None
    missing = [name for name in ("index", "label", "prediction", "radius") if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: the header must name idx, label, predict and radius, each once, got {rows[0][1][:200]!r}"
        )

    # Such a line still parses when it lost digits: a radius 1e-05 as 1, a class 12 as 1.
    unsure = len(lines) if not text.endswith("\n") and names[-1] in ("index", "label", "prediction", "radius") else None
    notes, table = [], []
    for number, line in rows[1:]:
        try:
            if number == unsure:
                raise ValueError(f"no newline after its {names[-1]}, which may be cut off")
            table.append(_row(names, _split(line, separator)))
        except ValueError as error:
            if number != rows[-1][0]:
                raise ValueError(f"{path}, line {number}: {error}") from None
            notes.append(f"dropped the last line ({error}): {line!r}")
    if not table:
        raise ValueError(f"{path}: a log has at least one image; its only line is cut off: {rows[-1][1]!r}")
    frame = pd.DataFrame(table)
    frame = frame.astype({"index": "int64", "label": "int64", "prediction": "int64"})
    correct = is_right(frame)
    if "correct" in frame:
        notes += correct_column_notes(correct.to_numpy(), frame["correct"].to_numpy(np.float64))
    frame["correct"] = correct
    if "seconds" not in frame:
        frame["seconds"] = math.nan
        notes.append("no time column: seconds unknown")
    _check(frame, str(path))
    frame = frame[COLUMNS + [name for name in names if name not in COLUMNS]]
    frame.attrs["notes"] = notes
    return frame


def read_any(path: str | os.PathLike[str], sigma: float | None = None) -> pd.DataFrame:
    """Read a log, or Parquet records as if they were one, whatever the file's name is.

    sigma: which records to take, needed if the file has those of several, and not for one classifier of several, which
    has one row an image (see `records.multi_sigma`). Records keep all their columns, which tell
    alpha, and `.attrs["grid"]` is as of `grid_of`. Raises ValueError as `read` does, and for a sigma that the file does
    not have or a label < 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return read(path)
    frame: pd.DataFrame = one_row_each(records.read(path).to_pandas(), path)
    if not len(frame):
        raise ValueError(f"{path}: there are no records in it")
    if "stages" in frame.attrs:
        sigma = None
    there = sorted(set(frame["sigma"]))
    if sigma is None and len(there) > 1:
        raise ValueError(f"{path}: holds records of several sigmas; choose one: {', '.join(map(str, there))}")
    if sigma is not None and sigma not in there:
        raise ValueError(f"{path}: holds no records of sigma = {sigma}; there are: {', '.join(map(str, there))}")
    frame = frame[frame["sigma"] == (there[0] if sigma is None else sigma)].reset_index(drop=True)
    if frame["label"].isna().any():
        raise ValueError(f"{path}: some labels are unknown")
    _check(frame, str(path))
    _check_labels(frame, str(path))
    frame["correct"] = is_right(frame)
    made = records.metadata(path)
    frame.attrs |= {"notes": export_notes(frame, made), "grid": grid_of(frame, made)}
    return frame


def grid_of(frame: pd.DataFrame, made: Mapping[str, Any]) -> list[float] | None:
    """The radii that records were decided at; None: at every radius, as Cohen's; []: at a few that nothing tells.

    frame: the records. made: what their file says it was made with (`table.metadata`).
    """
    grid: list[float] | None = made.get("spec", {}).get("radii")
    return [] if grid is None and (frame["method"] == "sequential").any() else grid


def export_notes(frame: pd.DataFrame, made: Mapping[str, Any]) -> list[str]:
    """What the methods that save samples leave out, and a log of these records cannot say.

    frame, made: as of `grid_of`.
    """
    notes = []
    if (grid := grid_of(frame, made)) is not None:
        radii = f"the radii {', '.join(map(str, grid))}" if grid else "a few radii, which the file does not tell,"
        notes.append(f"decided at {radii} only: at others, and for the ACR, these are lower bounds")
    # Not those that the plan could not have certified anyway: they chose the right class.
    if stopped := int(((frame["n"] == 0) & (frame["selected"] != frame["label"])).sum()):
        notes.append(
            f"{stopped} images were given up after the selection, which chose a wrong class; they count as abstentions"
        )
    if others := sorted(set(frame["method"]) - {"cohen"}):
        notes.append(f"certified by {', '.join(others)}, not by Cohen's procedure")
    return notes


def to_records(frame: pd.DataFrame, sigma: float, alpha: float, n: int, source: str) -> pa.Table:
    """A log of Cohen's procedure as records; what it does not tell (counts, seed, dtype, model) stays empty.

    Radii stay as printed. Raises ValueError where they are not those of (sigma, alpha, n) by Clopper–Pearson, and for a
    label < 0.
    """
    _check_labels(frame, source)
    if (frame["radius"] > 0).any():
        found = audit(frame["radius"], sigma, [alpha], [n]).iloc[0]
        if found["verdict"] in ("exceeded", "unattainable"):
            raise ValueError(
                f"{source}: {found['above'] + found['unattainable']} radii are not those of sigma = {sigma}, alpha = "
                f"{alpha}, n = {n} (at most {found['saturated']:.4f}); `transmooth audit` tells which they could be"
            )
    rows = [
        {"index": index, "label": label, "prediction": prediction, "radius": certified}
        | ({} if prediction == -1 else {"selected": prediction})
        | ({} if math.isnan(seconds) else {"seconds": seconds})
        | {"method": "cohen", "sigma": sigma, "alpha": alpha, "n": n}
        for index, label, prediction, certified, seconds in zip(
            *(frame[name].tolist() for name in ("index", "label", "prediction", "radius", "seconds")), strict=True
        )
    ]
    return records.from_rows(rows, {"imported": source, "notes": frame.attrs.get("notes", [])})


def _split(line: str, separator: str | None) -> list[str]:
    try:
        fields = line.split() if separator is None else next(csv.reader([line], delimiter=separator))
    except csv.Error as error:  # which is no ValueError
        raise ValueError(f"not fields between {separator!r}: {error}") from None
    return [field.strip() for field in fields]


def _row(names: list[str], fields: list[str]) -> dict[str, Any]:
    while len(fields) > len(names) and not fields[-1]:  # a separator too many at the end
        fields = fields[:-1]
    if len(fields) != len(names):
        raise ValueError(f"{len(fields)} fields where the header names {len(names)}")
    parse: dict[str, Callable[[str], float]] = {
        "index": _whole,
        "label": _whole,
        "prediction": _whole,
        "radius": float,
        "correct": _flag,
        "seconds": _seconds,
    }
    return {name: parse[name](field) if name in parse else field for name, field in zip(names, fields, strict=True)}


def _whole(field: str) -> int:
    if float(field) % 1:  # also raises for what is no number; "3.0" is fine
        raise ValueError(f"{field!r} is not a whole number")
    if not -(2**63) <= float(field) < 2**63:
        raise ValueError(f"{field[:30]!r} is too large a whole number")
    return int(float(field))


def _flag(field: str) -> float:
    return FLAGS[field.lower()] if field.lower() in FLAGS else float(field)


def _seconds(field: str) -> float:
    """ "0:00:14.105382", "1d0:00:14.1" (days, joined above) or plain seconds."""
    match = re.fullmatch(r"(?:(\d+)d)?(\d+):(\d\d):(\d\d(?:\.\d+)?)", field)
    if not match:
        return float(field)
    days, hours, minutes, seconds = match.groups(default="0")
    return timedelta(int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()


def correct_column_notes(correct: NDArray[np.bool_], stated: Floats) -> list[str]:
    """What the file's `correct` column is, where it is not prediction = label."""
    if (stated == correct).all():
        return []
    count = correct.cumsum()
    share = count / np.arange(1, len(count) + 1)
    # Steps only, so that a count that goes on from an earlier shard is recognised too.
    if len(stated) > 1 and (np.diff(stated) == correct[1:]).all():
        return ["the correct column is a running count; recomputed as prediction = label"]
    if any((np.abs(stated - scale * share) <= 0.0051 * scale).all() for scale in (1, 100)):
        return ["the correct column is a running accuracy; recomputed as prediction = label"]
    wrong = int((stated != correct).sum())
    return [f"the correct column disagrees with prediction = label in {wrong} of {len(stated)} rows; recomputed"]


def _check(frame: pd.DataFrame, where: str) -> None:
    missing = [name for name in COLUMNS if name not in frame and name != "correct"]
    if missing:
        raise ValueError(f"{where}: the columns {missing} are missing, got {list(frame.columns)}")
    index, certified = frame["index"], frame["radius"]
    if index.duplicated().any():
        raise ValueError(
            f"{where}: each image must occur once, got twice: {sorted(set(index[index.duplicated()]))[:10]}"
        )
    bad = ~(np.isfinite(certified) & (certified >= 0))
    if bad.any():
        raise ValueError(
            f"{where}: radii must be finite and ≥ 0, got {certified[bad].tolist()[:10]} "
            f"for images {index[bad].tolist()[:10]}"
        )
    bad = frame["prediction"] < -1
    if bad.any():
        raise ValueError(
            f"{where}: predict must be a class ≥ 0, or −1 for abstained, got {frame['prediction'][bad].tolist()[:10]} "
            f"for images {index[bad].tolist()[:10]}"
        )
    bad = (frame["prediction"] == -1) & (certified > 0)
    if bad.any():
        raise ValueError(
            f"{where}: an abstained image (predict −1) has radius 0, got more for {index[bad].tolist()[:10]}"
        )


def _check_labels(frame: pd.DataFrame, where: str) -> None:
    """Records have the label of a class, or none; in a log, whose `_check` is laxer, a label < 0 is never right."""
    bad = frame["label"] < 0
    if bad.any():
        raise ValueError(
            f"{where}: labels must be ≥ 0, got {frame['label'][bad].tolist()[:10]} "
            f"for images {frame['index'][bad].tolist()[:10]}"
        )


def write(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a log that any tool of the field reads.

    Radii are rounded DOWN to six decimals, never up: a printed radius must not exceed the certified one. What
    was read with at most six decimals is written unchanged. The file appears whole or not at all. Raises
    ValueError as `read` does.
    """
    _check(frame, str(path))
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    columns = [frame[name].tolist() for name in ("index", "label", "prediction", "radius", "seconds")]
    for index, label, prediction, certified, seconds, right in zip(*columns, is_right(frame).tolist(), strict=True):
        # From the shortest digits that give the double: floor(0.29 · 10⁶) in doubles would lose 10⁻⁶.
        shown = Decimal(repr(float(certified))).quantize(Decimal("0.000001"), ROUND_FLOOR, Context(prec=400))
        time = "nan" if math.isnan(seconds) else str(timedelta(seconds=seconds))
        lines.append(f"{index}\t{label}\t{prediction}\t{shown}\t{int(right)}\t{time}")
    files.write_text(Path(path), "\n".join(lines) + "\n")


def is_right(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Where the prediction is the label, and a class: an abstention (−1) is wrong even where the label is −1 too."""
    return (frame["prediction"] == frame["label"]) & (frame["prediction"] >= 0)
