"""One place for a name: what holds the meaning of a closed choice has the names of its alias in params/values.py."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from pydantic import BaseModel

from tests.conftest import ROOT
from transmooth import specs
from transmooth.attacks import ball, robust
from transmooth.cli import job, training
from transmooth.cli.main import COMMANDS
from transmooth.data import augment, sources
from transmooth.evaluation import load_evaluation
from transmooth.models import build, denoiser, norms
from transmooth.models import trainable as trainables
from transmooth.noises import load_noise
from transmooth.objectives import load_objective
from transmooth.params import datasets, recipes, study, tables, values
from transmooth.params.checks.objectives import needs
from transmooth.publishing import model_card
from transmooth.report import measures
from transmooth.smoothing import deploy, engine, methods, multi_sigma
from transmooth.training import schedule, tracking

PACKAGE = ROOT / "src" / "transmooth"


def files(folder: str) -> set[str]:
    """The modules of a folder, which are its registry."""
    return {path.stem for path in (PACKAGE / folder).glob("[!_]*.py")}


def kinds(union: Any) -> dict[str, type[BaseModel]]:
    """The classes of a discriminated union, by the `kind` that each is chosen by."""
    while not isinstance(union, type) and not all(isinstance(each, type) for each in get_args(union)):
        union = get_args(union)[0]  # without its annotation
    return {get_args(each.model_fields["kind"].annotation)[0]: each for each in get_args(union)}


EVALUATIONS = kinds(recipes.Evaluation)
SOURCES = kinds(datasets.Dataset.model_fields["source"].annotation)


@pytest.mark.parametrize(
    ("alias", "meaning"),
    [
        (values.Norm, norms.NORMS),
        (values.Engine, ("auto", "eager", *engine.COMPILERS["cpu"])),
        (values.Stem, build.STEMS),
        (values.Trainable, trainables.TRAINABLE),
        (values.Trainable, model_card.TRAINED),
        (values.Head, build.HEADS),
        (values.Noise, files("noises")),
        (values.BallNorm, ball.BALLS),
        (values.BallNorm, robust.ORDERS),
        (values.AttackLoss, robust.LOSSES),
        (values.Prediction, denoiser.PREDICTIONS),
        (values.Augmentation, augment.AUGMENTATIONS),
        (values.Optimizer, schedule.OPTIMIZERS),
        (values.Precision, schedule.PRECISIONS),
        (values.Method, methods.METHODS),
        (values.MultiSigma, multi_sigma.RULES),
        (values.AnyMethod, {**methods.METHODS, **multi_sigma.RULES}),
        (values.Dtype, deploy.DTYPES),
        (values.Tracker, tracking.NAMED_BY),
        (values.Measure, measures.MEASURES),
        (values.Measure, tables.KINDS),
    ],
    ids=lambda each: "" if isinstance(each, dict | set) else str(get_args(each)),
)
def test_a_name_has_a_meaning_and_a_meaning_a_name(alias: Any, meaning: Collection[str]) -> None:
    assert {*meaning} == {*get_args(alias)}
    assert len(meaning) == len(get_args(alias))


def test_every_closed_choice_is_one_of_these() -> None:
    """A new alias of names gets its line above."""
    aliases = {name for name, value in vars(values).items() if get_args(value) and isinstance(get_args(value)[0], str)}
    known = {
        "Engine",
        "Norm",
        "Stem",
        "Trainable",
        "Head",
        "Noise",
        "BallNorm",
        "AttackLoss",
        "Prediction",
        "Augmentation",
        "Optimizer",
        "Precision",
        "Method",
        "MultiSigma",
        "AnyMethod",
        "Dtype",
        "Tracker",
        "Measure",
    }
    assert aliases == known | {"Weights"}  # `random` and `published`: of what timm's create_model takes, no dict


# ------------------------------------------------------------------------------------------------------------- files
def test_a_kind_of_evaluation_is_a_file_an_entry_and_a_spec() -> None:
    assert files("evaluation") == {*EVALUATIONS} == {*specs.EVALUATIONS}
    for kind, spec in specs.EVALUATIONS.items():
        assert get_args(spec.model_fields["kind"].annotation) == (kind,)


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_an_evaluation_is_called_as_its_package_says(kind: str) -> None:
    module = load_evaluation(kind)
    asked = ["spec", "data", "checkpoint", "start", "out", "shard", "shards", "batch"]
    assert [*inspect.signature(module.run).parameters] == asked
    assert [*inspect.signature(module.finish).parameters] == ["spec", "data", "parts", "out"]


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_an_evaluations_spec_is_its_entry_and_its_section_of_the_study(kind: str) -> None:
    entry = EVALUATIONS[kind]
    assert issubclass(entry, recipes.EvaluationModel)
    fields = {*entry.model_fields, "run"}
    if entry.amount is not None:
        (section,) = (
            each for each in get_args(study.Study.model_fields[entry.amount].annotation) if each is not type(None)
        )
        carried_out = {"shards", "processes"} | ({"batch"} if entry.amount == "certify" else set())
        assert carried_out < {*section.model_fields}
        fields |= {*section.model_fields} - carried_out
    if kind == "multi_sigma":
        fields -= {"tolerance"}  # of the method `sequential`
    if kind == "certify":
        fields -= {"times"}  # is in `n`
    asked = {*specs.EVALUATIONS[kind].model_fields}
    if kind == "lookup":  # without noise, of the section it takes the images alone
        assert asked == {"kind", "run", "images"} < fields
    else:
        assert asked == fields


def test_a_measure_is_of_a_kind_of_evaluation_or_of_the_card() -> None:
    assert {kind for kinds in tables.KINDS.values() for kind in kinds} <= {*EVALUATIONS}
    for name, measure in measures.MEASURES.items():
        assert ("{radius" in measure.title) == (name in tables.AT_RADIUS)
        spent = name == "evaluations"  # of all certifications of a row together
        assert (measure.per_sigma or spent) == ("certify" in tables.KINDS[name])
        assert measure.attacked == ("attack" in tables.KINDS[name])
        assert (measure.per_sigma or measure.multi_sigma or spent) == ("multi_sigma" in tables.KINDS[name])


@pytest.mark.parametrize("name", sorted(files("objectives")))
def test_an_objective_is_called_as_its_package_says(name: str) -> None:
    parameters = [*inspect.signature(load_objective(name)).parameters.values()]
    assert [each.name for each in parameters[:6]] == ["classifier", "view", "images", "labels", "sigma", "generator"]
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)  # an option has a name
    assert recipes.Recipe.model_validate({"objective": name} | needs(name)).objective == name
    module = import_module(f"transmooth.objectives.{name}")  # whose source the params read
    assert needs(name) == {"views": getattr(module, "VIEWS", 1), "head": getattr(module, "HEAD", None)}


@pytest.mark.parametrize("name", sorted(files("noises")))
def test_a_noise_is_called_as_its_package_says(name: str) -> None:
    assert [*inspect.signature(load_noise(name)).parameters] == ["spec", "split", "begin", "device", "share"]


def test_a_kind_of_source_is_a_file_and_an_entry() -> None:
    assert files("data/sources") - {"source", "labelled", "listing"} == {*sources.SOURCES} == {*SOURCES}
    for kind in sources.SOURCES:
        source = import_module(f"transmooth.data.sources.{kind}").source
        assert [*inspect.signature(source).parameters] == ["spec", "base"]


# ---------------------------------------------------------------------------------------------------------- commands
OPTIONS: dict[str, tuple[Any, ...]] = {
    "method": (values.AnyMethod, values.MultiSigma),
    "dtype": (values.Dtype,),
    "engine": (values.Engine,),
    "precision": (values.Dtype,),
    "stem": (values.Stem,),
    "norm": (values.Norm, values.BallNorm),
    "trainable": (values.Trainable,),
    "tracker": (values.Tracker,),
}


def choices(command: Callable[..., None]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The options of a command that take one of a few names."""
    for name, hint in get_type_hints(command).items():
        for part in (hint, *get_args(hint)):  # `Stem | None`
            if get_origin(part) is Literal:
                yield name, get_args(part)


def test_options_take_the_names_of_the_params() -> None:
    jobs = [each.callback for each in job.app.registered_commands if each.callback]
    found = [choice for command in (*COMMANDS.values(), *jobs) for choice in choices(command)]
    assert {name for name, _ in found} == {*OPTIONS}
    assert all(names in map(get_args, OPTIONS[name]) for name, names in found)


def test_the_help_names_every_augmentation() -> None:
    (option,) = (each for each in training.Augment.__metadata__ if isinstance(each, typer.models.OptionInfo))
    assert option.help == f"Any of {', '.join(get_args(values.Augmentation))}."


def test_names_and_plans_are_light() -> None:
    """They are loaded at every start of Snakemake and of a command."""
    code = "import sys, transmooth.plan, transmooth.params.load, transmooth.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "timm", "numpy", "pandas", "pyarrow", "matplotlib"} & {*done.stdout.split()}
