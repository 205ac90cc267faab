from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import pandas as pd
import pytest
import torch

from tests.helpers.checkpoints import CARD
from tests.helpers.specs import attack_spec, train_spec
from transmooth.attacks import robust
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.data.loader import open_split
from transmooth.evaluation import attack
from transmooth.evaluation import test_indices as positions
from transmooth.models.build import Network
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.specs import AttackSpec
from transmooth.training.loop import train

SPEC = attack_spec()


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned something, so that some images are wrong, some fall and some stand."""
    folder = tmp_path_factory.mktemp("model")
    train(train_spec(epochs=5, lr=[0.02]), digits, folder)
    return folder


@pytest.fixture(scope="module")
def whole(digits: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return of_shards(digits, model, tmp_path_factory.mktemp("whole"))


def observed(path: Path) -> pd.DataFrame:
    """All columns but the time."""
    return attacked.read(path).to_pandas().drop(columns=["seconds"])


def of_shards(data: Path, model: Path, out: Path, shards: int = 1, spec: AttackSpec = SPEC) -> pd.DataFrame:
    parts = [out / f"{k}.parquet" for k in range(shards)]
    for k, part in enumerate(parts):
        attack.run(spec, data, model, None, part, k, shards, None)
    attack.finish(spec, data, parts, out / "records.parquet")
    assert list(out.glob("*.journal")) == []
    return observed(out / "records.parquet")


def test_every_kind_of_outcome_is_recorded_and_holds(whole: pd.DataFrame, digits: Path, model: Path) -> None:
    """The points are made anew from what the records say, and are as far and answered as they say."""
    assert whole["index"].tolist() == positions(300, 45).tolist()
    right = whole["prediction"] == whole["label"]
    found = whole["adversarial"].notna()
    assert 0 < whole["robust"].sum() < right.sum() < 45
    assert (whole["robust"] == right & ~found).all()
    assert not found[~right].any()
    runs = 1 + (whole["restart"] * 2 + (whole["loss"] == "margin")).where(found, 3)
    # An answer to the image, then of each run the start, six steps and an answer to its point; fewer where it found it.
    most, soonest = (runs - early * found.astype(int) * (1 - 4 / 8) for early in (0, 1))
    spent = whole["evaluations"]
    assert ((spent <= 1 + 8 * most.where(right, 0)) & (spent >= 1 + 8 * soonest.where(right, 0))).all()
    assert (spent[~found] == 1 + 8 * runs.where(right, 0)[~found]).all()
    assert (spent[found] < 1 + 8 * runs[found]).any()
    assert set(whole["model"]) == {read_card(model)["weights_sha256"]}
    test, (network, _) = open_split(digits, "test"), weights.load(model)
    with torch.no_grad():
        answers = network(test.batch(whole["index"].to_numpy())[0]).argmax(1)
    assert answers.tolist() == whole["prediction"].tolist()


def test_records_do_not_depend_on_shards(digits: Path, model: Path, whole: pd.DataFrame, tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(of_shards(digits, model, tmp_path / "four", shards=4), whole)
    # 45 images are 6 batches: the seventh shard has none.
    pd.testing.assert_frame_equal(of_shards(digits, model, tmp_path / "seven", shards=7), whole)


class Second(SimpleNamespace):
    """Accelerate's state in the second of two processes, which waits for none."""

    def __init__(self, cpu: bool) -> None:
        super().__init__(process_index=1, num_processes=2, is_main_process=False, device=torch.device("cpu"))

    def wait_for_everyone(self) -> None:
        """Go on."""


def test_a_process_attacks_whole_batches_and_another_goes_on_with_the_others(
    digits: Path, model: Path, whole: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = robust._attack, list[list[int]]()

    def noted(target: Any, images: Any, labels: Any, indices: list[int], settings: Any) -> Any:
        started.append(indices)
        return real(target, images, labels, indices, settings)

    monkeypatch.setattr(robust, "_attack", noted)
    out = tmp_path / "r.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(accelerate, "PartialState", Second)
        attack.run(SPEC, digits, model, None, out, 0, 1, None)
    batches = robust.cut(positions(300, 45).tolist(), 8)
    assert started == batches[1::2]
    assert not out.exists()
    attack.run(SPEC, digits, model, None, out, 0, 1, None)
    assert started == batches[1::2] + batches[0::2]
    pd.testing.assert_frame_equal(observed(out), whole)
    assert [path.name for path in tmp_path.glob("*.journal")] == ["r.parquet.rank0.journal"]


def test_an_interrupted_job_attacks_its_unfinished_batches_again_and_no_others(
    digits: Path, model: Path, whole: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started, limit = robust._attack, list[list[int]](), 2

    def limited(target: Any, images: Any, labels: Any, indices: list[int], settings: Any) -> Any:
        if len(started) == limit:
            raise KeyboardInterrupt
        started.append(indices)
        return real(target, images, labels, indices, settings)

    out = tmp_path / "0.parquet"
    monkeypatch.setattr(robust, "_attack", limited)
    with pytest.raises(KeyboardInterrupt):
        attack.run(SPEC, digits, model, None, out, 0, 1, None)
    assert not out.exists()
    (journal,) = tmp_path.glob("*.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 16
    journal.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])  # as a kill while it was written leaves it
    began = list(started)
    started.clear()
    limit = 100
    attack.run(SPEC, digits, model, None, out, 0, 1, None)
    batches = robust.cut(positions(300, 45).tolist(), 8)
    assert began == batches[:2]
    assert started == batches[1:]
    pd.testing.assert_frame_equal(observed(out), whole)


def test_a_batch_of_another_size_gives_the_same_but_for_rounding(
    digits: Path, model: Path, whole: pd.DataFrame, tmp_path: Path
) -> None:
    other = of_shards(digits, model, tmp_path, spec=attack_spec(batch=45))
    assert (other["robust"] == whole["robust"]).mean() > 0.9
    assert (other["prediction"] == whole["prediction"]).all()


def test_the_spec_says_how_images_are_attacked() -> None:
    assert attack.settings_of(SPEC) == robust.Settings("l2", 0.6, 6, ("cross_entropy", "margin"), 2, 8, 4)


def test_a_model_of_other_classes_is_refused(digits: Path, network: Network, tmp_path: Path) -> None:
    weights.save(tmp_path / "model", network, CARD | {"classes": list("abcdefghij")})
    with pytest.raises(SystemExit, match="its classes are not those of"):
        attack.run(SPEC, digits, tmp_path / "model", None, tmp_path / "out.parquet", 0, 1, None)


def test_a_records_file_says_what_it_was_made_with_and_other_shards_are_not_joined(
    digits: Path, model: Path, tmp_path: Path
) -> None:
    short = {"steps": 1, "restarts": 1, "losses": ["margin"]}
    for k, epsilon in enumerate((0.1, 0.2)):
        attack.run(attack_spec(epsilon=epsilon, **short), digits, model, None, tmp_path / f"{k}.parquet", k, 2, None)
    assert AttackSpec.of(records.metadata(tmp_path / "0.parquet")["spec"]) == attack_spec(epsilon=0.1, **short)
    with pytest.raises(records.RecordError, match=r"1.parquet: made by another spec than .*0.parquet"):
        attack.finish(SPEC, digits, [tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
