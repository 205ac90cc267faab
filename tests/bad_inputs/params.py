"""Params: the YAML itself, its values, names that reach a shell, and the paths that it names."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.bad_inputs import Case
from tests.conftest import ROOT
from tests.helpers.workflow import TABLES, TINY
from transmooth.params.load import load as load_params
from transmooth.params.present import check_sources
from transmooth.plan import Plan

STAGE = Path("params")
NAME = "String should match pattern '^[a-z0-9][a-z0-9_]*$'"
PICTURES = {"kind": "imagefolder", "root": "pictures", "splits": {"train": ["train"], "test": ["test"]}}
# Small, so that it is read fast.
SOUND: dict[str, dict[str, Any]] = {
    "recipes": {
        "networks": {
            "layer_norm": {"norm": "layer"},
            "wide": {"name": "resnet50", "options": {"zero_init_last": False}},
            "unet": {"name": "unet2d", "options": {"unet": {"block_out_channels": [8, 16]}}},
        },
        "recipes": {
            "mixed": {"sigmas": [0.0, 0.5]},
            "clean": {"sigmas": [0.0], "epochs": 1},
            "kept": {"epochs": 0},
            "noise": {"objective": "denoise", "sigmas": [0.5]},
            "denoised": {"denoiser": "unet/noise@upstream"},
        },
        "evaluations": {
            "certify": {"kind": "certify", "sigmas": [0.25, 0.5]},
            "shift": {"kind": "shift", "sigmas": [0.5], "images": 2},
            "one": {"kind": "certify", "sigmas": [0.5]},
            "cascade": {"kind": "multi_sigma", "method": "cascade", "sigmas": [0.5, 0.25], "thresholds": [0.1, 0]},
        },
    },
    "datasets": {
        "datasets": {
            "digits": {"source": {"kind": "digits", "test": 500}, "size": 16, "sha256": "0" * 64},
            "characters": {"source": {"kind": "characters", "train": 62, "test": 62}, "size": 16, "augment": ["crop"]},
            "mine": {"source": PICTURES, "size": 16},
        }
    },
    "tables/tiny": TABLES
    | {
        "tables": TABLES["tables"]
        | {
            "cleaned": {
                "title": "Cleaned",
                "caption": "Of a task.",
                "columns": ["acr"],
                "tasks": ["downstream"],
                "rows": [
                    {"label": "x", "runs": [{"train": ["clean@task", "kept@task"], "evaluate": ["one", "cascade"]}]},
                    {"label": "theirs", "files": [{"sigma": 0.5, "file": "theirs.tsv"}]},
                ],
            }
        }
    },
    "studies/smoke": TINY | {"report": [*TINY["report"], "cleaned"]},
}


def stage(folder: Path) -> None:
    """Write SOUND into a folder."""
    folder.mkdir()
    shutil.copy(ROOT / "params" / "published.csv", folder)
    for file, content in SOUND.items():
        path = folder / f"{file}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))


def specs(plan: Plan) -> list[str]:
    """Every spec of a plan, as its jobs get them."""
    made = [plan.train_spec(run).text for run in plan.runs.values()]
    made += [plan.evaluate_spec(run, name).text for run, name in plan.evaluations]
    made += [plan.prepare_spec(name) for name in plan.datasets]
    made += [spec.text for spec in plan.networks.values()]
    reports = [
        *map(plan.table_spec, plan.tables),
        *map(plan.figure_spec, plan.figures),
        *map(plan.shift_spec, plan.shifts),
        *map(plan.course_spec, plan.courses),
        *map(plan.gains_spec, plan.gains),
    ]
    return [*made, *(spec.text for spec in reports), plan.page_spec().text]


def load() -> str:
    """Load ./params and make every spec of the smoke study."""
    loaded = load_params("smoke", Path())
    plan = Plan(loaded)
    check_sources(loaded, plan.datasets, Path())
    return f"{len(specs(plan))} specs"


def edited(*edits: tuple[str, str, str]) -> str:
    """Load SOUND with other words in it: (file, old, new)."""
    stage(STAGE)
    for file, old, new in edits:
        path = STAGE / file
        text = path.read_text(encoding="utf-8")
        assert old in text, old
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return load()


def changed(old: str, new: str, file: str = "studies/smoke.yaml") -> Callable[[], str]:
    return lambda: edited((file, old, new))


def written(content: bytes, file: str = "studies/smoke.yaml", *, before: bool = False) -> Callable[[], str]:
    """In place of a file, or before what it holds."""

    def use() -> str:
        stage(STAGE)
        path = STAGE / file
        path.write_bytes(content + path.read_bytes() if before else content)
        return load()

    return use


def replaced(how: Callable[[Path], object], file: str = "studies/smoke.yaml") -> Callable[[], str]:
    def use() -> str:
        stage(STAGE)
        (STAGE / file).unlink()
        how(STAGE / file)
        return load()

    return use


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything; nobody may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def unreadable() -> str:
    stage(STAGE)
    Path().chmod(0o755)
    (STAGE / "studies" / "smoke.yaml").chmod(0)
    with nobody():
        return load()


def pictures(root: str, make: Callable[[Path], object]) -> Callable[[], str]:
    """A study of a folder of images, whose root `make` makes."""

    def use() -> str:
        make(Path(root))
        return edited(
            ("datasets.yaml", "root: pictures", f"root: {yaml.safe_dump(root, width=1000).splitlines()[0]}"),
            ("studies/smoke.yaml", "dataset: digits", "dataset: mine"),
        )

    return use


def folders(root: Path) -> None:
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)


BOMB = "bomb:\n- &a0 [1, 1]\n" + "".join(f"- &a{k + 1} [*a{k}, *a{k}]\n" for k in range(20))
SMOKE = "params/studies/smoke.yaml"
DATASETS = "params/datasets.yaml"
TABLES_FILE = "params/tables/tiny.yaml"
STAGE_NAME = "String should match pattern '^[a-z0-9][a-z0-9_]*@[a-z0-9][a-z0-9_]*$'"
RUN_NAME = "String should match pattern '^(default|[a-z0-9][a-z0-9_]*(/[a-z0-9][a-z0-9_]*@[a-z0-9][a-z0-9_]*)+)$'"
WORD = "    stem_type: deep"
VALUE = f"{SMOKE}: network.options.stem_type: should be text, a number, a list or a mapping, found "
ENDLESS = f"{SMOKE}: holds more than 100000 values: an alias (*name) that holds itself, or too many of them"

CASES = [
    Case(
        "a tab that indents",
        f"{SMOKE}: line …: while scanning for the next token, found character '\\t' that cannot start any token",
        changed("    epochs: 1", "\tepochs: 1"),
    ),
    Case(
        "two YAML documents in a file",
        f"{SMOKE}: line …: expected a single document in the stream, but found another document",
        changed("roles:", "a: 1\n---\nroles:"),
    ),
    Case(
        "a YAML tag with code in it, `!!python/object/apply:os.system`",
        f"{SMOKE}: line …: could not determine a constructor for the tag '…:python/object/apply:os.system'",
        changed("seeds:\n- 0", 'seeds: !!python/object/apply:os.system ["touch ran"]'),
    ),
    Case(
        "a value that is not of its tag, `!!bool maybe`",
        f"{SMOKE}: a value that is not of its kind: 'maybe'",
        changed("- 0\n", "- !!bool maybe\n"),
    ),
    Case(
        "a file in Latin-1",
        f"{SMOKE}: should be UTF-8, found the byte 0xe9",
        written("# é\n".encode("latin-1"), before=True),
    ),
    Case(
        "a file in UTF-16",
        f"{SMOKE}: should be UTF-8, found the byte 0xff",
        written("seeds:\n- 0\n".encode("utf-16")),
    ),
    Case("a byte-order mark", "read: … specs", written("\ufeff".encode(), before=True)),
    Case("an empty file", f"{SMOKE}: should be a mapping of keys to values, found nothing", written(b"")),
    Case("lists in lists, 3000 deep", f"{SMOKE}: nested too deeply", written(b"a: " + b"[" * 3000 + b"]" * 3000)),
    Case("aliases that double, twenty times", ENDLESS, written(BOMB.encode())),
    Case("an alias that holds itself", ENDLESS, changed(WORD, "    stem_type: &a [*a]")),
    Case("a merge key, `<<: *alias`", "read: … specs", changed("finetune:\n", "finetune:\n    <<: {}\n")),
    Case("an empty key", f"{SMOKE}: line …: a key should be a word, found None", changed("roles:", "~: 1\nroles:")),
    Case(
        "a list as a key",
        f"{SMOKE}: line …: a key should be a word, found ['a']",
        changed("roles:", "? [a]\n: 1\nroles:"),
    ),
    Case(
        'a NUL, "\\0", in a text',
        f"{SMOKE}: line …: should be printable text, found 'a\\x00b'",
        changed("name: resnet18", 'name: "a\\0b"'),
    ),
    Case(
        'half a character, "\\ud800"',
        f"{SMOKE}: line …: should be printable text, found '\\ud800'",
        changed("name: resnet18", 'name: "\\ud800"'),
    ),
    Case(
        "a number of 5000 digits",
        f"{SMOKE}: a value that is not of its kind: Exceeds the limit (4300 digits) …",
        changed("  n: 100", "  n: " + "9" * 5000),
    ),
    Case(
        "a seed beyond 64 bits",
        f"{SMOKE}: seeds[0]: should be less than or equal to {2**63 - 1}, found 1{30 * '0'}",
        changed("seeds:\n- 0", f"seeds:\n- {10**30}"),
    ),
    Case("a date in options", f"{VALUE}datetime.date(2020, 1, 1)", changed(WORD, "    stem_type: 2020-01-01")),
    Case("bytes in options", f"{VALUE}b'hi'", changed(WORD, "    stem_type: !!binary aGk=")),
    Case(
        "NaN",
        f"{SMOKE}: schedules.pretrain.weight_decay: should be greater than or equal to 0, found nan",
        changed("weight_decay: 0.0", "weight_decay: .nan"),
    ),
    Case(
        "a number too large for a float",
        f"{SMOKE}: certify.alpha: should be less than 0.5, found inf",
        changed("alpha: 0.01", "alpha: 1.0e+400"),
    ),
    Case("a number as text, `1e-3` to YAML", "read: … specs", changed("lr:\n    - 0.003", "lr:\n    - 1e-3")),
    Case("a folder in place of the file", f"{SMOKE}: cannot be read: Is a directory", replaced(Path.mkdir)),
    Case(
        "a link to itself in place of the file",
        f"{SMOKE}: cannot be read: Too many levels of symbolic links",
        replaced(lambda path: path.symlink_to(path.name)),
    ),
    Case("a file that one may not read", f"{SMOKE}: cannot be read: Permission denied", unreadable),
    *(
        Case(
            f"a dataset called `{name}`",
            f"{DATASETS}: datasets.{name}: {NAME}, found {name!r}",
            changed("  digits:", f"  {name!r}:", "datasets.yaml"),
        )
        for name in ("digits; touch ran", "$(touch ran)", "../digits", "{output}", "ziffern-ü")
    ),
    Case(
        "a recipe called `clean && touch ran`",
        f"params/recipes.yaml: recipes.clean && touch ran: {NAME}, found 'clean && touch ran'",
        changed("  clean:", "  clean && touch ran:", "recipes.yaml"),
    ),
    *(
        Case(
            f"a stage `{text}`",
            f"{TABLES_FILE}: tables.table3.rows[0].train[0]: {STAGE_NAME}, found {text!r}",
            changed("mixed@upstream", json.dumps(text), "tables/tiny.yaml"),
        )
        for text in ("mixed@upstream/../../x", "mixed@$(touch ran)", "mixed@upstream\n", "mixed", "../mixed@upstream")
    ),
    Case(
        "a denoiser `../unet/noise@upstream`",
        f"params/recipes.yaml: recipes.denoised.denoiser: {RUN_NAME}, found '../unet/noise@upstream'",
        changed("unet/noise@upstream", "../unet/noise@upstream", "recipes.yaml"),
    ),
    Case(
        "a denoiser that is a classifier",
        "params/recipes.yaml: recipes.denoised.denoiser: should end in a recipe with the objective denoise, found "
        "cross_entropy",
        changed("unet/noise@upstream", "wide/mixed@upstream", "recipes.yaml"),
    ),
    Case(
        "an option that its objective does not have",
        "params/recipes.yaml: recipes.clean.options.epsilon: is no option of cross_entropy, which has none",
        changed("  clean:", "  clean:\n    options: {epsilon: 1}", "recipes.yaml"),
    ),
    Case(
        "an objective `../training/loop`",
        f"params/recipes.yaml: recipes.clean.objective: {NAME}, found '../training/loop'",
        changed("  clean:", "  clean:\n    objective: ../training/loop", "recipes.yaml"),
    ),
    Case(
        "a kind of evaluation that has no file",
        "params/recipes.yaml: evaluations.one.kind: should be one of 'certify', …, found '../shift'",
        changed("  one:\n    kind: certify", "  one:\n    kind: ../shift", "recipes.yaml"),
    ),
    Case(
        "tables `../recipes`",
        f"{SMOKE}: tables: {NAME}, found '../recipes'",
        changed("tables: tiny", "tables: ../recipes"),
    ),
    Case(
        "a role whose name ends in a line break",
        f"{SMOKE}: roles.'downstream\\n': {NAME}, found 'downstream\\n'",
        changed("  downstream:", '  "downstream\\n":'),
    ),
    Case(
        "the same images for train and for test",
        f"{DATASETS}: datasets.mine.source.splits: should have other images in train than in test, found 'train' "
        "in both",
        changed("- test\n", "- train\n", "datasets.yaml"),
    ),
    Case(
        "no test images",
        f"{DATASETS}: datasets.mine.source.splits: should name at least one part for train and for test, none "
        "found for test",
        changed("        test:\n        - test\n", "", "datasets.yaml"),
    ),
    Case(
        "no published.csv",
        "params/published.csv: cannot be read as CSV in UTF-8: [Errno 2] No such file or directory: …",
        replaced(lambda path: None, "published.csv"),
    ),
    Case(
        "published.csv without a column",
        "params/published.csv: should have a column 'paper', found none",
        written(b"a,b\n1,2\n", "published.csv"),
    ),
    Case(
        "published.csv in Latin-1",
        "params/published.csv: cannot be read as CSV in UTF-8: 'utf-8' codec can't decode byte 0xe9 …",
        written("é".encode("latin-1"), "published.csv"),
    ),
    Case(
        "a root that is a file",
        f"{DATASETS}: datasets.mine.source.root: not a folder: pictures",
        pictures("pictures", Path.touch),
    ),
    Case(
        "a root that is a link to itself",
        f"{DATASETS}: datasets.mine.source.root: no such folder: pictures",
        pictures("pictures", lambda root: root.symlink_to(root)),
    ),
    Case(
        "a split that is not there",
        f"{DATASETS}: datasets.mine.source.root: no such folder: pictures/train",
        pictures("pictures", Path.mkdir),
    ),
    Case(
        "a root with blanks, quotes, braces and `$(touch ran)`",
        "read: … specs",
        pictures("my 'pictures'; $(touch ran) {output} ü", folders),
    ),
]
