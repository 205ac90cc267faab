"""The code that each job's result depends on, written out: whoever reviews a change sees what it re-runs."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transmooth.params.recipes import EvaluationModel
from transmooth.runtime import closure
from transmooth.runtime.closure import PLUMBING, SOURCES, digest, sources

# Shared by several jobs.
CARD = ["checkpoint/__init__.py", "checkpoint/card.py"]
NETWORKS = [
    *("models/__init__.py", "models/build.py", "models/check.py", "models/denoiser.py", "models/norms.py"),
    *("models/openai_unet.py", "models/published.py"),
]
DENOISERS = ["loading/__init__.py", "loading/denoisers.py", "loading/functions.py"]
SPLITS = ["data/__init__.py", "data/augment.py", "data/loader.py", "data/manifest.py"]
PREPARED = [
    *("data/__init__.py", "data/manifest.py", "data/picture.py", "data/prepare.py"),
    *("data/sources/__init__.py", "data/sources/source.py", "data/split.py"),
]
RECORDS = ["records/__init__.py", "records/table.py", "smoothing/__init__.py", "smoothing/bounds.py"]
ROWS = [
    *CARD,
    *RECORDS,
    *("records/attacked.py", "records/audit.py", "records/logs.py", "records/multi_sigma.py"),
    *("report/__init__.py", "report/accuracy.py"),
    *("smoothing/cascade.py", "smoothing/decision.py", "smoothing/margin.py", "smoothing/multi_sigma.py"),
]
ATTACKS = [
    *("attacks/__init__.py", "attacks/ball.py", "attacks/gradients.py"),
    *("noise.py", "objectives/__init__.py"),
]
SAMPLING = [
    *("noise.py", "smoothing/__init__.py", "smoothing/bounds.py", "smoothing/decision.py", "smoothing/deploy.py"),
    *("smoothing/engine.py", "smoothing/sampler.py", "models/__init__.py", "models/norms.py"),
]
CERTIFY = [
    *CARD,
    "checkpoint/weights.py",
    *SPLITS,
    *("evaluation/__init__.py", "evaluation/certify.py"),
    *DENOISERS,
    *NETWORKS,
    *RECORDS,
    "records/journal.py",
    *SAMPLING,
    *("smoothing/adaptive.py", "smoothing/chunks.py", "smoothing/cohen.py", "smoothing/crossing.py"),
    *("smoothing/cascade.py", "smoothing/design.py", "smoothing/margin.py", "smoothing/methods.py"),
    *("smoothing/multi_sigma.py", "smoothing/sequential.py"),
]
TABLES = [*ROWS, "report/cells.py", "report/differences.py", "report/measures.py", "report/tables.py"]
SHIFTS = [*TABLES, "report/figures.py", "report/shift.py"]
GAINS = [*ROWS, "report/cells.py", "report/figures.py", "report/gains.py", "report/measures.py"]
COURSES = [*ROWS, "report/courses.py", "report/figures.py", "report/training.py"]

JOBS: dict[str, tuple[list[str], list[str]]] = {
    "prepare digits": (["data.prepare", "data.sources.digits"], [*PREPARED, "data/sources/digits.py"]),
    "prepare characters": (["data.prepare", "data.sources.characters"], [*PREPARED, "data/sources/characters.py"]),
    "prepare onefolder": (
        ["data.prepare", "data.sources.onefolder"],
        [
            *PREPARED,
            *("data/sources/imagefolder.py", "data/listing.py", "data/sources/onefolder.py"),
            *("data/labelled.py", "data/parts.py"),
        ],
    ),
    "train": (
        ["training.loop", "objectives.cross_entropy", "noises.uniform"],
        [
            *CARD,
            *("checkpoint/resume.py", "checkpoint/weights.py"),
            *SPLITS,
            "data/order.py",
            *DENOISERS,
            *NETWORKS,
            *("models/lora.py", "models/trainable.py"),
            "noise.py",
            *("noises/__init__.py", "noises/uniform.py"),
            *("objectives/__init__.py", "objectives/cross_entropy.py"),
            *("training/__init__.py", "training/loop.py", "training/progress.py"),
            *("training/save_points.py", "training/schedule.py", "training/task.py"),
            "training/tracking.py",
        ],
    ),
    "objective confidence": (["objectives.confidence"], [*ATTACKS, "objectives/confidence.py"]),
    "objective smooth_adversarial": (
        ["objectives.smooth_adversarial"],
        [*ATTACKS, "attacks/pgd.py", "objectives/smooth_adversarial.py"],
    ),
    "objective adversarial": (["objectives.adversarial"], [*ATTACKS, "attacks/pgd.py", "objectives/adversarial.py"]),
    "objective simclr": (["objectives.simclr"], ["objectives/__init__.py", "objectives/simclr.py"]),
    "noise samplewise": (
        ["noises.samplewise"],
        [
            *SPLITS,
            *SAMPLING,
            *("noises/__init__.py", "noises/samplewise.py"),
            "smoothing/choice.py",
        ],
    ),
    "evaluate certify": (["evaluation.certify"], CERTIFY),
    "evaluate samplewise": (
        ["evaluation.samplewise"],
        [*CERTIFY, "evaluation/samplewise.py", "smoothing/choice.py", "smoothing/regions.py"],
    ),
    "evaluate lookup": (
        ["evaluation.lookup"],
        [
            *CARD,
            "checkpoint/weights.py",
            *SPLITS,
            *("evaluation/__init__.py", "evaluation/lookup.py"),
            *NETWORKS,
            *RECORDS,
            "smoothing/regions.py",
        ],
    ),
    "evaluate shift": (
        ["evaluation.shift"],
        [
            *CARD,
            "checkpoint/weights.py",
            *SPLITS,
            *("evaluation/__init__.py", "evaluation/shift.py"),
            *NETWORKS,
            "noise.py",
            *RECORDS,
        ],
    ),
    "evaluate attack": (
        ["evaluation.attack"],
        [
            *("attacks/__init__.py", "attacks/auto_pgd.py", "attacks/ball.py", "attacks/gradients.py"),
            "attacks/robust.py",
            *CARD,
            "checkpoint/weights.py",
            *SPLITS,
            *("evaluation/__init__.py", "evaluation/attack.py"),
            *DENOISERS,
            *NETWORKS,
            "noise.py",
            *RECORDS,
            *("records/attacked.py", "records/journal.py"),
        ],
    ),
    "table": (["report.tables"], TABLES),
    "figure": (["report.figures"], [*ROWS, "report/figures.py"]),
    "shift": (["report.shift"], SHIFTS),
    "course": (["report.courses"], COURSES),
    "gain": (["report.gains"], GAINS),
    "training": (["report.training"], [*CARD, "report/__init__.py", "report/training.py"]),
    "report": (
        ["report.page.study", "report/page/report.html", "report/page/report.css", "report/page/report.js"],
        [
            *SHIFTS,
            *COURSES,
            *GAINS,
            # The pictures of test images, what a denoiser leaves of them, and attacks on them.
            *("attacks/__init__.py", "attacks/auto_pgd.py", "attacks/ball.py", "attacks/gradients.py"),
            "attacks/robust.py",
            *("checkpoint/weights.py", *DENOISERS, *NETWORKS),
            *("data/augment.py", "data/loader.py", "data/sources/imagefolder.py"),
            *("data/labelled.py", "data/listing.py", "data/parts.py", "loading/__init__.py"),
            *("loading/images.py", "noise.py"),
            *PREPARED,
            *("report/certified.py", "report/compare.py", "report/page/classes.py"),
            *("report/page/__init__.py", "report/page/charts.py", "report/page/examples.py"),
            *("report/page/galleries.py", "report/page/page.py", "report/page/provenance.py"),
            *("report/page/report.css", "report/page/report.html", "report/page/report.js"),
            *("report/page/sections.py", "report/page/study.py"),
        ],
    ),
}


def names(*entries: str) -> list[str]:
    return [str(path.relative_to(closure.SOURCES)) for path in sources(*entries)]


@pytest.mark.parametrize("job", JOBS)
def test_a_jobs_code_is(job: str) -> None:
    entries, expected = JOBS[job]
    found = names(*entries)
    print(f"{job}: {' '.join(found)}")
    assert found == sorted(set(expected))


def test_a_training_depends_on_no_source_of_images_and_on_no_report() -> None:
    found = names("training.loop", "objectives.cross_entropy")
    assert not [name for name in found if name.startswith(("report", "data/sources", "evaluation", "smoothing"))]


def test_an_evaluation_depends_on_no_training() -> None:
    kinds = [kind.model_fields["kind"].annotation.__args__[0] for kind in EvaluationModel.__subclasses__()]  # type: ignore[union-attr]
    assert kinds
    found = [name for kind in kinds for name in names(f"evaluation.{kind}")]
    assert not [name for name in found if name.startswith(("training", "objectives", "report", "data/sources"))]


def test_what_carries_jobs_out_is_no_part_of_it() -> None:
    """Specs are params of their own, and plumbing changes no result; but it is what all jobs import."""
    everything = [name for entries, _ in JOBS.values() for name in names(*entries)]
    assert not [name for name in everything if name.removesuffix(".py").split("/")[0] in PLUMBING]
    assert all((SOURCES / name).is_dir() or (SOURCES / f"{name}.py").is_file() for name in PLUMBING)


# -------------------------------------------------------------------------------------------- in a copy of the sources
@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "transmooth"
    shutil.copytree(ROOT / "src" / "transmooth", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(closure, "SOURCES", copy)
    closure._imported.cache_clear()
    return copy


def test_editing_a_file_of_it_changes_the_hash_and_editing_another_does_not(package: Path) -> None:
    entries = ["training.loop", "objectives.cross_entropy"]
    before, inside = digest(*entries), names(*entries)
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        path.write_bytes(text + b"\n# edited\n")
        assert (digest(*entries) != before) == (str(path.relative_to(package)) in inside), path
        path.write_bytes(text)
    assert digest(*entries) == before


def test_a_new_objective_is_in_by_itself_with_what_it_imports(package: Path) -> None:
    before = digest("training.loop", "objectives.cross_entropy")
    (package / "tricks").mkdir()
    (package / "tricks" / "__init__.py").touch()
    (package / "tricks" / "one.py").write_text("from transmooth.files import write_text\n")
    (package / "objectives" / "new.py").write_text("def loss():\n    from transmooth.tricks import one\n")
    assert digest("training.loop", "objectives.cross_entropy") == before
    new = {*names("training.loop", "objectives.new")} - {*names("training.loop", "objectives.cross_entropy")}
    assert new == {"tricks/__init__.py", "tricks/one.py", "objectives/new.py"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import transmooth.noise", {"noise.py"}),
        ("import transmooth.models.build as b, os", {"models/__init__.py", "models/build.py"}),
        ("from transmooth import noise, certify", {"noise.py"}),
        ("from transmooth.noise import add_noise", {"noise.py"}),
        ("from transmooth.models import build", {"models/__init__.py", "models/build.py"}),
        ("from . import two", {"a/two.py"}),
        ("from .two import x", {"a/two.py"}),
        ("from ..models.norms import x", {"models/__init__.py", "models/norms.py"}),
        ("def f():\n    if True:\n        from transmooth.noise import x", {"noise.py"}),
        ("from transmooth.specs import TrainSpec", set()),
        ("from transmooth.runtime.gpus import x", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from transmooth.noise import x", set()),
        ("import os.path, transmoother.noise", set()),
    ],
)
def test_imports_of_each_form_are_followed(package: Path, text: str, expected: set[str]) -> None:
    for name in ("noise.py", "models/build.py", "models/norms.py"):
        (package / name).write_text("")
    (package / "a").mkdir()
    for name, content in (("__init__", ""), ("one", text), ("two", "")):
        (package / "a" / f"{name}.py").write_text(content)
    closure._imported.cache_clear()
    assert {*names("a.one")} == {"a/__init__.py", "a/one.py"} | expected


def test_imports_that_go_round_in_a_circle_end(package: Path) -> None:
    (package / "one.py").write_text("from transmooth import two")
    (package / "two.py").write_text("from transmooth import one")
    assert names("one") == ["one.py", "two.py"]


def test_an_entry_that_is_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no such module: transmooth\.objectives\.gone$"):
        digest("training.loop", "objectives.gone")
