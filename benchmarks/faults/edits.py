"""Edit files of each kind at random, read them, and count what should not come of it.

    python benchmarks/faults/edits.py --edits 1000 --seed 0 --json

params    the YAML of a study         a fault in one line that names a file, or a plan
records   Parquet with a seal         a fault in one line, or the same rows: another row would be a wrong number
logs      the field's text            a fault in one line, or rows; a digit that changed cannot be known
cards     model.json of a checkpoint  a fault in one line, or the same card
pictures  PNG in folders of classes   a fault in one line, or images in [0, 1] of the side asked for

Anything else that is raised is a traceback for a user; what takes longer than LONGEST is a hang.
"""

import argparse
import json
import random
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import timm
from PIL import Image

from transmooth.checkpoint import weights
from transmooth.loading.images import load_images
from transmooth.models.build import Network
from transmooth.params.load import load
from transmooth.plan import Plan
from transmooth.records import logs
from transmooth.records import table as records

LONGEST = 20  # seconds
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
    return known | settings | {"evaluations": 1100, "dtype": "fp32", "model": "abc", "seconds": 0.5}


def kinds(folder: Path) -> dict[str, tuple[list[Path], Callable[[], Any], bool]]:
    """By kind: the files to edit, what reads them, and whether an edit must not change what is read."""
    records.write(records.from_rows([row(i) for i in range(20)], {"spec": {"n": 1000}}), folder / "r.parquet")
    frame = records.read(folder / "r.parquet").to_pandas()
    logs.write(frame, folder / "log.tsv")
    network = Network(timm.create_model("test_resnet", num_classes=3), [0.5] * 3, [0.25] * 3)
    layers = {"name": "test_resnet", "stem": "imagenet", "norm": "own", "groups": 1, "options": {}}
    card = {"network": layers, "classes": list("abc"), "mean": [0.5] * 3, "std": [0.25] * 3, "size": 32}
    weights.save(folder / "model", network, card)
    for k, name in enumerate("abc"):
        (folder / "pics" / name).mkdir(parents=True)
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pics" / name / "0.png")
    shutil.copytree(ROOT / "params", folder / "params")

    def pictures() -> bool:
        images = load_images(str(folder / "pics"), size=8)
        images.pictures(range(len(images)))
        return all(images.fetch(i).shape == (3, 8, 8) and 0 <= images.fetch(i).min() <= 1 for i in range(len(images)))

    studies = [folder / "params" / name for name in ("studies/smoke.yaml", "recipes.yaml", "datasets.yaml")]
    return {
        "params": (studies, lambda: Plan(load("smoke", folder)).runs and None, False),
        "records": ([folder / "r.parquet"], lambda: records.read(folder / "r.parquet").to_pylist(), True),
        "logs": ([folder / "log.tsv"], lambda: len(logs.read_any(folder / "log.tsv")) and None, False),
        "cards": ([folder / "model" / "model.json"], lambda: weights.load(folder / "model")[1], True),
        "pictures": (sorted((folder / "pics").rglob("*.png")), pictures, True),
    }


def run(kind: str, edits: int, seed: int, folder: Path) -> Counter[str]:
    """Edit, read and put back, again and again; returns how often what came of it."""
    paths, read, same = kinds(folder)[kind]
    sound, found, chance = read(), Counter[str](), random.Random(f"{kind} {seed}")
    for _ in range(edits):
        path = chance.choice(paths)
        content = path.read_bytes()
        path.write_bytes(edited(content, chance))
        signal.alarm(LONGEST)
        try:
            value = read()
            found["silently changed" if same and value != sound else "read"] += 1
        except TimeoutError:
            found["hangs"] += 1
        except (ValueError, OSError) as error:
            found["told" if "\n" not in str(error).strip() or kind == "params" else "in several lines"] += 1
        except Exception as error:  # what a user would see as a traceback
            found["tracebacks"] += 1
            found[f"{type(error).__name__}: {str(error)[:80]}"] += 1
        finally:
            signal.alarm(0)
            path.write_bytes(content)
    return found


def main() -> None:
    """Run every kind, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=["params", "records", "logs", "cards", "pictures"])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
            found = run(kind, asked.edits, asked.seed, Path(folder))
            print(json.dumps({"kind": kind, **found}) if asked.json else f"{kind}: {dict(found)}", flush=True)


if __name__ == "__main__":
    main()
