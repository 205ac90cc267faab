"""What attacks left of one network, and the certificate of each image beside what an attack found."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transmooth.params.values import BallNorm
from transmooth.records import attacked
from transmooth.records import table as records
from transmooth.report.accuracy import AttackResult, Floats, attack_method
from transmooth.report.cells import Cell
from transmooth.report.compare import robustness
from transmooth.report.page import charts
from transmooth.report.page.classes import curves
from transmooth.report.page.page import NORMS, Section, TableRow
from transmooth.report.page.provenance import Attacked, Certification, read_attack
from transmooth.report.tables import OurRow
from transmooth.smoothing.attack import contradiction_text, contradictions
from transmooth.smoothing.bounds import share_interval

POINTS = 101  # of a curve
MOST = 200  # images of a table, at most: more are not looked at


def is_attack(path: Path) -> bool:
    """Whether a file has records of an attack.  Raises RecordError for a damaged file."""
    return "robust" in records.unseal(path).column_names


def read_attacks(paths: Iterable[Path]) -> list[Attacked]:
    """Return the attacks in these files, one for each ball and classifier, the smallest ball first.

    Raises RecordError if a file is damaged.  Raises ValueError, naming the file, if it has no records, if an attack is
    there twice, or if the network or the images differ.
    """
    found = dict[tuple[str, float, float], Attacked]()
    for path in paths:
        whole = read_attack(path.name, path.parent)
        if not len(whole.frame):
            raise ValueError(f"{path}: there are no records in it")
        for (norm, epsilon, sigma), frame in whole.frame.groupby(["norm", "epsilon", "sigma"], dropna=False):
            each = Attacked(str(path), frame.sort_values("index", ignore_index=True), whole.made)
            if (norm, epsilon, 0.0 if np.isnan(sigma) else sigma) in found:
                raise ValueError(f"{path}: the attack within {ball_text(each)} is there twice; name each once")
            found[norm, epsilon, 0.0 if np.isnan(sigma) else sigma] = each
    attacks = [found[key] for key in sorted(found)]
    for each in attacks[1:]:
        columns = ["index", "label", "model"]
        if not each.frame[columns].equals(attacks[0].frame[columns]):
            raise ValueError(f"{each.path}: its network and images (index, label) should be those of {attacks[0].path}")
    return attacks


def l2_results(attacks: Iterable[Attacked]) -> dict[float, AttackResult]:
    """Return epsilon → what an attack of the base classifier in l2 left, which a chart of certified radii can show."""
    return {
        float(each.frame["epsilon"].iloc[0]): AttackResult(
            (each.frame["prediction"] == each.frame["label"]).to_numpy()[None],
            each.frame["robust"].to_numpy(bool)[None],
            "l2",
            attack_method(each.frame),
        )
        for each in attacks
        if each.frame["norm"].iloc[0] == "l2" and each.frame["sigma"].isna().all()
    }


def ball_text(attack: Attacked) -> str:
    """Return the ball that was searched in words, and the σ of a smoothed classifier."""
    first = attack.frame.iloc[0]
    smoothed = "" if np.isnan(first["sigma"]) else f", smoothed at σ = {first['sigma']:g}"
    return f"{NORMS[first['norm']]} ≤ {first['epsilon']:g}{smoothed}"


def attack_sections(attacks: Sequence[Attacked]) -> list[Section]:
    """Return for each norm the table of what attacks left, a row for each, and the curves over ε."""
    norms: dict[BallNorm, None] = dict.fromkeys(each.frame["norm"].iloc[0] for each in attacks)
    return [_section(norm, [each for each in attacks if each.frame["norm"].iloc[0] == norm]) for norm in norms]


def _section(norm: BallNorm, attacks: Sequence[Attacked]) -> Section:
    rows = []
    for each in attacks:
        found, distance = robustness(each.frame), each.frame["distance"].dropna()
        shares = [found["standard_accuracy"], found["robust_accuracy"]]
        cells = [
            *(_percent(share["share"], share["interval"]) for share in shares),
            *(Cell(f"{value:.3f}" if len(distance) else "", False) for value in (distance.min(), distance.median())),
            Cell(f"{found['evaluations'] / found['n']:,.0f}", False),
        ]
        title = ball_text(each)
        rows.append(TableRow(title, OurRow("", title, ("", ""), None, np.nan, tuple(cells)), None))
    title = f"Under attack in {NORMS[norm]}"
    return Section(
        f"attacks_{norm}",
        title,
        "SA is the share of the test images that the classifier answers right, RA the share that it still answers "
        "right after the attack. RA is an upper bound, for a stronger attack may find more. Nearest and median: "
        "distances of the points that were found. The curves are over all attacks here: images that are right and "
        "have no point found within ε. Without a σ the attack is of the base classifier, without noise.",
        notes=" ".join(f"{ball_text(each)}: {attack_method(each.frame)}." for each in attacks),
        columns=["SA", "RA", "nearest", "median", "evaluations"],
        blocks=[("", rows)],
        chart=charts.chart(
            _curves(attacks),
            title=f"Accuracy under attack in {NORMS[norm]}",
            x="radius ε",
            y="accuracy under attack",
            percent=True,
            step=True,
        ),
    )


def _curves(attacks: Sequence[Attacked]) -> pd.DataFrame:
    """Return for each classifier the share that is right and for which no attack found a point within a distance.

    It is at least the accuracy under attack at that ε.
    """
    named = [
        ("base classifier" if np.isnan(s := each.frame["sigma"].iloc[0]) else f"σ = {s:g}", each) for each in attacks
    ]
    epsilons = {float(each.frame["epsilon"].iloc[0]) for each in attacks}
    return pd.concat(
        [
            _curve(name, [each.frame for other, each in named if other == name], np.array(sorted(epsilons)))
            for name in dict.fromkeys(name for name, _ in named)
        ],
        ignore_index=True,
    )


def _curve(name: str, frames: Sequence[pd.DataFrame], epsilons: Floats) -> pd.DataFrame:
    # A point may lie beyond epsilon by its rounding; what has none and is not robust was wrong without an attack.
    found = [
        frame["distance"].clip(upper=frame["epsilon"].iloc[0]).where(~frame["robust"], np.inf).fillna(0.0)
        for frame in frames
    ]
    largest = max(frame["epsilon"].iloc[0] for frame in frames)
    within = np.union1d(np.linspace(0, largest, POINTS), epsilons[epsilons <= largest])
    images = len(frames[0])
    counts = (np.min(found, 0) > within[:, None]).sum(1)
    low, high = share_interval(counts, images)
    return pd.DataFrame(
        {"panel": "", "curve": name, "oracle": False, "x": within, "y": counts / images}
        | {"low": low, "high": high, "images": images}
    )


def _percent(share: float, interval: Sequence[float]) -> Cell:
    low, high = (f"{100 * end:.0f}" for end in interval)
    return Cell(f"{100 * share:.1f}", False, low=low, high=high)


def check_same(attacks: Sequence[Attacked], certified: Certification) -> None:
    """Raise ValueError, naming the file, unless attacks are of the network of a certification, and of its images."""
    known = certified.rows.drop_duplicates("index").set_index("index")
    for each in attacks:
        if set(each.frame["model"]) != set(certified.frame["model"]):
            raise ValueError(f"{each.path}: its model should be the same as in {certified.path}")
        both = each.frame[each.frame["index"].isin(known.index)]
        of_both = known.loc[both["index"]]
        same = len(both) and (of_both["label"].to_numpy() == both["label"].to_numpy()).all()
        pictures = of_both["picture"] if "picture" in known else pd.Series([None])
        hashed = each.made.get("data", {}).get("pictures")
        if same and hashed and len(both) == len(each.frame) and pictures.notna().all():
            same = attacked.pictures_hash(dict(zip(both["index"].tolist(), pictures, strict=True))) == hashed
        if not same:
            raise ValueError(f"{each.path}: its images should be among those of {certified.path}")


def beside_sections(
    attacks: Sequence[Attacked], certified: Certification, names: Sequence[str]
) -> tuple[list[Section], list[str]]:
    """Return a table for each attack in l2, an image a row, and in words what contradicts a certificate.

    names: of the classes, by label; numbers stand for them where they are unknown.
    """
    sections, contradicted = list[Section](), list[str]()
    for number, attack in enumerate((each for each in attacks if each.frame["norm"].iloc[0] == "l2"), 1):
        frames, own = dict(curves(certified)), _same_classifier(attack, certified)
        if own is None:
            broken, finding = dict[int, float](), ""
            caption = "Attack and certificate are of two classifiers, so a point within a radius contradicts nothing."
        else:
            frames = {own: frames[own]}
            beside = contradictions(attack.frame, frames[own])
            broken = beside[beside["broken"]].set_index("index")["distance"].to_dict()
            caption = "Attack and certificate are of one classifier: the radius R is a lower bound of the distance to "
            caption += "another class, the distance of a point that was found an upper one."
            finding = f"None of {len(beside)} certified images with a point is broken within its radius."
            if broken:
                answered = float(attack.made.get("spec", {}).get("alpha", np.nan))
                said = contradiction_text(beside, float(frames[own]["alpha"].max()), answered)
                contradicted.append(said)
                finding = f"Contradiction: {said}."
        rows = _rows(attack.frame, frames, names, broken)
        some = f"Below: the {MOST} of {len(rows)} images whose points are nearest to R." if len(rows) > MOST else ""
        notes = " ".join(filter(None, (finding, some)))
        head = ["image", "class", "attack", *(f"R at σ {name}" for name in frames), "distance"]
        title = f"Certified and attacked: {ball_text(attack)}"
        table = (head, rows[:MOST])
        sections.append(Section(f"beside-{number}", title, caption, notes, finding, plain=table, keys=3))
    return sections, contradicted


def _same_classifier(attack: Attacked, certified: Certification) -> str | None:
    """Return the σ, in words, of the certified classifier that was attacked; None where that is not certified."""
    first = attack.frame.iloc[0]
    if certified.stages or certified.transductive:
        return None
    for name, frame in curves(certified):
        if (frame["sigma"] == first["sigma"]).all() and (frame["dtype"] == first["dtype"]).all():
            return name
    return None


def _rows(
    attack: pd.DataFrame, frames: Mapping[str, pd.DataFrame], names: Sequence[str], broken: Mapping[int, float]
) -> list[list[str]]:
    """Return a row for each image that is certified too, by how far its point is above R: contradictions come first."""
    by_image = {name: {row["index"]: row for row in frame.to_dict("records")} for name, frame in frames.items()}
    found = []
    for row in attack.to_dict("records"):
        index = row["index"]
        certificates = [rows[index] for rows in by_image.values() if index in rows]
        if not certificates:
            continue
        radius = max(float(each["radius"]) for each in certificates)
        distance = broken.get(index, row["distance"])
        outcome = "✗ contradiction: " if index in broken else ""
        outcome += _outcome(row, names)
        cells = [str(index), _name(row["label"], names), outcome, *(_radius(each, names) for each in certificates)]
        cells.append("" if np.isnan(distance) else f"{distance:.3f}")
        near = np.inf if np.isnan(distance) else distance - radius
        found.append((near, index, cells))
    return [cells for *_, cells in sorted(found)]


def _outcome(row: Mapping[str, Any], names: Sequence[str]) -> str:
    if row["robust"]:
        return "robust"
    if row["prediction"] != row["label"]:
        return "abstains" if row["prediction"] < 0 else f"wrong before: {_name(row['prediction'], names)}"
    return f"→ {_name(row['adversarial'], names)}"


def _radius(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a certified radius as it is printed, with its class where that is not the label."""
    if row["prediction"] < 0:
        return "abstains"
    other = "" if row["prediction"] == row["label"] else f" for {_name(row['prediction'], names)}"
    return f"{row['radius']:.3f}{other}"


def _name(label: float, names: Sequence[str]) -> str:
    return names[int(label)] if label < len(names) else f"{label:.0f}"
