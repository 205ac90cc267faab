from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.records import attacked_row as row
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.records.table import RecordError

FOUND = {"robust": False, "adversarial": 5, "distance": 0.4, "loss": "margin", "restart": 0}
WRONG = {"robust": False, "prediction": 7}


def write(path: Path, *rows: dict[str, Any]) -> None:
    attacked.write(attacked.from_rows(rows, {"spec": {"n": 1}}), path)


def test_round_trip_keeps_every_digit_and_sorts(tmp_path: Path) -> None:
    far = FOUND | {"distance": 0.1 + 0.2}
    rows = [row(7), row(2, **far), row(1, epsilon=0.25), row(2, norm="linf", **FOUND), row(3, **WRONG)]
    write(tmp_path / "r.parquet", *rows)
    read = attacked.read(tmp_path / "r.parquet")
    assert read.to_pylist() == sorted(rows, key=lambda r: (r["norm"], r["epsilon"], r["index"]))
    assert records.metadata(tmp_path / "r.parquet") == {"spec": {"n": 1}}


def test_both_schemas_have_a_common_head() -> None:
    for name in attacked.HEAD:
        assert attacked.SCHEMA.field(name) == records.SCHEMA.field(name)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"epsilon": 0.0}, "an epsilon that is finite and > 0, found 0.0"),
    ({"epsilon": float("inf")}, "an epsilon that is finite and > 0, found inf"),
    ({"prediction": -1, "robust": False}, "a class >= 0, or -1 for abstained, found -1"),
    ({"prediction": -2, "robust": False, "sigma": 0.5}, "a class >= 0, or -1 for abstained, found -2"),
    ({"prediction": 7}, "its label as its prediction, to be robust, found 7"),
    (FOUND | {"robust": True}, "no point, to be robust, found True"),
    ({"robust": False}, "a point, or a wrong prediction, not to be robust, found False"),
    *(
        (FOUND | {name: None}, "class, distance, loss and restart of its point, or none")
        for name in FOUND
        if name not in ("robust", "adversarial")
    ),
    (WRONG | {"adversarial": 1}, "class, distance, loss and restart of its point, or none"),
    (FOUND | {"adversarial": 3}, "another class than its label at its point, found 3"),
    (FOUND | {"adversarial": -1}, "a class >= 0 at its point, found -1"),
    (FOUND | {"distance": 0.50001}, "its point within epsilon, found 0.50001"),
    (FOUND | {"distance": -0.1}, "its point within epsilon, found -0.1"),
    (FOUND | {"distance": float("nan")}, "its point within epsilon, found nan"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_what_no_attack_gives_is_refused_on_both_sides(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "r.parquet"
    told = rf"r.parquet: image 1 should have {message}.*; so have 1 of 2 rows"
    with pytest.raises(RecordError, match=told):
        write(path, row(0), row(1, **change))
    assert not path.exists()
    records.seal(attacked.from_rows([row(0), row(1, **change)], {}), path)
    with pytest.raises(RecordError, match=told):
        attacked.read(path)


def test_what_an_attack_gives_is_not_refused(tmp_path: Path) -> None:
    """A point may be beyond epsilon by rounding; a smoothed classifier may abstain."""
    edge = FOUND | {"distance": 0.5 * (1 + 1e-5)}
    write(tmp_path / "r.parquet", row(0, **edge), row(1, sigma=0.5, prediction=-1, robust=False), row(2, seconds=None))


def test_gaps_doubled_images_and_second_models_are_refused(tmp_path: Path) -> None:
    for rows, message in [
        ([row(0), row(1, label=None)], "the column label should have no gaps, 1 of 2 rows have none"),
        ([row(1), row(1)], "image 1 is there twice at l2, epsilon = 0.5"),
        ([row(1), row(2, model="other")], "records of 2 models: abc, other"),
    ]:
        with pytest.raises(RecordError, match=message):
            write(tmp_path / "r.parquet", *rows)


def test_records_of_one_kind_are_not_read_as_the_other(tmp_path: Path) -> None:
    write(tmp_path / "r.parquet", row(1))
    with pytest.raises(RecordError, match=r"r.parquet: not records: the columns alpha, .* are missing"):
        records.read(tmp_path / "r.parquet")
    records.seal(pa.table({"index": ["one"]}), tmp_path / "r.parquet")
    with pytest.raises(RecordError, match=r"r.parquet: not records: the columns adversarial, .* are missing"):
        attacked.read(tmp_path / "r.parquet")


@settings(max_examples=20)
@given(st.lists(st.integers(0, 20), min_size=1, unique=True), st.integers(1, 5), st.data())
def test_merging_shards_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int], shards: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    parts = [folder / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        write(part, *(row(index) for index in indices[k::shards]))
    attacked.merge(parts, folder / "all.parquet", indices)
    assert attacked.read(folder / "all.parquet")["index"].to_pylist() == sorted(indices)
    lost = data.draw(st.sampled_from(indices))
    with pytest.raises(RecordError, match=rf"less.parquet: images lost: none; not asked for: \[{lost}\]"):
        attacked.merge(parts, folder / "less.parquet", [i for i in indices if i != lost])
    with pytest.raises(RecordError, match=r"more.parquet: images lost: \[99\]; not asked for: none"):
        attacked.merge(parts, folder / "more.parquet", [*indices, 99])
