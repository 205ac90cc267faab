"""Edit files of each kind at random, read them, and count what should not come of it.

    python benchmarks/faults/edits.py --edits 10000 --seed 0
    python benchmarks/faults/edits.py --edits 10000 --kinds params

Bytes are edited of
params    the YAML of a study         a fault in one line that names a file, or a plan
records   Parquet with a seal         a fault in one line, or the same rows: another row would be a wrong number
logs      the field's text            a fault in one line, or rows; a digit that changed cannot be known
cards     model.json of a checkpoint  a fault in one line, or the same card
pictures  PNG in folders of classes   a fault in one line, or images in [0, 1] of the side asked for
formats   pictures of other formats   the same; most have no checksum, so that other pixels cannot be known

Values are edited, and then sealed as a stranger would, of
values           params               a fault in one line that names a file, or a plan
sealed_cards     model.json           what `publish` does with it: a fault in one line, or a folder
sealed_records   columns, metadata    what `accuracy`, `audit` and `export-log` do with them
sealed_reports   the same             what `report` does with them, which takes a second

Anything else that is raised is a traceback for a user; what takes longer than LONGEST is a hang.

A line of JSON with the counts so far is written every EVERY seconds and at the end of a kind.  Each edit has a random
generator of its own, so that one of those that should not be can be made again by its number alone.
"""

import argparse
import copy
import hashlib
import json
import math
import random
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import timm
import yaml
from PIL import Image
from typer.testing import CliRunner

from transmooth.checkpoint import weights
from transmooth.checkpoint.card import read_card
from transmooth.cli.main import app
from transmooth.loading.images import load_images
from transmooth.models.build import Network
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.records import logs
from transmooth.records import table as records

LONGEST = 20  # seconds
EVERY = 10  # seconds
KINDS = ["params", "records", "logs", "cards", "pictures", "formats"]
KINDS += ["values", "sealed_cards", "sealed_records", "sealed_reports"]
ROOT = Path(__file__).parents[2]
WORDS = [
    b"\t",
    b";",
    b",",
    b"\n",
    b"-1",
    b"nan",
    b"1e30",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\x00",
    b"\xff",
    b'"',
    b"|",
    b": ",
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 10**9, 2**63, 10**30, 0.5, -0.0, 1e-300, 1e308, math.inf, math.nan),
    *(
        "",
        " ",
        "a|b",
        "<b>",
        "\u202e",
        "\ud800",
        "\x00",
        "x" * 5000,
        "../../x",
        "1",
        "nan",
        "all",
        "cohen",
        "sequential",
    ),
    *([], {}, [[]], [0.5], [0.5] * 3, [1, 2], ["a"], ["a", "a"], {"a": {}}, {"": None}, [None], [{}]),
]


def edited(content: bytes, chance: random.Random) -> bytes:
    """One to three edits: a byte flipped, a part cut out, doubled or moved, a word put in, the end cut off."""
    for _ in range(chance.randint(1, 3)):
        at, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        end = min(end, at + chance.choice([1, 2, 8, 64]))
        kind = chance.randrange(6)
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[end:]
        elif kind == 2:
            content = content[:end] + content[at:]
        elif kind == 3:
            to = chance.randrange(len(content) + 1)
            content = content[:to] + content[at:end] + content[to:]
        elif kind == 4:
            content = content[:at] + chance.choice(WORDS) + content[at:]
        else:
            content = content[:at] if chance.random() < 0.3 else content[:at] + chance.choice(WORDS) + content[end:]
    return content


def edit_bytes(path: Path, chance: random.Random) -> None:
    """Edit a file as `edited` does."""
    path.write_bytes(edited(path.read_bytes(), chance))


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Give the dicts and lists within each other, each with each of its keys or positions."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


def edit_values(content: Any, chance: random.Random) -> None:
    """One or two values replaced by another, by an absurd one, left out, or put into a list."""
    for _ in range(chance.randint(1, 2)):
        there = list(places(content))
        if not there:
            return
        inside, key = chance.choice(there)
        kind = chance.randrange(6)
        if kind == 0:
            del inside[key]
        elif kind == 1:
            inside[key] = [inside[key]]
        elif kind == 2:
            other, at = chance.choice(there)
            inside[key] = copy.deepcopy(other[at])
        else:
            inside[key] = copy.deepcopy(chance.choice(VALUES))


def edit_yaml(path: Path, chance: random.Random) -> None:
    """Edit values of a file of params."""
    content = yaml.safe_load(path.read_text())
    edit_values(content, chance)
    path.write_text(yaml.safe_dump(content, sort_keys=False), errors="surrogatepass")


def edit_card(path: Path, chance: random.Random) -> None:
    """Edit values of a card, and seal it."""
    card = read_card(path.parent)
    edit_values(card, chance)
    # As a stranger's own writer would; transmooth's refuses what is no text.
    card["format"] = 2
    card["checksum"] = hashlib.sha256(canonical(card)).hexdigest()
    path.write_bytes(canonical(card))


def canonical(card: dict[str, Any]) -> bytes:
    """The bytes of a card, half a surrogate pair as the escape that JSON has for it."""
    text = json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text).encode()


def edit_records(path: Path, chance: random.Random) -> None:
    """Edit cells, or what the file says it was made with, and seal it."""
    table, made = records.read(path), records.metadata(path)
    if chance.random() < 0.4:
        edit_values(made, chance)
    else:
        columns = table.to_pydict()
        for name in chance.sample(sorted(columns), chance.randint(1, 2)):
            value = chance.choice([*VALUES, *columns[chance.choice(sorted(columns))]])
            rows = range(len(table)) if chance.random() < 0.3 else [chance.randrange(len(table))]
            for at in rows:
                columns[name][at] = value
            try:
                column = pa.array(columns[name], table.schema.field(name).type)
            except (pa.ArrowException, TypeError, OverflowError, ValueError):
                try:
                    column = pa.array(columns[name])  # of another type than it should be
                except (pa.ArrowException, OverflowError, ValueError):
                    continue  # which no file can hold
            table = table.set_column(table.schema.get_field_index(name), name, column)
            columns[name] = column.to_pylist()
    try:
        records.seal(records.with_metadata(table, made), path)
    except (pa.ArrowException, ValueError):
        return  # which no file can hold


def command(*arguments: object) -> str:
    """Run `transmooth`.  Raises ValueError with what it says after a fault, or as the command does."""
    run = CliRunner().invoke(app, [str(each) for each in arguments])
    if run.exception is not None and not isinstance(run.exception, SystemExit):
        raise run.exception
    if run.exit_code:
        notes = [line for line in run.stderr.splitlines() if not line.startswith("note: ")]
        raise ValueError("\n".join(notes))
    return run.stdout


def row(index: int) -> dict[str, Any]:
    """A row of records."""
    known = {
        "index": index,
        "label": index % 3,
        "prediction": index % 3,
        "radius": 0.1 + index / 100,
        "selected": index % 3,
    }
    settings = {"method": "cohen", "sigma": 0.25, "alpha": 0.001, "n0": 100, "n": 1000, "top_count": 900, "seed": 0}
    named = {"file": f"a/{index}.png", "picture": f"{index:032x}", "engine": "eager", "batch": 32, "runner_up": 50}
    return known | settings | named | {"evaluations": 1100, "dtype": "fp32", "model": "abc", "seconds": 0.5}


@dataclass(frozen=True)
class Kind:
    """The files to edit, what reads them, whether an edit must not change what is read, and what edits a file."""

    paths: list[Path]
    read: Callable[[], Any]
    same: bool = False
    edit: Callable[[Path, random.Random], None] = edit_bytes


def kinds(folder: Path) -> dict[str, Kind]:
    """Write sound files of every kind and return what to do with them, by kind."""
    spec: dict[str, Any] = {
        "kind": "certify",
        "method": "cohen",
        "sigmas": [0.25],
        "images": "all",
        "n0": 100,
        "n": 1000,
    }
    spec |= {"alpha": 0.001, "seed": 0, "dtype": "fp32", "radii": None, "tolerance": None}
    made: dict[str, Any] = {
        "spec": spec,
        "model": {"architecture": "checkpoint", "model": "m", "sha256": "abc"},
        "commit": "c" * 40,
    }
    made |= {"data": {"classes": list("abc"), "images": "pics"}, "versions": {"torch": "2"}}
    parquet, log, card = folder / "r.parquet", folder / "log.tsv", folder / "model" / "model.json"
    records.write(records.from_rows([row(i) for i in range(20)], made), parquet)
    logs.write(records.read(parquet).to_pandas(), log)
    network = Network(timm.create_model("test_resnet", num_classes=3), [0.5] * 3, [0.25] * 3)
    layers: dict[str, Any] = {"name": "test_resnet", "stem": "imagenet", "norm": "own", "groups": 1, "options": {}}
    schedule: dict[str, Any] = {"epochs": 1, "batch": 4, "optimizer": "adamw", "weight_decay": 0.0}
    schedule |= {"precision": "fp32"}
    trained: dict[str, Any] = {
        "schedule": schedule,
        "trainable": "all",
        "sigmas": [0.0, 0.25],
        "objective": "cross_entropy",
    }
    trained |= {"augment": [], "seed": 0, "run": {"dataset": "digits"}}
    known: dict[str, Any] = {
        "network": layers,
        "classes": list("abc"),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "size": 32,
    }
    known |= {"spec": trained, "data": "d" * 64, "start": None, "lr": 0.01, "test": {"correct": 5, "images": 10}}
    weights.save(card.parent, network, known | {"versions": {"torch": "2"}, "commit": None})
    formats = ("bmp", "gif", "jpg", "tif", "webp", "ppm", "jp2")
    for k, name in enumerate("abc"):
        (folder / "pics" / name).mkdir(parents=True)
        (folder / "more" / name).mkdir(parents=True)
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pics" / name / "0.png")
        for suffix in formats:
            Image.fromarray(pixels).save(folder / "more" / name / f"{suffix}.{suffix}")
    shutil.copytree(ROOT / "params", folder / "params")

    def pictures(where: str) -> bool:
        images = load_images(str(folder / where), size=8)
        images.pictures(range(len(images)))
        return all(images.fetch(i).shape == (3, 8, 8) and 0 <= images.fetch(i).min() <= 1 for i in range(len(images)))

    def published() -> None:
        try:
            command("publish", card.parent, "a/b", "--out", folder / "out")
        finally:
            shutil.rmtree(folder / "out", ignore_errors=True)

    def asked() -> None:
        command("accuracy", parquet, "--by-class")
        command("accuracy", parquet, "--alpha", 0.01)
        command("audit", parquet)
        command("export-log", parquet, folder / "out.tsv")

    def reported() -> None:
        command("report", parquet, "--out", folder / "out.html")

    studies = [folder / "params" / name for name in ("studies/smoke.yaml", "recipes.yaml", "datasets.yaml")]

    def planned() -> None:
        assert Plan(load("smoke", folder)).runs

    return {
        "params": Kind(studies, planned),
        "records": Kind([parquet], lambda: records.read(parquet).to_pylist(), True),
        "logs": Kind([log], lambda: command("accuracy", log) and None),
        "cards": Kind([card], lambda: weights.load(card.parent)[1], True),
        "pictures": Kind(sorted((folder / "pics").rglob("*.*")), lambda: pictures("pics"), True),
        "formats": Kind(sorted((folder / "more").rglob("*.*")), lambda: pictures("more")),
        "values": Kind([*studies, folder / "params" / "tables" / "mixed_noise.yaml"], planned, edit=edit_yaml),
        "sealed_cards": Kind([card], published, edit=edit_card),
        "sealed_records": Kind([parquet], asked, edit=edit_records),
        "sealed_reports": Kind([parquet], reported, edit=edit_records),
    }


class HangError(Exception):
    """Reading takes longer than LONGEST.  It is no OSError, as TimeoutError is: the readers turn those into faults."""


def run(kind: str, edits: int, seed: int, folder: Path) -> None:
    """Edit, read and put back, again and again, and print how often what came of it."""
    asked = kinds(folder)[kind]
    sound, found, started, printed = asked.read(), Counter[str](), time.monotonic(), time.monotonic()
    odd: list[str] = []  # what should not be, by the number of the edit
    slowest = 0.0  # seconds
    for k in range(edits):
        chance = random.Random(f"{kind} {seed} {k}")
        path = chance.choice(asked.paths)
        content = path.read_bytes()
        asked.edit(path, chance)
        begun = time.monotonic()
        signal.alarm(LONGEST)
        try:
            value = asked.read()
            outcome = "silently changed" if asked.same and value != sound else "read"
        except HangError:
            outcome = "hangs"
        except (ValueError, OSError) as error:
            lines = str(error).strip().splitlines()
            # The params have a line for each fault.
            outcome = "refused" if len(lines) == 1 or (lines and kind in ("params", "values")) else "not in one line"
        except Exception as error:  # what a user would see as a traceback
            outcome = "tracebacks"
            odd.append(f"{k}: {type(error).__name__}: {str(error)[:80]}")
        finally:
            signal.alarm(0)
            path.write_bytes(content)
        slowest = max(slowest, time.monotonic() - begun)
        found[outcome] += 1
        if outcome in ("silently changed", "hangs", "not in one line"):
            odd.append(f"{k}: {outcome}")
        if time.monotonic() - printed > EVERY or k + 1 == edits:
            printed = time.monotonic()
            took = {"seconds": round(printed - started), "slowest": round(slowest, 2)}
            print(json.dumps({"kind": kind, "edits": k + 1, **found, **took, "odd": odd}), flush=True)


def main() -> None:
    """Run every kind, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")

    def late(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, late)
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as folder:
            run(kind, asked.edits, asked.seed, Path(folder))


if __name__ == "__main__":
    main()
