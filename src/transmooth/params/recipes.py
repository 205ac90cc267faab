"""params/recipes.yaml: networks, recipes of training and evaluations, by name."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from transmooth.params.values import (
    Augmentation,
    BallNorm,
    Count,
    DenoiserText,
    Head,
    Level,
    Levels,
    Model,
    MultiSigma,
    Name,
    Noise,
    Norm,
    Positive,
    Sigmas,
    Stages,
    Stem,
    Trainable,
    Weights,
    Whole,
)

PACKAGE = Path(__file__).parents[1]


class Network(Model):
    """What a network has different from the study's own (see `study.NetworkParams`).

    name: a network of timm; one that is named here has the options that stand here, not the study's.
    weights: `published` ones are fetched by timm for `name`, such as resnet152.tv_in1k, or read from the .safetensors
    file that the option `from` names; of a denoiser, unet2d, they are what that names (see `models.published`).
    size: the side that images are resized to inside it.
    """

    name: str | None = None
    stem: Stem | None = None
    norm: Norm | None = None
    options: dict[str, JsonValue] = Field(default={})
    weights: Weights = "random"
    size: Count | None = None

    @model_validator(mode="after")
    def _options_are_of_a_name(self) -> Self:
        if self.options and self.name is None:
            raise ValueError("options: need a `name`: without one the network has the study's name and options")
        return self

    @model_validator(mode="after")
    def _from_is_of_published_weights(self) -> Self:
        if "from" in self.options and self.weights != "published":
            raise ValueError(f"options.from: is where published weights are; weights are {self.weights}")
        return self

    @model_validator(mode="after")
    def _published_is_as_published(self) -> Self:
        own = self.norm in ("batch", "own")
        if self.name == "unet2d":  # it has neither norm nor stem to choose
            return self
        if self.weights == "published" and (not own or self.name is None or self.stem == "cifar"):
            raise ValueError("weights: published needs `name`, `norm: batch` or `own` and its weights' imagenet stem")
        return self


def _is_a_file(folder: str, name: str) -> str:
    there = sorted(path.stem for path in (PACKAGE / folder).glob("[!_]*.py"))
    if name not in there:
        raise ValueError(f"should be a file of src/transmooth/{folder} ({', '.join(there)}), found {name!r}")
    return name


class Recipe(Model):
    """One way to train: with which objective, on which noise, which parameters.

    objective: a file of src/transmooth/objectives.  options: its own keywords; options_from: by the epoch, counted from
    0, from which they change.  sigmas: the set S, from which `noise`, a file of src/transmooth/noises, gives each
    image one.  n0: noisy copies of each training image, at each sigma, by which `samplewise` chooses.  views: how many
    augmented copies of an image the objective gets; augment: by these augmentations in place of the dataset's.
    head: what the network has in this stage in place of its last layer, which the next stage has anew (see
    `models.build`).  schedule, epochs: in place of the role's; 0 epochs train nothing.
    denoiser: a run, `network/recipe@role`, whose network cleans what the classifier sees, or `default`, the study's.
    """

    objective: Annotated[Name, AfterValidator(lambda name: _is_a_file("objectives", name))] = "cross_entropy"
    options: dict[str, JsonValue] = Field(default={})
    options_from: dict[Whole, dict[str, JsonValue]] | None = None
    sigmas: Levels = (0.0,)
    noise: Noise = "uniform"
    n0: Count | None = None
    views: Count = 1
    augment: tuple[Augmentation, ...] | None = None
    head: Head | None = None
    trainable: Trainable = "all"
    schedule: Name | None = None
    epochs: Whole | None = None
    denoiser: DenoiserText | None = None

    @model_validator(mode="after")
    def _samples_of_a_choice(self) -> Self:
        if (self.noise == "samplewise") != (self.n0 is not None):
            raise ValueError(f"n0: should be given with noise samplewise, and with it alone, found {self.n0}")
        if self.noise == "samplewise" and min(self.sigmas) == 0:
            raise ValueError("sigmas: should be above 0 with noise samplewise, which chooses by radius, found 0")
        if self.noise == "samplewise" and self.denoiser is not None:
            raise ValueError("denoiser: noise samplewise chooses without one, found both")
        return self


class EvaluationModel(Model):
    """What every kind of evaluation says: a file of src/transmooth/evaluation has its name.

    amount: the section of a study that says how much of it there is.  from_start: whether it compares a run with the
    checkpoint that its last stage began from.
    """

    amount: ClassVar[str | None] = None
    from_start: ClassVar[bool] = False


class Certify(EvaluationModel):
    """Certify at each of these sigmas, with so many times the study's samples `n`."""

    amount: ClassVar[str | None] = "certify"
    kind: Literal["certify"]
    sigmas: Sigmas
    times: Count = 1


class Samplewise(EvaluationModel):
    """Certify each test image at one of these sigmas, its own: transductive, see evaluation/samplewise.py."""

    amount: ClassVar[str | None] = "certify"
    kind: Literal["samplewise"]
    sigmas: Sigmas


class Lookup(EvaluationModel):
    """Certify each test image by its distance to those of other classes, without noise: see evaluation/lookup.py."""

    amount: ClassVar[str | None] = "certify"
    kind: Literal["lookup"]


class MultiSigmaCertify(EvaluationModel):
    """Certify one classifier of these sigmas, in the order in which it asks them; see smoothing/multi_sigma.py.

    thresholds: of the sigmas, 0 where they are not given.  chosen_on: so many validation images choose them instead.
    """

    amount: ClassVar[str | None] = "certify"
    kind: Literal["multi_sigma"]
    method: MultiSigma
    sigmas: Stages
    thresholds: tuple[Level, ...] | None = None
    chosen_on: Count | None = None

    @model_validator(mode="after")
    def _one_threshold_each(self) -> Self:
        if self.thresholds is not None and self.chosen_on is not None:
            raise ValueError("thresholds: should be given or chosen, found both thresholds and chosen_on")
        if self.thresholds is not None and len(self.thresholds) != len(self.sigmas):
            raise ValueError(
                f"thresholds: should be one for each of {len(self.sigmas)} sigmas, found {len(self.thresholds)}"
            )
        return self


class Shift(EvaluationModel):
    """Measure how far normalised features of `images` test images move from the run's start to the run."""

    from_start: ClassVar[bool] = True
    kind: Literal["shift"]
    sigmas: Levels
    images: Count


class Attack(EvaluationModel):
    """Attack the base classifier within a ball of radius epsilon, of images in [0, 1]."""

    amount: ClassVar[str | None] = "attack"
    kind: Literal["attack"]
    norm: BallNorm = "l2"
    epsilon: Positive


Evaluation = Annotated[Certify | Shift | Attack | Samplewise | Lookup | MultiSigmaCertify, Field(discriminator="kind")]


class Recipes(Model):
    """The whole file."""

    networks: dict[Name, Network]
    recipes: dict[Name, Recipe]
    evaluations: dict[Name, Evaluation]
