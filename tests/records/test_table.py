from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.records import row, table
from transmooth.records import table as records
from transmooth.records.table import RecordError


def test_round_trip_keeps_every_digit_and_sorts(tmp_path: Path) -> None:
    rows = [row(7, 1.0), row(2, 0.25, radius=0.1 + 0.2), row(1, 1.0), row(9, 0.25)]
    records.write(table(*rows), tmp_path / "r.parquet")
    read = records.read(tmp_path / "r.parquet").to_pylist()
    assert read == sorted(rows, key=lambda r: (r["sigma"], r["index"]))


def test_an_older_file_lacks_what_is_new(tmp_path: Path) -> None:
    new = ["runner_up", "engine", "batch", "file", "picture"]
    records.seal(table(row(1)).drop_columns(new), tmp_path / "old.parquet")
    assert records.read(tmp_path / "old.parquet").to_pylist() == [row(1) | dict.fromkeys(new)]


def test_a_doubled_image_and_a_second_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"r.parquet: image 1 is there twice at sigma = 0.5"):
        records.write(table(row(1), row(1)), tmp_path / "r.parquet")
    with pytest.raises(RecordError, match="records of 2 models"):
        records.write(table(row(1), row(2, model="other")), tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    pa.parquet.write_table(pa.table({"index": [1]}), tmp_path / "other.parquet")
    for name, message in (
        ("gone", "no such file"),
        ("torn", "not a readable"),
        ("other", "columns .*radius.* missing"),
    ):
        with pytest.raises(RecordError, match=f"{name}.parquet: .*{message}"):
            records.read(tmp_path / f"{name}.parquet")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, unique=True), st.integers(1, 5), st.data())
def test_merging_shards_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int], shards: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    pieces = [indices[k::shards] for k in range(shards)]
    for k, piece in enumerate(pieces):
        records.write(table(*(row(i, s) for i in piece for s in (0.25, 1.0))), folder / f"{k}.parquet")
    parts = [folder / f"{k}.parquet" for k in range(shards)]
    records.merge(parts, folder / "all.parquet", indices, [0.25, 1.0])
    assert sorted(records.read(folder / "all.parquet")["index"].to_pylist()) == sorted(2 * indices)
    lost = data.draw(st.sampled_from(indices))
    with pytest.raises(RecordError, match=r"not asked for: \[\(0.25, "):
        records.merge(parts, folder / "less.parquet", [i for i in indices if i != lost], [0.25, 1.0])
    with pytest.raises(RecordError, match=r"lost: \[\(0.25, 99\)"):
        records.merge(parts, folder / "more.parquet", [*indices, 99], [0.25, 1.0])


def test_shards_of_another_spec_are_not_merged(tmp_path: Path) -> None:
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for index, (part, alpha) in enumerate(zip(parts, (0.001, 0.1), strict=True)):
        records.write(records.from_rows([row(index)], {"spec": {"alpha": alpha}}), part)
    with pytest.raises(RecordError, match=r"1.parquet: made by another spec than .*0.parquet"):
        records.merge(parts, tmp_path / "all.parquet", [0, 1], [0.5])


MADE = {
    "spec": {"alpha": 0.001, "sigmas": [0.5], "images": 2},
    "model": {"sha256": "a", "model": "x"},
    "data": {"classes": ["a"]},
}


def test_records_of_other_sigmas_and_images_are_joined(tmp_path: Path) -> None:
    a, b, c, out = (tmp_path / name for name in ("a.parquet", "b.parquet", "c.parquet", "all.parquet"))
    other = {**MADE, "spec": {**MADE["spec"], "sigmas": [1.0]}, "model": {"sha256": "a", "model": "y"}}
    records.write(records.from_rows([row(0), row(1)], MADE), a)
    records.write(records.from_rows([row(0, 1.0), row(2, 1.0)], other), b)
    records.write(records.from_rows([row(1, seconds=9.0), row(2)], MADE), c)
    records.join([a, b, c], out)
    kept = [(each["sigma"], each["index"]) for each in records.read(out).to_pylist()]
    assert kept == [(0.5, 0), (0.5, 1), (0.5, 2), (1.0, 0), (1.0, 2)]
    assert records.metadata(out)["spec"] == {"alpha": 0.001, "sigmas": [0.5, 1.0], "images": 3}
    for rows, made, message in (
        ([row(1, top_count=1)], MADE, "c.parquet: image 1 is there twice at sigma = 0.5, with other counts"),
        ([row(1, 2.0, label=2)], MADE, "c.parquet: image 1 is another than in the files before"),
        ([row(1, 2.0, picture="z")], MADE, "image 1 is another"),
        ([row(3)], {**MADE, "spec": {**MADE["spec"], "alpha": 0.1}}, "otherwise than .*a.parquet: spec.alpha"),
        ([row(3)], {**MADE, "data": {"classes": ["b"]}}, "data.classes"),
        ([row(3, model="other")], MADE, "records of 2 models"),
    ):
        records.write(records.from_rows(rows, made), c)
        with pytest.raises(RecordError, match=message):
            records.join([a, c], out)


def test_a_radius_above_any_is_refused(tmp_path: Path) -> None:
    records.write(table(row(1, radius=19.9)), tmp_path / "r.parquet")
    with pytest.raises(RecordError, match="image 1 should have a radius below 40 sigma, found 1e\\+30"):
        records.write(table(row(1, radius=1e30)), tmp_path / "r.parquet")
