"""Kinds of values in params, and every closed choice: the names of norms, methods, measures stand here alone.

Light, so that the command line and the plan can use them; tests/test_registries.py compares the dicts that hold what
the names mean.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


class Model(BaseModel):
    """A part of the params: frozen, and without keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _no_booleans(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number, not a boolean")
    return value


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values.  Raises ValueError where one is there twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"should name each value once, found {list(values)}")
    return values


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"should increase, found {list(values)}")
    return values


# Names become folders and wildcards of the workflow: nothing that a shell or a path could read as more than a name.
NAME = r"[a-z0-9][a-z0-9_]*"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
StageText = Annotated[str, StringConstraints(pattern=f"^{NAME}@{NAME}$")]
RunText = Annotated[str, StringConstraints(pattern=f"^{NAME}(/{NAME}@{NAME})+$")]
DenoiserText = Annotated[str, StringConstraints(pattern=f"^(default|{NAME}(/{NAME}@{NAME})+)$")]
# Records hold integers of 64 bits.
Count = Annotated[int, BeforeValidator(_no_booleans), Field(ge=1, le=2**63 - 1)]
Whole = Annotated[int, BeforeValidator(_no_booleans), Field(ge=0, le=2**63 - 1)]
Level = Annotated[float, BeforeValidator(_no_booleans), Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_no_booleans), Field(gt=0, allow_inf_nan=False)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(unique)]
Seeds = Annotated[tuple[Whole, ...], Field(min_length=1), AfterValidator(unique)]
Radii = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(_increasing)]
Stages = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(unique)]
Sigmas = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_increasing)]
Images = Count | Literal["all"]

Norm = Literal["batch", "instance", "group", "layer", "own"]
Stem = Literal["cifar", "imagenet"]
Weights = Literal["random", "published"]
Trainable = Literal["all", "frozen_statistics", "head", "head_moving", "lora"]
Head = Literal["projection"]
Noise = Literal["uniform", "samplewise"]
BallNorm = Literal["l2", "linf"]
AttackLoss = Literal["cross_entropy", "margin"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Augmentation = Literal["flip", "crop", "resized_crop", "colour", "grey"]
Optimizer = Literal["sgd", "adamw"]
Precision = Literal["fp32", "bf16", "fp16"]
Engine = Literal["auto", "eager", "compiled", "frozen"]
Method = Literal["cohen", "cohen_two_sided", "sequential", "adaptive"]
MultiSigma = Literal[
    "cascade", "margin", "multiscale", "dual_rs"
]  # methods that certify one classifier of several sigmas
AnyMethod = Literal[Method, MultiSigma]
Dtype = Literal["fp32", "bf16"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
Measure = Literal[
    "clean",
    "certified",
    "acr",
    "multi_sigma",
    "multi_sigma_acr",
    "standard",
    "robust",
    "parameters",
    "trained",
    "denoiser_parameters",
    "hours",
    "evaluations",
]
