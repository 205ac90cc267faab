import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.records import frame, row, table
from transmooth.records import logs
from transmooth.records import table as records
from transmooth.report import compare
from transmooth.smoothing.bounds import SLACK

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
ROWS = [
    "0\t3\t3\t0.505\t1\t0:00:16.602175",
    "7\t8\t-1\t0.0\t0\t0:00:01.000000",
    "9\t1\t2\t0.25\t0\t1:02:03.500000",
]


def log(tmp_path: Path, *lines: str, newline: str = "\n", end: str = "\n") -> Path:
    path = tmp_path / "log.tsv"
    path.write_bytes((newline.join(lines) + end).encode())
    return path


def test_read(tmp_path: Path) -> None:
    read = logs.read(log(tmp_path, HEADER, *ROWS))
    assert list(read.columns) == ["index", "label", "prediction", "radius", "correct", "seconds"]
    assert read["index"].tolist() == [0, 7, 9]
    assert read["label"].tolist() == [3, 8, 1]
    assert read["prediction"].tolist() == [3, -1, 2]
    assert read["radius"].tolist() == [0.505, 0.0, 0.25]
    assert read["correct"].tolist() == [True, False, False]
    assert read["seconds"].tolist() == [16.602175, 1.0, 3723.5]
    assert read.attrs["notes"] == []


@pytest.mark.parametrize("separator", [",", " ", "   ", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("words", [("1", "0"), ("True", "False"), ("1.0", "0.0")])
def test_dialects(tmp_path: Path, separator: str, newline: str, mark: str, words: tuple[str, str]) -> None:
    plain = logs.read(log(tmp_path, HEADER, *ROWS))
    fields = [line.split("\t") for line in ROWS]
    lines = [[*row[:4], words[row[4] != "1"], row[5]] for row in fields]
    text = [separator.join(row) for row in [(mark + HEADER).split("\t"), *lines]]
    pd.testing.assert_frame_equal(logs.read(log(tmp_path, *text, newline=newline)), plain)


def test_column_order_and_extra_columns(tmp_path: Path) -> None:
    read = logs.read(log(tmp_path, "radius\tpA\tpredict\tlabel\tidx", "0.5\t0.84\t1\t1\t4", "0.1\t0.6\t0\t1\t5"))
    assert list(read.columns) == [*logs.COLUMNS, "pa"]
    assert read["index"].tolist() == [4, 5]
    assert read["radius"].tolist() == [0.5, 0.1]
    assert read["correct"].tolist() == [True, False]
    assert read["pa"].tolist() == ["0.84", "0.6"]
    assert read["seconds"].isna().all()
    assert "time" in read.attrs["notes"][0]


@pytest.mark.parametrize("separator", ["\t", " ", ","])
@pytest.mark.parametrize(
    ("time", "seconds"),
    [("1 day, 0:00:14.5", 86414.5), ("2 days, 1:00:00", 176400.0), ("0 days 00:01:00", 60.0), ("12.5", 12.5)],
)
def test_times(tmp_path: Path, separator: str, time: str, seconds: float) -> None:
    lines = [separator.join(row) for row in (HEADER.split("\t"), ["0", "1", "1", "0.5", "1", time])]
    assert logs.read(log(tmp_path, *lines))["seconds"].tolist() == [seconds]


@pytest.mark.parametrize(
    ("stated", "note"),
    [
        (["1", "1", "2", "3"], "running count"),
        (["11", "11", "12", "13"], "running count"),
        (["1.0", "0.5", "0.667", "0.75"], "running accuracy"),
        (["100", "50", "66.67", "75"], "running accuracy"),
        (["1", "1", "1", "1"], "disagrees with prediction = label in 1 of 4"),
    ],
)
def test_correct_is_recomputed(tmp_path: Path, stated: list[str], note: str) -> None:
    lines = [f"{i}\t1\t{int(i != 1)}\t0.5\t{word}\t0:00:01" for i, word in enumerate(stated)]
    read = logs.read(log(tmp_path, HEADER, *lines))
    assert read["correct"].tolist() == [True, False, True, True]
    (told,) = read.attrs["notes"]
    assert note in told


@pytest.mark.parametrize("last", ["12\t3", "12\t3\t3\t0.5\t1\t0:0", "12\t3\t3\t0.5\t1\t"])
def test_a_last_line_cut_off_is_dropped(tmp_path: Path, last: str) -> None:
    read = logs.read(log(tmp_path, HEADER, *ROWS, last, end=""))
    assert read["index"].tolist() == [0, 7, 9]
    assert len(read.attrs["notes"]) == 1
    assert "dropped the last line" in read.attrs["notes"][0]


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ("idx label predict radius", False),
        ("radius idx label predict", False),
        ("radius idx predict label", False),
        ("label predict radius idx", False),
        ("idx label predict radius time", True),
    ],
)
def test_a_last_number_without_a_newline_may_have_lost_digits(tmp_path: Path, columns: str, kept: bool) -> None:
    lines = [columns, *(" ".join([str(i)] * len(columns.split())) for i in (1, 2))]
    assert logs.read(log(tmp_path, *lines))["index"].tolist() == [1, 2]
    read = logs.read(log(tmp_path, *lines, end=""))
    assert read["index"].tolist() == ([1, 2] if kept else [1])
    dropped = [note for note in read.attrs["notes"] if "no newline after its" in note]
    assert len(dropped) == (0 if kept else 1)


def test_an_abstention_is_never_right(tmp_path: Path) -> None:
    read = logs.read(log(tmp_path, HEADER, *ROWS, "11\t-1\t-1\t0.0\t0\t0:00:01"))
    assert read["correct"].tolist() == [True, False, False, False]
    assert read.attrs["notes"] == []
    assert compare.accuracy(read, [0])["certified_accuracy"] == {0: 0.25}
    logs.write(read, tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_text().splitlines()[-1] == "11\t-1\t-1\t0.000000\t0\t0:00:01"
    with pytest.raises(ValueError, match=r"old.tsv: labels must be ≥ 0, got \[-1\] for images \[11\]"):
        logs.to_records(read.assign(radius=0.0), 0.5, 0.001, 1000, "old.tsv")


CERTAIN = {
    "2 lines that begin with # were skipped": ["# sigma 0.5", HEADER, ROWS[0], "# resumed", *ROWS[1:]],
    "1 more headers were skipped": [HEADER, ROWS[0], HEADER, *ROWS[1:]],
    "2 images are there twice, in equal rows": [HEADER, *ROWS, ROWS[0] + "9", ROWS[2]],
    "dropped line 3, which was cut off; its image is there anew": [HEADER, ROWS[0], "7\t8\t", *ROWS[1:]],
    "radii are written with decimal commas": [line.replace("\t", ";").replace(".", ",") for line in (HEADER, *ROWS)],
    "5 numbers are printed as by a tensor": [
        HEADER,
        "tensor(0)\ttensor(3, device='cuda:0')\t[3]\ttensor([0.505])\tTrue\t0:00:16.602175",
        ROWS[1],
        ROWS[2].replace("9\t1", "9\tnp.int64(1)"),
    ],
    "": [HEADER.replace("label", "target").replace("predict", "Predicted"), *ROWS],
    " ": [line.replace("\t", ";") for line in (HEADER, *ROWS)],
    "  ": [HEADER, *(row.replace("-1", "−1").replace("0.25", " 0.25 ") for row in ROWS)],
    "   ": [HEADER.replace("label", "True Label").replace("radius", "certified radius"), *ROWS],
    "3 lines have another separator than the header": [HEADER, *(row.replace("\t", ",") for row in ROWS)],
    "1 lines have another separator than the header": [HEADER, ROWS[0], ROWS[1].replace("\t", ";"), ROWS[2]],
    "2 lines before the header were skipped": ["/x.py:3: UserWarning: a", "  warn(3, 4)", HEADER, *ROWS],
    "1 predictions are the word for an abstention": [HEADER, *(row.replace("\t-1\t", "\tABSTAIN\t") for row in ROWS)],
    "1 abstentions have no radius": [HEADER, *(row.replace("\t-1\t0.0\t", "\t-1\tNaN\t") for row in ROWS)],
    "1 lines that begin with # were skipped": [
        "# idx label predict radius correct time",
        "#",
        *(r.replace("\t", " ") for r in ROWS),
    ],
}


@pytest.mark.parametrize("note", CERTAIN)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_certain_is_read_and_told(note: str, packed: bool, tmp_path: Path) -> None:
    plain = logs.read(log(tmp_path, HEADER, *ROWS))
    path = log(tmp_path, *CERTAIN[note])
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    read = logs.read(path)
    pd.testing.assert_frame_equal(read, plain)
    assert len(read.attrs["notes"]) == (1 if note.strip() else 0), read.attrs["notes"]
    assert all(note in told for told in read.attrs["notes"])
    path.write_bytes("\n".join(CERTAIN[note]).encode("utf-16"))
    pd.testing.assert_frame_equal(logs.read(path), plain)


def test_a_log_of_predictions_has_no_radii(tmp_path: Path) -> None:
    path = log(tmp_path, "index\tlabel\tprediction\tfile", "0\t1\t1\ta.png", "1\t1\t-1\tb.png", "2\t1\t0\tc.png")
    read = logs.read_any(path, predictions=True)
    assert read["correct"].tolist() == [True, False, False]
    assert read["radius"].isna().all()
    with pytest.raises(ValueError, match="names no column radius"):
        logs.read_any(path)
    with pytest.raises(ValueError, match=r"radii must be finite"):
        logs.read_any(log(tmp_path, HEADER, ROWS[0].replace("0.505", "nan")), predictions=True)
    with pytest.raises(ValueError, match=r"must occur once"):
        logs.read_any(log(tmp_path, "idx label predict", "0 1 1", "0 1 2"), predictions=True)


def test_labels_of_another_log(tmp_path: Path) -> None:
    labels = logs.read_labels(log(tmp_path, HEADER, *ROWS))
    assert labels == {0: 3, 7: 8, 9: 1}
    records.write(table(row(0, label=5), row(0, 1.0, label=5)), tmp_path / "r.parquet")
    assert logs.read_labels(tmp_path / "r.parquet") == {0: 5}
    lines = ["idx\tpredict\tradius", "9\t1\t0.5", "0\t2\t0.1"]
    read = logs.read(log(tmp_path, *lines), labels=labels)
    assert (read["label"].tolist(), read["correct"].tolist()) == ([1, 3], [True, False])
    with pytest.raises(ValueError, match="1 images have no label in the other log, such as 5"):
        logs.read(log(tmp_path, *lines, "5\t1\t0.1"), labels=labels)


def test_a_radius_beyond_any_count_of_samples_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER, ROWS[0].replace("0.505", "10.5"))
    assert len(logs.read_any(path, 0.3)) == 1
    for sigma in (-0.3, 0.0, float("nan")):
        with pytest.raises(ValueError, match="sigma must be a positive finite number"):
            logs.read_any(path, sigma)
    with pytest.raises(FileNotFoundError, match="a folder, not a file"):
        logs.read_any(tmp_path)
    with pytest.raises(ValueError, match=r"no samples certify more than 40 sigma, got \[10.5\] for images \[0\]"):
        logs.read_any(path, 0.25)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "got nothing"),
        ([HEADER], "got a header only"),
        ([HEADER, "0\t1"], "only line is cut off"),
        (["a\tb", "1\t2"], "no log: its header should name idx, label, predict and radius"),
        ([HEADER + "\tradius", ROWS[0] + "\t1"], "should name each column once"),
        (["idx\tpredict\tradius", "1\t2\t0.5"], "the header names no column label; --labels FILE takes them from"),
        (["idx\tlabel\tpredict", "1\t2\t2"], "the header names no column radius, got"),
        ([HEADER, "0\t1", *ROWS[1:]], "line 2: 2 fields where the header names 6"),
        ([HEADER, ROWS[0], "x" + ROWS[1], ROWS[2]], "line 3: .*'x7'"),
        ([HEADER, ROWS[0].replace("3", "3.5"), *ROWS[1:]], "not a whole number"),
        ([HEADER, *ROWS, "9\t1\t2\t0.26\t0\t0:00:01"], r"each image must occur once, got twice: \[9\]"),
        ([HEADER, ROWS[0], "8\t1\t", *ROWS[1:]], "line 3: 3 fields where the header names 6"),
        ([HEADER, "0\t3\t3\t0" + ROWS[0], *ROWS[1:]], "line 2: 9 fields .*cut off, with the next one behind it"),
        ([HEADER, *ROWS, "11\t1\t1\t1e30\t1\t0:00:01"], r"no radius of images in \[0, 1\] is above 10000"),
        ([HEADER, ROWS[0], "8\t1\t1\t0,5\t1\t0:00:01", ROWS[1]], "line 3: no number for radius: '0,5'"),
        ([HEADER, ROWS[0], "8\tcat\t1\t0.5\t1\t0:00:01", ROWS[1]], "line 3: no number for label: 'cat'"),
        ([HEADER, ROWS[0], "8\t1_0\t1\t0.5\t1\t0:00:01", ROWS[1]], "line 3: no number for label: '1_0'"),
        ([HEADER, ROWS[0], "8\t1\t\t0.5\t1\t0:00:01", ROWS[1]], "line 3: no number for predict: ''"),
        ([HEADER, ROWS[0], "8\t1\t1\tnan\t1\t0:00:01", ROWS[1]], r"finite and ≥ 0, got \[nan\] for images \[8\]"),
        ([HEADER, ROWS[0], "loss 0.3", ROWS[1]], "line 3: 1 fields where the header names 6: 'loss 0.3'"),
        ([HEADER, ROWS[0], "idx\tpredict", ROWS[1]], "line 3: .*; it is another header: files of other columns"),
        ([ROWS[0], HEADER, *ROWS[1:]], "no log: its header should name"),
        ([HEADER, ROWS[0], "8,1,1,0,5,1,0:00:01", ROWS[1]], "line 3: 1 fields where the header names 6"),
        (["PK\x03\x04"], "a zip archive or a spreadsheet; a log is text"),
        (["<html>"], "no log: its header should name .*'<html>'"),
        ([HEADER, *ROWS, "11\t1\t1\tnan\t1\t0:00:01"], r"finite and ≥ 0, got \[nan\] for images \[11\]"),
        ([HEADER, *ROWS, "11\t1\t1\tinf\t1\t0:00:01"], "finite"),
        ([HEADER, *ROWS, "11\t1\t1\t-0.5\t1\t0:00:01"], "≥ 0"),
        ([HEADER, *ROWS, "11\t1\t-1\t0.5\t0\t0:00:01"], r"abstained .* radius 0, got more for \[11\]"),
    ],
)
def test_what_would_make_numbers_doubtful_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logs.read(log(tmp_path, *lines))


def test_written_radii_are_never_rounded_up(tmp_path: Path) -> None:
    radii = [*np.random.default_rng(0).uniform(0, 4, 2000).tolist(), 0.9999999, 5e-7, 3.8114565633899518, 0.0]
    logs.write(frame(radii), tmp_path / "log.tsv")
    back = logs.read(tmp_path / "log.tsv")["radius"].to_numpy()
    assert (back <= radii).all()
    assert (back > np.array(radii) - 1e-6).all()
    assert back[-4:].tolist() == [0.999999, 0.0, 3.811456, 0.0]


def test_round_trip(tmp_path: Path) -> None:
    """Every radius of six decimals is kept, 0.29 and its like included."""
    read = logs.read(log(tmp_path, HEADER, *ROWS, *[f"{i}\t1\t1\t{i / 1000}\t1\t0:00:01" for i in range(10, 990)]))
    logs.write(read, tmp_path / "again.tsv")
    pd.testing.assert_frame_equal(logs.read(tmp_path / "again.tsv"), read)
    assert (tmp_path / "again.tsv").read_text().splitlines()[:2] == [
        HEADER,
        "0\t3\t3\t0.505000\t1\t0:00:16.602175",
    ]


def test_written_files_have_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    logs.write(frame([0.5]), tmp_path / "log.tsv")
    assert (tmp_path / "log.tsv").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.tsv"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        logs.write(frame([0.5]), path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_write_refuses_an_unsound_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="abstained"):
        logs.write(frame([0.5]).assign(prediction=-1), tmp_path / "log.tsv")
    with pytest.raises(ValueError, match=r"\['seconds'\] are missing"):
        logs.write(frame([0.5]).drop(columns="seconds"), tmp_path / "log.tsv")


def test_a_cut_line_is_dropped_only_where_its_image_is_sure(tmp_path: Path) -> None:
    alone = ["1", "2\t3\t3\t0.5\t1\t0:00:01", "1\t3\t3\t0.5\t1\t0:00:01"]  # 1 may have been 10
    with pytest.raises(ValueError, match="line 2: 1 fields where the header names 6"):
        logs.read(log(tmp_path, HEADER, *alone))
    last = ["3\t3", "2\t3\t3\t0.5\t1\t2", "3\t3\t3\t0.5\t1\t3"]  # its first field is a label, not image 3
    with pytest.raises(ValueError, match="line 2: 2 fields where the header names 6"):
        logs.read(log(tmp_path, "label\tpredict\tcorrect\tradius\ttime\tidx", *last))


def test_an_image_with_two_labels_is_not_there_twice_in_equal_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"each image must occur once, got twice: \[0\]"):
        logs.read(log(tmp_path, HEADER, ROWS[0], ROWS[0].replace("0\t3\t3", "0\t4\t3")))


def test_records_are_read_at_a_sigma_that_they_have_with_the_labels_that_they_have(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    records.write(table(row(0), row(1)), path)
    with pytest.raises(ValueError, match=r"holds no records of sigma = 0.25; there are: 0.5"):
        logs.read_any(path, 0.25)
    assert logs.read_any(path, 0.5, labels={0: 9, 1: 9})["label"].tolist() == [3, 3]
    records.write(table(row(0), row(1), row(0, 0.25)), path)
    with pytest.raises(ValueError, match=r"holds records of several sigmas; choose one: 0\.25, 0\.5"):
        logs.read_any(path)
    assert len(logs.read_any(path, 0.25)) == 1


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_transductive_records_are_not_read_as_those_of_one_sigma(tmp_path: Path, sigma: float | None) -> None:
    path = tmp_path / "r.parquet"
    left: dict[str, Any] = {"smoothed_radius": 0.3, "region": 1.0, "radius": 0.3, "allocation": "a"}
    records.write(table(row(0, **left), row(1, 0.25, **left)), path)
    with pytest.raises(ValueError, match=r"r\.parquet: is transductive, with a sigma for each image or none"):
        logs.read_any(path, sigma)
    none: dict[str, Any] = {"method": "lookup", "sigma": None, "alpha": None, "radius": 0.5 - SLACK, "region": 0.5}
    records.write(table(row(0, **none)), path)
    with pytest.raises(ValueError, match="is transductive"):
        logs.read_any(path, sigma)


def test_numbers_are_read_up_to_their_bounds(tmp_path: Path) -> None:
    assert logs.read(log(tmp_path, HEADER, "0\t3\t3\t10000\t1\t1"))["radius"].tolist() == [1e4]
    with pytest.raises(ValueError, match=r"no radius of images in \[0, 1\] is above 10000"):
        logs.read(log(tmp_path, HEADER, "0\t3\t3\t10001\t1\t1"))
    with pytest.raises(ValueError, match="too large a whole number"):  # in the middle: a last line would be dropped
        logs.read(log(tmp_path, HEADER, f"{2**63}\t3\t3\t0.5\t1\t1", ROWS[0]))


def test_images_that_were_given_up_after_a_wrong_selection_are_told() -> None:
    made = pd.DataFrame({"method": "cohen", "n": [0, 0, 1000], "selected": [1, 2, 2], "label": [1, 1, 1]})
    (note,) = logs.export_notes(made, {})
    assert note.startswith("1 images were given up after the selection")


@pytest.mark.parametrize(
    "radius", [0.4123456, 0.3012345]
)  # above what 100 agreeing samples certify; between two counts
def test_radii_that_are_of_other_settings_become_no_records(radius: float) -> None:
    with pytest.raises(ValueError, match=r"1 radii are not those of sigma = 0\.25, .* n = 100"):
        logs.to_records(frame([radius]), 0.25, 0.001, 100, "log.tsv")
    assert logs.to_records(frame([0.0]), 0.25, 0.001, 100, "log.tsv").num_rows == 1


def test_one_image_is_no_running_count() -> None:
    (note,) = logs.correct_column_notes(np.array([True]), np.array([0.0]))
    assert note == "the correct column disagrees with prediction = label in 1 of 1 rows; recomputed"
