"""The leaderboard: one row for each certification log, a CSV whose numbers are those of the log.

A log is of one network at one σ. Rows of several σ are not pooled: the best of them at each radius would be an oracle.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from transmooth import files
from transmooth.records.audit import audit, candidates
from transmooth.records.logs import read_any, write
from transmooth.report import compare
from transmooth.smoothing.bounds import check_sigma, share_interval

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
TEXTS = ("paper", "method", "network", "dataset")
NUMBERS = ("sigma", "alpha", "n", "images", "abstained", "largest_radius", "acr")
SHARES = tuple(f"certified_accuracy@{radius:g}" for radius in RADII)
ORIGIN = ("repository", "commit", "path", "sha256", "also")
COLUMNS = (*TEXTS, *NUMBERS, *SHARES, *ORIGIN)
DIGITS = 4  # decimals of a share, a radius and the ACR
HALF = 0.5 * 10**-DIGITS * 1.001  # what rounding to them may take away or add, and a little for binary fractions


@dataclass(frozen=True)
class Row:
    """What one log shows.

    paper: the publication that the log belongs to. method: how the network was trained. Texts are empty where unknown.
    alpha, n: those whose saturated radius is the log's largest radius (`records.audit`); None where none of the usual.
    images: how many there are in the log. abstained, certified_accuracy (at RADII, ≥): shares of them.
    acr: mean of radius where right, else 0. repository, commit, path: where the log is; also: where it is, too.
    sha256: of the log, the first 16 hex digits; of records, of the log that `export-log` writes of them.
    """

    paper: str
    method: str
    network: str
    dataset: str
    sigma: float
    alpha: float | None
    n: int | None
    images: int
    abstained: float
    largest_radius: float
    acr: float
    certified_accuracy: tuple[float, ...]
    repository: str
    commit: str
    path: str
    sha256: str
    also: str

    def line(self) -> str:
        """Return the row as a line of the CSV, without its end."""
        settings = ["" if value is None else repr(value).removesuffix(".0") for value in (self.sigma, self.alpha)]
        counts = ["" if self.n is None else str(self.n), str(self.images)]
        shares = [repr(value) for value in (self.abstained, self.largest_radius, self.acr, *self.certified_accuracy)]
        texts, origin = ([getattr(self, name) for name in names] for names in (TEXTS, ORIGIN))
        return _csv([*texts, *settings, *counts, *shares, *origin])

    def share(self, radius: float) -> float:
        """Return the certified accuracy at one of RADII."""
        return self.certified_accuracy[RADII.index(radius)]

    def interval(self, radius: float) -> tuple[float, float]:
        """Return the 95 % Clopper–Pearson interval of `share`: for other images of the same kind, the same network."""
        low, high = share_interval(round(self.share(radius) * self.images), self.images)
        return float(low), float(high)


def measure(
    log: Path, method: str, network: str, dataset: str, paper: str = "", sigma: float | None = None
) -> tuple[Row, list[str]]:
    """Read a log, or records, and return its row and what should be known of them.

    sigma: of a log, where its radii saturate at none of the usual settings; of records, which, if they have several.
    alpha and n are the audit's.
    Raises ValueError, naming the file, in four cases: `logs.read_any` refuses the log, its radii are not by Cohen's
    procedure, its sigma is unknown, or its radii exceed what any usual setting gives.
    """
    frame = read_any(log, sigma)
    found = candidates(frame, log, sigma)
    best, notes = found.iloc[0], list(frame.attrs["notes"])
    saturates = best["verdict"] == "saturates"
    if not saturates and sigma is None and "sigma" not in frame:
        raise ValueError(f"{log}: its radii saturate at no usual alpha, n and sigma: name its --sigma")
    if best["verdict"] == "exceeded":
        raise ValueError(
            f"{log}: its largest radius {frame['radius'].max():g} is more than sigma = {best['sigma']:g} gives with "
            f"any usual alpha and n, at most {found['saturated'].max():.4f}"
        )
    if not saturates:
        notes.append(f"alpha and n stay empty: the largest radius is that of no usual ones at sigma {best['sigma']:g}")
        other = candidates(frame, log).iloc[0]
        if other["verdict"] == "saturates":
            notes.append(f"its radii saturate at alpha {other['alpha']:g}, n {other['n']}, sigma {other['sigma']:g}")
    numbers = compare.accuracy(frame, RADII)
    row = Row(
        paper=paper,
        method=method,
        network=network,
        dataset=dataset,
        sigma=float(best["sigma"]),
        alpha=float(best["alpha"]) if saturates else None,
        n=int(best["n"]) if saturates else None,
        images=numbers["n"],
        abstained=round(numbers["abstentions"], DIGITS),
        largest_radius=round(numbers["max_radius"], DIGITS),
        acr=round(numbers["acr"], DIGITS),
        certified_accuracy=tuple(round(numbers["certified_accuracy"][radius], DIGITS) for radius in RADII),
        repository="",
        commit="",
        path=str(log),
        sha256=_sha256(frame, log),
        also="",
    )
    _check(row)
    return row, notes


def _sha256(frame: pd.DataFrame, log: Path) -> str:
    """Return what Row.sha256 is."""
    if "sigma" not in frame:
        return files.sha256(log)[:16]
    with TemporaryDirectory() as folder:
        exported = Path(folder) / "log.tsv"
        write(frame, exported)
        return files.sha256(exported)[:16]


def append(row: Row, table: Path) -> None:
    """Add a row at the end of a leaderboard, which begins with it where there is none.

    The file appears whole or not at all. Raises ValueError as `read` does: the log must not be there yet.
    """
    with files.locked(table):
        text = _text(table) if table.exists() else _csv(COLUMNS)
        text = f"{text.rstrip()}\n{row.line()}\n"
        _rows(text, table)
        files.write_text(table, text)


def read(path: Path) -> list[Row]:
    """Read a leaderboard.

    Raises ValueError, naming file and line, unless every row can be the numbers of a log.  Shares are between 0 and 1
    and count whole images; they fall with the radius, and are 0 beyond the largest one.  The ACR is between the
    sums of the steps below and above it.  The largest radius is that of alpha and n.  No log is there twice.
    """
    return _rows(_text(path), path)


def ranked(rows: Sequence[Row], radius: float | None = None) -> list[Row]:
    """Return rows by certified accuracy at one of RADII, else by ACR, the largest first; equal ones by ACR."""
    return sorted(rows, key=lambda row: (row.acr if radius is None else row.share(radius), row.acr), reverse=True)


def shown(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and, for each row, the cells of a table for a terminal; shares in percent, – for unknown."""
    head = ["method", "network", "σ", "α", "n", "images", "ACR", *(f"{radius:g}" for radius in RADII), "paper"]
    table = []
    for row in rows:
        alpha, n = "" if row.alpha is None else f"{row.alpha:g}", "" if row.n is None else str(row.n)
        shares = [f"{100 * share:.1f}" for share in row.certified_accuracy]
        made = [row.method, row.network, f"{row.sigma:g}", alpha, n, str(row.images), f"{row.acr:.3f}"]
        table.append([cell or "–" for cell in (*made, *shares, row.paper)])
    return head, table


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; a checkout has it, --file names another") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: should be UTF-8, found the byte {error.object[error.start]:#04x}") from None


def _csv(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _rows(text: str, path: Path) -> list[Row]:
    reader = csv.reader(text.splitlines())
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:  # which is no ValueError
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    head = lines[0][1] if lines else []
    if head != [*COLUMNS]:
        raise ValueError(f"{path}: should have the columns {','.join(COLUMNS)}; found {','.join(head)}")
    rows, seen = list[Row](), dict[str, int]()
    for number, cells in lines[1:]:
        try:
            row = _row(cells)
            _check(row)
            if (first := seen.setdefault(row.sha256, number)) != number:
                raise ValueError(f"the log {row.sha256} is in line {first} already")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        rows.append(row)
    return rows


def _row(cells: Sequence[str]) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"should have {len(COLUMNS)} cells, found {len(cells)}")
    named = dict(zip(COLUMNS, cells, strict=True))

    def number(name: str) -> float:
        try:
            return float(named[name])
        except ValueError:
            raise ValueError(f"{name}: should be a number, found {named[name]!r}") from None

    def whole(name: str) -> int:
        if not re.fullmatch(r"[1-9]\d*", named[name]):
            raise ValueError(f"{name}: should be a whole number ≥ 1, found {named[name]!r}")
        return int(named[name])

    if (named["alpha"] == "") != (named["n"] == ""):
        raise ValueError(
            f"alpha and n: should be both there or both empty, found {named['alpha']!r} and {named['n']!r}"
        )
    audited = named["alpha"] != ""
    return Row(
        **{name: named[name] for name in (*TEXTS, *ORIGIN)},
        sigma=number("sigma"),
        alpha=number("alpha") if audited else None,
        n=whole("n") if audited else None,
        images=whole("images"),
        abstained=number("abstained"),
        largest_radius=number("largest_radius"),
        acr=number("acr"),
        certified_accuracy=tuple(map(number, SHARES)),
    )


def _check(row: Row) -> None:
    """Raise ValueError unless the numbers can be those of a log; they are rounded to DIGITS decimals."""
    for name in (*TEXTS, *ORIGIN):
        if not getattr(row, name).isprintable():
            raise ValueError(f"{name}: should be printable text, found {getattr(row, name)!r}")
    if not row.dataset:
        raise ValueError("dataset: should be named, found nothing")
    if not re.fullmatch(r"[0-9a-f]{16}", row.sha256):
        raise ValueError(f"sha256: should be 16 hex digits, found {row.sha256!r}")
    for name, share in (("abstained", row.abstained), *zip(SHARES, row.certified_accuracy, strict=True)):
        if not 0 <= share <= 1 or abs(share * row.images - round(share * row.images)) > HALF * row.images:
            raise ValueError(f"{name}: should be a share of {row.images} images, found {share}")
    check_sigma(row.sigma)
    shares, largest = row.certified_accuracy, row.largest_radius
    if not 0 <= largest < math.inf:
        raise ValueError(f"largest_radius: should be a finite number ≥ 0, found {largest}")
    if row.abstained + shares[0] > 1 + 2 * HALF:
        raise ValueError(
            f"abstained and {SHARES[0]}: should be of different images, found {row.abstained + shares[0]:g}"
        )
    for k in range(1, len(RADII)):
        if shares[k] > shares[k - 1]:
            raise ValueError(f"{SHARES[k]}: should be at most {SHARES[k - 1]}, found {shares[k]} and {shares[k - 1]}")
        if shares[k] and RADII[k] > largest + HALF:
            raise ValueError(f"{SHARES[k]}: should be 0 beyond the largest radius {largest}, found {shares[k]}")
    ends = [*RADII[1:], max(largest, RADII[-1])]
    least = sum((end - start) * share for start, end, share in zip(RADII, RADII[1:], shares[1:], strict=False))
    most = sum(
        (min(end, largest) - min(start, largest)) * share for start, end, share in zip(RADII, ends, shares, strict=True)
    )
    slack = HALF * (2 + largest)  # of the ACR, of the shares over all radii, of the largest radius
    if not least - slack <= row.acr <= most + slack:
        raise ValueError(f"acr: should be from {least:.4f} to {most:.4f} by the certified accuracies, found {row.acr}")
    if row.alpha is not None and row.n is not None:
        verdict = audit([largest], row.sigma, [row.alpha], [row.n]).iloc[0]
        if verdict["verdict"] != "saturates":
            raise ValueError(
                f"largest_radius: should be {verdict['saturated']:.4f} by sigma, alpha and n, found {largest}"
            )
