from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.records import row, table
from transmooth.records import table as records
from transmooth.records.table import RecordError
from transmooth.smoothing.bounds import SLACK


def test_round_trip_keeps_every_digit_and_sorts(tmp_path: Path) -> None:
    rows = [row(7, 1.0), row(2, 0.25, radius=0.1 + 0.2), row(1, 1.0), row(9, 0.25)]
    records.write(table(*rows), tmp_path / "r.parquet")
    read = records.read(tmp_path / "r.parquet").to_pylist()
    assert read == sorted(rows, key=lambda r: (r["sigma"], r["index"]))


def test_an_older_file_lacks_what_is_new(tmp_path: Path) -> None:
    new = ["runner_up", "engine", "batch", "file", "picture", "region", "smoothed_radius", "allocation"]
    records.seal(table(row(1)).drop_columns(new), tmp_path / "old.parquet")
    assert records.read(tmp_path / "old.parquet").to_pylist() == [row(1) | dict.fromkeys(new)]


def test_a_radius_is_what_its_region_leaves_or_the_image_abstains(tmp_path: Path) -> None:
    left: dict[str, Any] = {"radius": 0.2 - SLACK, "smoothed_radius": 0.3, "region": 0.2, "allocation": "a"}
    rows = [
        row(0, **left),
        row(1, **left | {"radius": 0.15, "smoothed_radius": 0.15}),
        row(2, **left | {"radius": 0.0, "prediction": -1}),
        row(3, **left | {"radius": 0.0, "prediction": -1, "region": SLACK}),
    ]
    records.write(table(*rows), tmp_path / "r.parquet")
    assert records.read(tmp_path / "r.parquet").to_pylist() == rows
    for wrong in ({"radius": 0.2}, {"radius": 0.1}, {"region": 0.21}, {"smoothed_radius": 0.15}):
        with pytest.raises(RecordError, match="image 0 should have the radius that its region leaves"):
            records.write(table(row(0, **left | wrong)), tmp_path / "wrong.parquet")
    with pytest.raises(RecordError, match="image 0 should have abstained where its region leaves nothing, found 3"):
        records.write(table(row(0, **left | {"radius": 0.0, "region": SLACK})), tmp_path / "wrong.parquet")
    with pytest.raises(RecordError, match="records of 2 allocations"):
        records.write(table(row(0, **left), row(1, **left | {"allocation": "b"})), tmp_path / "wrong.parquet")


def test_a_lookup_has_no_sigma_and_no_alpha_and_others_must(tmp_path: Path) -> None:
    without: dict[str, Any] = {"method": "lookup", "sigma": None, "alpha": None, "radius": 0.5 - SLACK, "region": 0.5}
    rows = [row(index, **without) for index in (0, 1)]
    records.write(table(*rows), tmp_path / "r.parquet")
    assert records.read(tmp_path / "r.parquet").to_pylist() == rows
    for name in ("sigma", "alpha"):
        with pytest.raises(RecordError, match=f"the column {name} should have no gaps, 1 of 1 rows"):
            records.write(table(row(0, **dict[str, Any]({name: None}))), tmp_path / "wrong.parquet")
    with pytest.raises(RecordError, match="should have the radius that its region leaves"):
        records.write(table(row(0, **without | {"radius": 0.5})), tmp_path / "wrong.parquet")
    with pytest.raises(RecordError, match="the column method should have no gaps"):
        records.write(table(row(0, **without | {"method": None})), tmp_path / "wrong.parquet")


def test_shards_where_each_image_is_there_once(tmp_path: Path) -> None:
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    records.write(table(row(0, 0.25), row(2, 1.0)), parts[0])
    records.write(table(row(1, 0.5)), parts[1])
    joined = records.joined(parts, tmp_path / "all.parquet", [0, 1, 2], None)
    assert sorted(joined["index"].to_pylist()) == [0, 1, 2]
    with pytest.raises(RecordError, match=r"all.parquet: images lost: \[3\]; not asked for: \[0\]"):
        records.joined(parts, tmp_path / "all.parquet", [1, 2, 3], None)
    with pytest.raises(RecordError, match=r"images lost: none; not asked for: \[1\]"):
        records.joined([*parts, parts[1]], tmp_path / "all.parquet", [0, 1, 2], None)


def test_a_doubled_image_and_a_second_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"r.parquet: image 1 is there twice at sigma = 0.5"):
        records.write(table(row(1), row(1)), tmp_path / "r.parquet")
    with pytest.raises(RecordError, match="records of 2 models"):
        records.write(table(row(1), row(2, model="other")), tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


def test_no_thread_is_left_with_the_bytes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that let go of them while the interpreter ended aborted the process, after its work."""
    records.write(table(row(1)), tmp_path / "r.parquet")
    read, threads = pa.parquet.ParquetFile.read, list[object]()

    def watched(file: pa.parquet.ParquetFile, **keywords: object) -> pa.Table:
        threads.append(keywords.get("use_threads", True))
        return read(file, **keywords)

    monkeypatch.setattr(pa.parquet.ParquetFile, "read", watched)
    assert len(records.read(tmp_path / "r.parquet")) == 1
    assert threads == [False]


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


@settings(max_examples=20)
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


MADE: dict[str, Any] = {
    "spec": {"alpha": 0.001, "sigmas": [0.5], "images": 2},
    "model": {"sha256": "a", "model": "x"},
    "data": {"classes": ["a"], "split": "test", "checksum": "c"},
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
        ([row(3)], {**MADE, "data": {**MADE["data"], "classes": ["b"]}}, "data.classes"),
        ([row(3)], {**MADE, "data": {**MADE["data"], "split": "train"}}, "data.split"),
        ([row(3)], {**MADE, "data": {**MADE["data"], "checksum": "other"}}, "data.checksum"),
        ([row(3, model="other")], MADE, "records of 2 models"),
    ):
        records.write(records.from_rows(rows, made), c)
        with pytest.raises(RecordError, match=message):
            records.join([a, c], out)


def test_a_radius_above_any_is_refused(tmp_path: Path) -> None:
    records.write(table(row(1, radius=19.9)), tmp_path / "r.parquet")
    with pytest.raises(RecordError, match="image 1 should have a radius below 40 sigma, found 1e\\+30"):
        records.write(table(row(1, radius=1e30)), tmp_path / "r.parquet")
