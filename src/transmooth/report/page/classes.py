"""What a network is certified at by class, and what the images of each class are taken for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from transmooth.report.accuracy import curves_of
from transmooth.report.certified import classifier_text
from transmooth.report.compare import by_class
from transmooth.report.page.provenance import Certification

MOST = 40  # classes of a table that can be read


@dataclass(frozen=True)
class ClassTables:
    """The two tables of one smoothed classifier, rows and columns in the order of the classes.

    classifier: its σ in words.  rows: of each class its name, number of images, certified accuracy at each radius and
    abstentions in percent.  confusion: of each class its name and how many of its images are taken for each class, and
    for none.
    """

    classifier: str
    rows: Sequence[Sequence[str]]
    confusion: Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True)
class ByClass:
    """One network, in words, on one dataset; radii: of the certified accuracies."""

    dataset: str
    network: str
    radii: Sequence[float]
    classes: Sequence[str]
    tables: Sequence[ClassTables]


def classes_of(
    certified: Certification, dataset: str, network: str, names: Sequence[str], radii: Sequence[float]
) -> ByClass | None:
    """Return the numbers by class of each curve of a certification; None where the classes are too many to be read.

    names: of the classes, by label; numbers stand for them where some have none.
    """
    last = int(certified.rows[["label", "prediction"]].to_numpy().max())
    names = names if len(names) > last else [str(label) for label in range(last + 1)]
    if len(names) > MOST:
        return None
    tables = [_tables(classifier, frame, names, radii) for classifier, frame in curves(certified)]
    return ByClass(dataset, network, radii, names, tables)


def curves(certified: Certification) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the σ in words, and one row for each image, of each smoothed classifier of a certification."""
    if certified.stages:
        yield classifier_text(np.nan, True), certified.rows
    else:
        yield from ((classifier_text(sigma, False), frame) for sigma, frame in curves_of(certified.rows))


def _tables(classifier: str, frame: pd.DataFrame, names: Sequence[str], radii: Sequence[float]) -> ClassTables:
    rows, confusion = [], []
    for each in by_class(frame, radii):
        shares = (*each["certified_accuracy"].values(), each["abstentions"])
        rows.append([names[each["label"]], str(each["n"]), *(f"{100 * share:.1f}" for share in shares)])
        taken = [each["predictions"].get(label, 0) for label in (*range(len(names)), -1)]
        confusion.append((names[each["label"]], taken))
    return ClassTables(classifier, rows, confusion)
