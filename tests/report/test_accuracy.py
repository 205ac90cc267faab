"""Records, cards and logs → the curves and the clean accuracy of a row."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.records import multi_sigma_rows, row
from tests.helpers.report import (
    evaluated,
    left,
    log_files,
    radii_as_rows,
    row_spec,
    run_spec,
    write_attack,
    write_clean,
    write_records,
)
from transmooth.records import table as records
from transmooth.report.accuracy import (
    Settings,
    attack_method,
    average_certified_radius,
    certified_accuracy,
    certified_radius,
    most_frequent,
    on_grid,
    read_files,
    read_row,
)
from transmooth.report.measures import MEASURES


def test_accuracy_counts_right_images_with_at_least_the_radius() -> None:
    frame = pd.DataFrame(
        {"label": [1, 1, 1, 1, 2], "prediction": [1, 2, -1, 1, 2], "radius": [0.5, 0.9, 0.0, 0.25, 0.0]}
    )
    radii = certified_radius(frame)
    # Right at 0.5, 0.25 and 0; wrong at 0.9; one abstains.
    assert certified_accuracy(radii, [0, 0.25, 0.2500001, 0.5, 0.9]).tolist() == pytest.approx([0.6, 0.4, 0.2, 0.2, 0])
    assert average_certified_radius(radii) == pytest.approx(0.75 / 5)
    # An abstention is not right, even where nobody knows the label.
    assert certified_radius(frame.assign(label=-1)).tolist() == [-np.inf] * 5


def test_a_radius_is_cut_down_to_the_grid_that_was_decided() -> None:
    radii = np.array([-np.inf, 0.0, 0.24, 0.25, 0.3, 1.0, 5.0])
    assert on_grid(radii, (0.0, 0.25, 1.0)).tolist() == [-np.inf, 0.0, 0.0, 0.25, 0.25, 1.0, 1.0]
    assert on_grid(radii, None) is radii
    assert on_grid(radii, []) is radii  # sequential, at radii that the file does not tell


def test_a_classifier_of_several_sigmas_is_read_as_one_curve(tmp_path: Path) -> None:
    run = run_spec("net/clean@downstream")
    single, several = evaluated(run, "certify"), evaluated(run, "cascade", kind="multi_sigma")
    write_records(tmp_path, single, [row(i, s, radius=s) for i in range(5) for s in (0.25, 1.0)])
    rows = multi_sigma_rows(5)
    path = write_records(tmp_path, several, rows)
    write_clean(tmp_path, run, 9)
    both = single.model_copy(update={"records": (*single.records, *several.records)})
    read = read_row(row_spec("a", [both]), tmp_path, tmp_path)
    assert read.multi_sigma is not None
    assert read.multi_sigma.tolist() == [[-np.inf, *(each["radius"] for each in rows[2::2])]]
    assert [*read.curves] == [0.25, 1.0]
    assert read.settings == Settings("cohen", 100, 1000, 0.001)
    assert read.multi_settings == Settings("cascade of σ = 1, 0.5; τ = 0.1, 0", 100, 1000, 0.001)
    only = read_row(row_spec("a", [several]), tmp_path, tmp_path)
    assert (only.curves, only.images) == ({}, 5)
    alone = read_files([path], "a")
    assert alone.multi_sigma is not None
    assert alone.multi_sigma.tolist() == read.multi_sigma.tolist()
    assert (alone.curves, alone.multi_settings) == ({}, read.multi_settings)
    write_records(tmp_path, several, rows, spec={"n": 1000, "radii": [0.0, 0.5, 1.0]})
    cut = [-np.inf, *(0.5 * np.floor(min(each["radius"], 1.0) / 0.5) for each in rows[2::2])]
    for read in (read_row(row_spec("a", [both]), tmp_path, tmp_path), read_files([path], "a")):
        assert read.multi_sigma is not None
        assert read.multi_sigma.tolist() == [cut]
    write_records(tmp_path, several, rows)
    with pytest.raises(ValueError, match="how it was certified should be the same"):
        read_files([path, tmp_path / single.records[0].path], "a")
    rows[5]["radius"] = 3.0
    write_records(tmp_path, several, rows)
    with pytest.raises(ValueError, match="image 2 has class 3 and radius 3"):
        read_row(row_spec("a", [several]), tmp_path, tmp_path)


@given(st.lists(st.floats(0, 4) | st.just(-np.inf), min_size=1), st.floats(0, 4))
def test_accuracy_is_the_plain_count(radii: list[float], at: float) -> None:
    assert certified_accuracy(np.array(radii), [at])[0] == pytest.approx(sum(r >= at for r in radii) / len(radii))


def test_chance_is_the_share_of_the_most_frequent_class_among_the_images(tmp_path: Path) -> None:
    frame = pd.DataFrame({"index": [0, 1, 2, 3, 3, 3, 3], "label": [1, 1, 0, 2, 2, 2, 2]})
    assert most_frequent(frame) == 0.5
    certified = evaluated(run_spec("net/clean@downstream"), "certify")
    rows = [row(index, sigma, label=label) for sigma in (0.25, 1.0) for index, label in enumerate([1, 1, 1, 2, 0])]
    path = write_records(tmp_path, certified, rows)
    write_clean(tmp_path, certified.run, 9)
    assert read_row(row_spec("a", [certified]), tmp_path, tmp_path).chance == read_files([path], "a").chance == 0.6
    attacked = evaluated(run_spec("net/clean@downstream"), "attack", kind="attack")
    write_attack(tmp_path, attacked, left("rrw", 0.5))
    assert read_row(row_spec("a", [attacked]), tmp_path, tmp_path).chance == 1.0


def test_a_row_is_read_from_records_and_cards(tmp_path: Path) -> None:
    runs = [evaluated(run_spec("net/clean@downstream", seed), "certify") for seed in (0, 1)]
    for seed, each in enumerate(runs):
        spent = {0.25: 10, 1.0: 100 * (1 + seed)}
        rows = [
            row(i, s, radius=s, prediction=3 if i else 9, evaluations=spent[s]) for i in range(4) for s in (0.25, 1.0)
        ]
        write_records(tmp_path, each, rows, spec={"n": 2000, "radii": [0.0, 1.0]})
        write_clean(tmp_path, each.run, 9 - seed)
    spec = row_spec("a", *([each] for each in runs), block="b")
    read = read_row(spec, tmp_path, tmp_path)
    assert (read.label, read.block) == ("a", "b")
    assert read.clean.tolist() == [0.9, 0.8]
    assert (read.images, read.seeds, read.clean_images) == (4, 2, 10)
    assert read.accuracy(1.0, [0.0, 1.0, 1.1]).tolist() == [[0.75, 0.75, 0.0]] * 2
    assert MEASURES["evaluations"].value(read, np.nan, 0.0).tolist() == [110, 210]
    assert read.settings == Settings("cohen", 100, 2000, 0.001, (0.0, 1.0))
    one = read_row(spec.model_copy(update={"sigma": 1.0}), tmp_path, tmp_path)
    assert list(one.curves) == [1.0]
    assert one.curves[1.0].tolist() == read.curves[1.0].tolist()
    assert MEASURES["evaluations"].value(one, np.nan, 0.0).tolist() == [100, 200]
    other = tmp_path / runs[1].records[0].path
    rows = [row(i, s, alpha=0.01) for i in range(4) for s in (0.25, 1.0)]
    records.write(pa.Table.from_pylist(rows, records.SCHEMA), other)
    with pytest.raises(ValueError, match="a: its records should be certified alike"):
        read_row(spec, tmp_path, tmp_path)
    records.write(pa.Table.from_pylist([row(0), row(1, n0=1)], records.SCHEMA), other)
    with pytest.raises(ValueError, match="holds records of 2 settings"):
        read_row(spec, tmp_path, tmp_path)


def test_a_pooled_row_has_the_sigmas_of_all_its_runs_and_no_clean_accuracy(tmp_path: Path) -> None:
    """One network for each sigma, as in a table whose networks are each certified at their own."""
    seeds = []
    for seed in (0, 1):
        small = evaluated(run_spec("net/low@downstream", seed), "certify_025")
        large = evaluated(run_spec("net/high@downstream", seed), "certify_050")
        write_records(tmp_path, small, radii_as_rows([0.1 + seed, 0.2], 0.25))
        write_records(tmp_path, large, radii_as_rows([0.4, -np.inf], 0.5, model="other"))
        for each in (small, large):
            write_clean(tmp_path, each.run, 9)
        seeds.append([small, large])
    read = read_row(row_spec("pooled", *seeds), tmp_path, tmp_path)
    assert {sigma: radii.tolist() for sigma, radii in read.curves.items()} == {
        0.25: [[0.1, 0.2], [1.1, 0.2]],
        0.5: [[0.4, -np.inf]] * 2,
    }
    assert np.isnan(read.clean).tolist() == [True, True]  # of which of them?
    assert (read.seeds, read.clean_images) == (2, 0)
    with pytest.raises(ValueError, match=r"pooled: should have one network at each sigma and seed, .* at \[0\.25\]"):
        read_row(row_spec("pooled", [seeds[0][0], seeds[1][0]]), tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"has others at \[0\.5\]"):
        read_row(row_spec("pooled", seeds[0], seeds[1][:1]), tmp_path, tmp_path)


def test_the_cards_of_a_row_say_what_its_last_stages_took(tmp_path: Path) -> None:
    runs = [evaluated(run_spec("net/clean@downstream", seed)) for seed in (0, 1)]
    weights = {"all": 2_000_000, "trained": 500}
    behind = {"text": "unet", "sha256": "ab", "parameters": 160_000}
    write_clean(tmp_path, runs[0].run, 9, parameters=weights, denoiser=behind, seconds=1800.0)
    write_clean(tmp_path, runs[1].run, 9, parameters=weights | {"trained": 0}, seconds=7200.0)
    read = read_row(row_spec("a", *([each] for each in runs)), tmp_path, tmp_path)
    expected = {"parameters": [2.0, 2.0], "trained": [0.0005, 0.0], "hours": [0.5, 2.0]}
    expected |= {"denoiser_parameters": [0.16, np.nan]}
    assert read.stage.keys() == expected.keys()
    assert all(read.stage[measure] == pytest.approx(values, nan_ok=True) for measure, values in expected.items())
    assert read_row(row_spec("pooled", runs), tmp_path, tmp_path).stage == {}
    old = evaluated(run_spec("net/old@downstream"))
    write_clean(tmp_path, old.run, 9)
    assert all(np.isnan(each).all() for each in read_row(row_spec("old", [old]), tmp_path, tmp_path).stage.values())


def test_a_row_that_nobody_certified_has_its_clean_accuracy(tmp_path: Path) -> None:
    shifted = evaluated(run_spec("net/a@upstream/b@downstream"), "shift", kind="shift")
    write_clean(tmp_path, shifted.run, 7)
    read = read_row(row_spec("moved", [shifted]), tmp_path, tmp_path)
    assert read.clean.tolist() == [0.7]
    assert (read.curves, read.settings) == ({}, Settings())


def test_a_row_of_logs_is_computed_from_them(tmp_path: Path) -> None:
    read = read_row(log_files(tmp_path), tmp_path / "results", tmp_path)
    assert read.accuracy(0.25, [0.0, 0.4, 0.45])[0] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert read.accuracy(1.0, [0.0, 1.9, 2.0])[0] == pytest.approx([1 / 3, 1 / 3, 0])
    assert np.isnan(read.clean).tolist() == [True]
    assert read.settings == Settings("log")


def test_logs_of_other_images_do_not_make_a_row(tmp_path: Path) -> None:
    spec = log_files(tmp_path, last="7\t1\t1\t1.9\t1\t0:00:01\n")
    with pytest.raises(ValueError, match=r"one\.tsv: should be of the same images as the other logs of theirs"):
        read_row(spec, tmp_path, tmp_path)


def test_records_of_one_network_stand_in_one_row_whatever_their_files(tmp_path: Path) -> None:
    def write(name: str, *rows: dict[str, object]) -> Path:
        records.write(records.from_rows(rows, {"spec": {"n": 2000}}), tmp_path / name)
        return tmp_path / name

    small, large = ([row(i, s, radius=s * i) for i in range(4)] for s in (0.25, 1.0))
    apart = read_files([write("large", *large), write("small", *small)], "own")
    assert list(apart.curves) == [0.25, 1.0]
    assert apart.curves[0.25].tolist() == [[0.0, 0.25, 0.5, 0.75]]
    assert (apart.images, apart.seeds, apart.settings) == (4, 1, Settings("cohen", 100, 2000, 0.001))
    together = read_files([write("both", *small, *large)], "own")
    assert [each.tolist() for each in together.curves.values()] == [each.tolist() for each in apart.curves.values()]
    for other, fault in [
        (large[:3], "its images"),
        ([each | {"label": 1} for each in large], "its images"),
        (
            [each | {"picture": "z"} for each in large],
            "its pictures should be those of .*small, but image 0 is another",
        ),
        ([each | {"model": "other"} for each in large], "its model"),
        ([each | {"alpha": 0.01} for each in large], "how it was certified"),
        (small, "sigma = 0.25 is there twice"),
        ([each | {"label": None} for each in large], "labels are unknown"),
    ]:
        with pytest.raises(ValueError, match=f"other: {fault}"):
            read_files([tmp_path / "small", write("other", *other)], "own")


def test_a_row_has_what_its_attacks_left(tmp_path: Path) -> None:
    small = [evaluated(run_spec("net/clean@downstream", seed), "autopgd_025", kind="attack") for seed in (0, 1)]
    large = [evaluated(run_spec("net/clean@downstream", seed), "autopgd", kind="attack") for seed in (0, 1)]
    both = [a.model_copy(update={"records": (*a.records, *b.records)}) for a, b in zip(large, small, strict=True)]
    for seed, outcomes in enumerate((("rrfw", "rffw"), ("rffw", "rffw"))):
        write_attack(tmp_path, small[seed], left(outcomes[0], 0.25))
        write_attack(tmp_path, large[seed], left(outcomes[1], 0.5, restarts=3))
        write_clean(tmp_path, small[seed].run, 9)
    read = read_row(row_spec("a", *([each] for each in both)), tmp_path, tmp_path)
    assert list(read.attacks) == [0.25, 0.5]
    assert read.attacks[0.25].right.tolist() == [[True, True, True, False]] * 2
    assert read.attacks[0.25].robust.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert read.attacks[0.5].robust.tolist() == [[True, False, False, False]] * 2
    assert (read.attacks[0.25].norm, read.attacked_images, read.curves) == ("l2", 4, {})
    assert read.attacks[0.25].method == "AutoPGD in l2 on cross_entropy and margin, 20 steps"
    assert read.attacks[0.5].method == "AutoPGD in l2 on cross_entropy and margin, 20 steps, 3 starts"
    # A row that pools them has none: of which run?
    assert read_row(row_spec("pooled", both), tmp_path, tmp_path).attacks == {}
    write_attack(tmp_path, small[1], left("rrff", 0.25, steps=10))
    with pytest.raises(ValueError, match=r"a: should be attacked at 0\.25 alike, once at each seed, .*10 steps.*20"):
        read_row(row_spec("a", *([each] for each in small)), tmp_path, tmp_path)
    write_attack(tmp_path, small[1], left("rrfff", 0.25))
    with pytest.raises(ValueError, match="a: its attacks should be of the same images"):
        read_row(row_spec("a", *([each] for each in small)), tmp_path, tmp_path)
    twice = small[0].model_copy(update={"records": small[0].records * 2})
    with pytest.raises(ValueError, match=r"a: should be attacked at 0\.25 alike, once at each seed"):
        read_row(row_spec("a", [twice]), tmp_path, tmp_path)


def test_the_method_of_an_attack_names_its_norm_losses_steps_and_starts() -> None:
    frame = pd.DataFrame(left("r", 0.5, norm="linf", losses="margin", steps=7, restarts=2))
    assert attack_method(frame) == "AutoPGD in linf on margin, 7 steps, 2 starts"
