"""Numbers by class on a page."""

from pathlib import Path

from tests.helpers.records import multi_sigma_rows, row
from transmooth.records import table as records
from transmooth.report.page.classes import MOST, classes_of
from transmooth.report.page.provenance import Certification, read_certification

# Label, prediction, radius, at σ = 0.25 and 0.5.
SEEN = [(0, 0, 0.3), (0, 1, 0.9), (0, -1, 0.0), (0, 0, 0.1), (2, 2, 0.5), (2, 0, 0.2)]


def certified(folder: Path) -> Certification:
    """Six images of two classes, at two sigmas; at the larger one all abstain."""
    rows = [row(at, 0.25, label=label, prediction=given, radius=r) for at, (label, given, r) in enumerate(SEEN)]
    rows += [row(at, 0.5, label=label, prediction=-1, radius=0.0) for at, (label, _, _) in enumerate(SEEN)]
    records.write(records.from_rows(rows, {"spec": {"n": 1000}}), folder / "r.parquet")
    return read_certification("r.parquet", folder)


def test_each_class_has_its_accuracy_and_what_it_is_taken_for(tmp_path: Path) -> None:
    found = classes_of(certified(tmp_path), "digits", "net", ["a", "b", "c"], [0.0, 0.25])
    assert found is not None
    small, large = found.tables
    assert (small.classifier, large.classifier) == ("0.25", "0.5")
    assert small.rows == [["a", "4", "50.0", "25.0", "25.0"], ["c", "2", "50.0", "50.0", "0.0"]]
    assert small.confusion == [("a", [2, 1, 0, 1]), ("c", [1, 0, 1, 0])]
    assert large.confusion == [("a", [0, 0, 0, 4]), ("c", [0, 0, 0, 2])]


def test_classes_without_names_are_numbers_and_too_many_are_left_out(tmp_path: Path) -> None:
    for few in ([], ["a", "b"]):
        found = classes_of(certified(tmp_path), "digits", "net", few, [0.25])
        assert found is not None
        assert found.classes == ["0", "1", "2"]
    names = [str(label) for label in range(MOST)]
    assert classes_of(certified(tmp_path), "digits", "net", names, [0.25]) is not None
    assert classes_of(certified(tmp_path), "digits", "net", [*names, "more"], [0.25]) is None


def test_a_classifier_of_several_sigmas_has_one_table(tmp_path: Path) -> None:
    records.write(records.from_rows(multi_sigma_rows(6), {"spec": {"n": 1000}}), tmp_path / "r.parquet")
    found = classes_of(read_certification("r.parquet", tmp_path), "x", "net", [], [0.0])
    assert found is not None
    (table,) = found.tables
    assert table.classifier == "multi-σ"
    assert sum(sum(counts) for _, counts in table.confusion) == 6  # an image counts once, whatever its stages
