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
    new = ["runner_up", "engine", "batch", "region", "smoothed_radius", "allocation"]
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
    with pytest.raises(RecordError, match=r"1.parquet: certified by another spec than .*0.parquet"):
        records.merge(parts, tmp_path / "all.parquet", [0, 1], [0.5])
