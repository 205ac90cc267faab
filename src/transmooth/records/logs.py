"""The field's certification logs: read, write, and turn into records.

The format is that of Cohen et al. (2019), one line per image: `idx label predict radius correct time`,
tab-separated, time as H:MM:SS.ffffff, radius printed to a few digits, predict −1 for abstained.
"""

import codecs
import csv
import gzip
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from transmooth.smoothing.bounds import Floats, check_sigma

COLUMNS = ["index", "label", "prediction", "radius", "correct", "seconds"]
# What other repositories call them.
NAMES = {
    **dict.fromkeys(("idx", "id", "image", "image_id", "image_index", "sample", "sample_id"), "index"),
    **dict.fromkeys(("target", "y", "true", "truth", "gt", "true_label", "y_true", "labels", "class"), "label"),
    **dict.fromkeys(("predict", "predicted", "pred", "predictions", "y_pred", "predicted_label"), "prediction"),
    **dict.fromkeys(("certified_radius", "cert_radius", "rad"), "radius"),
    **dict.fromkeys(("time", "elapsed"), "seconds"),
}
USUAL = {"index": "idx", "label": "label", "prediction": "predict", "radius": "radius"}
ABSTAINED = frozenset(("abstain", "abstained"))
MISSING = frozenset(("", "nan", "none", "-"))
FLAGS = {"true": 1.0, "false": 0.0}
# No radius of images in [0, 1] is as large: 40 times the noise is more than any count of samples certifies.
LARGEST = 1e4
PRINTED = re.compile(r"(?:tensor|array|np\.\w+)\(\[?\s*([-+\w.]+?)\.?\s*\]?\s*(?:,.*)?\)|\[\s*([-+\w.]+)\s*\]")


def read(path: str | os.PathLike[str], *, radius: bool = True, labels: Mapping[int, int] | None = None) -> pd.DataFrame:
    """Read a log: columns index, label, prediction, radius, correct, seconds, then any others, as text.

    Columns are found by name, in any order, between tabs, semicolons, commas or spaces; byte-order mark, CRLF and gzip
    are fine. `correct` is always recomputed as prediction = label, since some logs hold a running count or accuracy
    there. Where the meaning is certain, each with a note in `.attrs["notes"]`: lines that begin with #, a header that
    is there again, an image that is there twice in equal rows, a line that was cut off whose image is there anew, a
    last line that was cut off (or ends, without a newline, in a number which could have lost digits: only the time
    may), numbers with a decimal comma, numbers as a tensor prints them. Without a time column, seconds is NaN.

    radius: whether there must be one, which a log of PREDICT has not; it is NaN then.  labels: by index, for a log that
    has none.  Raises ValueError, naming the line, for anything that would make a number derived from the log doubtful.
    """
    text = _text(Path(path))
    # "1 day, 0:00:14" would fall apart at its comma and space.
    lines = [re.sub(r"(?<!\d)(\d+) days?,? *", r"\1d", line) for line in text.splitlines()]
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    notes = _Notes()
    if comments := [each for each in rows if each[1].lstrip().startswith("#")]:
        # A header may stand in a comment, as NumPy writes it.
        header = next((each for each in comments if each[0] == rows[0][0] and _is_header(each[1].lstrip("# \t"))), None)
        rows = [each for each in rows if each not in comments]
        if header and not (rows and _is_header(rows[0][1])):
            rows.insert(0, (header[0], header[1].lstrip("# \t")))
        notes.add(
            len(comments) - (header is not None and rows[0][0] == header[0]), "lines that begin with # were skipped"
        )
    if not rows:
        raise ValueError(f"{path}: a log has a header and at least one image, got nothing")
    first = next((at for at, each in enumerate(rows) if _is_header(each[1])), 0)
    separator = _separator(rows[first][1])
    columns = rows[first][1].count(separator or " ")
    if not any(line.count(separator or " ") == columns for _, line in rows[:first]):  # which would be an image's
        notes.add(first, "lines before the header were skipped")
        rows = rows[first:]
    separator = _separator(rows[0][1])
    names = _header(path, *rows[0], separator, [name for name in USUAL if name != "radius" or radius], labels)
    again = [number for number, line in rows[1:] if line.strip() == rows[0][1].strip()]
    notes.add(len(again), "more headers were skipped: files that were joined")
    body = [(number, line) for number, line in rows[1:] if number not in again]
    if not body:
        raise ValueError(f"{path}: a log has a header and at least one image, got a header only")

    # Such a line still parses when it lost digits: a radius 1e-05 as 1, a class 12 as 1.
    last = body[-1][0]
    unsure = last if not text.endswith("\n") and last == len(lines) and names[-1] in USUAL else None
    table: list[dict[str, Any]] = []
    cut: list[tuple[int, str, ValueError]] = []
    comma = _decimal_comma(names, [line for _, line in body], separator)
    for number, line in body:
        try:
            if number == unsure:
                raise ValueError(f"no newline after its {names[-1]}, which may be cut off")
            table.append(_row(names, _fields(line, separator, len(names), notes), comma, notes))
        except ValueError as error:
            cut.append((number, line, error))
    there = {row["index"] for row in table}
    for number, line, fault in cut:
        if number == last:
            notes.append(f"dropped the last line ({fault}): {line!r}")
        elif _cut_off(line, names, separator) in there:
            notes.append(f"dropped line {number}, which was cut off; its image is there anew: {line!r}")
        else:
            raise ValueError(
                f"{path}, line {number}: {fault}{_perhaps(line, names, separator)}: {line[:80]!r}"
            ) from None
    if not table:
        raise ValueError(f"{path}: a log has at least one image; its only line is cut off ({cut[0][2]}): {cut[0][1]!r}")
    if comma:
        notes.append("radii are written with decimal commas")
    frame = pd.DataFrame(table)
    if "label" not in frame:
        frame["label"] = _joined(frame["index"].tolist(), labels or {}, str(path))
    frame = frame.astype({"index": "int64", "label": "int64", "prediction": "int64"})
    frame = _once(frame, notes)
    correct = is_right(frame)
    if "correct" in frame:
        for note in correct_column_notes(correct.to_numpy(), frame["correct"].to_numpy(np.float64)):
            notes.append(note)
    frame["correct"] = correct
    if "radius" not in frame:
        _check(frame.assign(radius=0.0, seconds=0.0), str(path))
        frame["radius"] = math.nan
    else:
        _check(frame.assign(seconds=0.0), str(path))
    if "seconds" not in frame:
        frame["seconds"] = math.nan
        notes.append("no time column: seconds unknown")
    frame = frame[COLUMNS + [name for name in names if name not in COLUMNS]]
    frame.attrs["notes"] = notes.lines()
    return frame


class _Notes(list[str]):
    """What a reader of a log took the liberty to do; things that are counted once each."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def add(self, times: int, what: str) -> None:
        self.counts[what] += int(times)

    def lines(self) -> list[str]:
        return [*self, *(f"{count} {what}" for what, count in self.counts.items() if count)]


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a readable gzip file: {error}") from None
    if content[:4] == b"PAR1":
        raise ValueError(f"{path}: is records, not a log")
    if content[:4] == b"PK\x03\x04":
        raise ValueError(f"{path}: a zip archive or a spreadsheet; a log is text, as tables are saved as CSV")
    wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as PowerShell writes what it redirects
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start] if error.start < len(content) else 0
        raise ValueError(f"{path}: a log is text in UTF-8, got the byte {byte:#04x}") from None


def _names(line: str, separator: str | None) -> list[str]:
    return [NAMES.get(re.sub("[ -]", "_", name.lower()), name.lower()) for name in _split(line, separator)]


def _separator(line: str) -> str | None:
    return next((s for s in "\t;," if s in line), None)


def _is_header(line: str) -> bool:
    with suppress(ValueError):
        return {"index", "prediction"} <= set(_names(line, _separator(line)))
    return False


def _header(
    path: object, number: int, line: str, separator: str | None, needed: Sequence[str], labels: Mapping[int, int] | None
) -> list[str]:
    """Return the names of the columns.  Raises ValueError, naming those that are missing."""
    try:
        names = _names(line, separator)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
    doubled = [name for name in USUAL if names.count(name) > 1]
    missing = [name for name in needed if name not in names and not (name == "label" and labels is not None)]
    if len(missing) == len(needed):
        raise ValueError(f"{path}: no log: its header should name idx, label, predict and radius, got {line[:200]!r}")
    if doubled or len(set(names)) < len(names):
        raise ValueError(f"{path}: the header should name each column once, got {line[:200]!r}")
    if missing:
        cure = "; --labels FILE takes them from another log" if missing == ["label"] else ""
        lacking = " and ".join(USUAL[name] for name in missing)
        raise ValueError(f"{path}: the header names no column {lacking}{cure}, got {line[:200]!r}")
    return names


def _decimal_comma(names: Sequence[str], lines: Sequence[str], separator: str | None) -> bool:
    """Whether radii are written 0,292: where a comma is no separator, and no radius has a point."""
    if separator == "," or separator is None or "radius" not in names:
        return False
    at = names.index("radius")
    radii = [fields[at].strip() for line in lines if len(fields := line.split(separator)) > at]
    return any("," in radius for radius in radii) and not any("." in radius for radius in radii)


def _cut_off(line: str, names: Sequence[str], separator: str | None) -> int | None:
    """The image of a line that has too few fields, of which one more than that of the image is whole."""
    with suppress(ValueError):
        fields = _split(line, separator)
        if names[0] == "index" and 1 < len(fields) < len(names):
            return _whole(_number(fields[0]))
    return None


def _perhaps(line: str, names: Sequence[str], separator: str | None) -> str:
    with suppress(ValueError):
        if _is_header(line):
            return "; it is another header: files of other columns cannot be joined"
        if len(_split(line, separator)) > len(names):
            return "; perhaps a line that was cut off, with the next one behind it: its images are to be mended by hand"
    return ""


def _joined(indices: Sequence[int], labels: Mapping[int, int], where: str) -> list[int]:
    if lacking := [index for index in indices if index not in labels]:
        raise ValueError(f"{where}: {len(lacking)} images have no label in the other log, such as {lacking[0]}")
    return [labels[index] for index in indices]


def _once(frame: pd.DataFrame, notes: _Notes) -> pd.DataFrame:
    """Drop rows that are there again with the same label, prediction and radius: a run that was resumed too early."""
    same = [name for name in ("index", "label", "prediction", "radius") if name in frame]
    again = frame.duplicated(same)
    notes.add(int(frame.loc[again, "index"].nunique()), "images are there twice, in equal rows")
    return frame[~again].reset_index(drop=True)


def read_labels(path: Path) -> dict[int, int]:
    """Return the labels of images by index, from records or any log that has them.

    Raises ValueError where an image has two.
    """
    frame = read_any(path, predictions=True) if path.read_bytes()[:4] != b"PAR1" else records.read(path).to_pandas()
    if frame["label"].isna().any():
        raise ValueError(f"{path}: some labels are unknown")
    found = frame[["index", "label"]].drop_duplicates()
    if found["index"].duplicated().any():
        raise ValueError(f"{path}: image {found['index'][found['index'].duplicated()].iloc[0]} has two labels")
    return dict(zip(found["index"].tolist(), found["label"].astype("int64").tolist(), strict=True))


def read_any(
    path: str | os.PathLike[str],
    sigma: float | None = None,
    *,
    predictions: bool = False,
    labels: Mapping[int, int] | None = None,
) -> pd.DataFrame:
    """Read a log, or Parquet records as if they were one, whatever the file's name is.

    sigma: which records to take, needed if the file has those of several, and not for one classifier of several, which
    has one row an image (see `records.multi_sigma`). Transductive records are refused: the noise of each image is its
    own. Records keep all their columns, which tell alpha, and
    `.attrs["grid"]` is as of `grid_of`. predictions: take a log without radii too. labels: by index, where the file has
    none. Raises ValueError as `read` does, and for a sigma that the file does
    not have or a label < 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    if sigma is not None:
        check_sigma(sigma)
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            frame = read(path, radius=not predictions, labels=labels)
            if sigma is not None and (large := frame["radius"] > 40 * sigma).any():
                raise ValueError(
                    f"{path}: no samples certify more than 40 sigma, got {frame['radius'][large].tolist()[:10]} "
                    f"for images {frame['index'][large].tolist()[:10]}"
                )
            return frame
    frame = one_row_each(records.read(path).to_pandas(), path)
    if not len(frame):
        raise ValueError(f"{path}: there are no records in it")
    if frame["sigma"].isna().any() or frame["region"].notna().any():
        raise ValueError(
            f"{path}: is transductive, with a sigma for each image or none, where one of one sigma is asked for; a "
            "study's table shows it"
        )
    if "stages" in frame.attrs:
        sigma = None
    there = sorted(set(frame["sigma"]))
    if sigma is None and len(there) > 1:
        raise ValueError(f"{path}: holds records of several sigmas; choose one: {', '.join(map(str, there))}")
    if sigma is not None and sigma not in there:
        raise ValueError(f"{path}: holds no records of sigma = {sigma}; there are: {', '.join(map(str, there))}")
    frame = frame[frame["sigma"] == (there[0] if sigma is None else sigma)].reset_index(drop=True)
    if labels is not None and frame["label"].isna().all():
        frame["label"] = _joined(frame["index"].tolist(), labels, str(path))
    if frame["label"].isna().any():
        raise ValueError(f"{path}: some labels are unknown")
    _check(frame, str(path))
    _check_labels(frame, str(path))
    frame["correct"] = is_right(frame)
    made = records.metadata(path)
    frame.attrs |= {"notes": export_notes(frame, made), "grid": grid_of(frame, made)}
    return frame


def other_pictures(a: pd.DataFrame, b: pd.DataFrame) -> list[int]:
    """Return the indices of images whose picture two frames of records know, and differ in."""
    if "picture" not in a or "picture" not in b:
        return []
    pictures = (each[["index", "picture"]].dropna().drop_duplicates() for each in (a, b))
    both = pd.merge(*pictures, on="index", suffixes=("_a", "_b"))
    return [int(index) for index in sorted(set(both["index"][both["picture_a"] != both["picture_b"]]))]


def read_indices(path: Path) -> list[int]:
    """Return the numbers of the images in records or a log, each once."""
    with path.open("rb") as file:
        frame = records.read(path).to_pandas() if file.read(4) == b"PAR1" else read(path)
    return [int(index) for index in dict.fromkeys(frame["index"])]


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


def to_records(frame: pd.DataFrame, sigma: float, alpha: float, n: int, source: str, n0: int | None = None) -> pa.Table:
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
        | {"method": "cohen", "sigma": sigma, "alpha": alpha, "n": n, "n0": n0}
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


def _fields(line: str, separator: str | None, count: int, notes: _Notes) -> list[str]:
    """The fields of a line, which may have another separator than the header if it has as many by that."""
    fields = _split(line, separator)
    if len(fields) == 1 < count:
        for other in "\t;,":
            if other != separator and len(found := _split(line, other)) == count:
                notes.add(1, "lines have another separator than the header")
                return found
    return fields


def _number(field: str) -> str:
    """The number in a field, which may be printed as by a tensor, an array or a list of one, or typeset."""
    field = field.replace("\N{MINUS SIGN}", "-")
    printed = PRINTED.fullmatch(field)
    return (printed[1] or printed[2]) if printed else field


def _row(names: list[str], fields: list[str], comma: bool, notes: _Notes) -> dict[str, Any]:
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
    fields_by_name = dict(zip(names, fields, strict=True))
    if fields_by_name.get("prediction", "").lower() in ABSTAINED:
        fields_by_name["prediction"] = "-1"
        notes.add(1, "predictions are the word for an abstention")
    if fields_by_name.get("prediction") == "-1" and fields_by_name.get("radius", "0").lower() in MISSING:
        fields_by_name["radius"] = "0"
        notes.add(1, "abstentions have no radius")
    row: dict[str, Any] = {}
    for name, field in fields_by_name.items():
        if name not in parse:
            row[name] = field
            continue
        plain = _number(field)
        notes.add(plain != field.replace("\N{MINUS SIGN}", "-"), "numbers are printed as by a tensor")
        plain = plain.replace(",", ".") if comma and name in ("radius", "seconds") else plain
        try:
            if "_" in plain:  # which Python reads as no digit
                raise ValueError
            row[name] = parse[name](plain)
        except ValueError as error:
            shown = USUAL.get(name, name)
            raise ValueError(
                str(error) if "whole" in str(error) else f"no number for {shown}: {field[:40]!r}"
            ) from None
    return row


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
    if not bad.any() and (certified > LARGEST).any():
        raise ValueError(
            f"{where}: no radius of images in [0, 1] is above {LARGEST:g}, got "
            f"{certified[certified > LARGEST].tolist()[:10]} for images {index[certified > LARGEST].tolist()[:10]}"
        )
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
