"""params/datasets.yaml: where images come from, and how they are prepared."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from transmooth.params.values import Augmentation, Count, Images, Model, Name, Whole


def _train_and_test(splits: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if missing := [split for split in ("train", "test") if not splits.get(split)]:
        raise ValueError(f"should name at least one part for train and for test, none found for {missing[0]}")
    if both := sorted(set(splits["train"]) & set(splits["test"])):
        raise ValueError(f"should have other images in train than in test, found {both[0]!r} in both")
    return splits


Splits = Annotated[dict[Literal["train", "test"], tuple[str, ...]], AfterValidator(_train_and_test)]


class TorchvisionSource(Model):
    """A dataset class of torchvision by its name, e.g. CIFAR10."""

    kind: Literal["torchvision"]
    name: str
    root: str = "~/datasets"
    download: bool = False
    splits: Splits | None = None


class ImageFolderSource(Model):
    """root/<split>/<class>/<image>."""

    kind: Literal["imagefolder"]
    root: str
    splits: Splits = Field(default={"train": ("train",), "test": ("test",)})


class OneFolderSource(Model):
    """root/<class>/<image>, of which a share is set aside for the test."""

    kind: Literal["onefolder"]
    root: str
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Whole = 0


class ArraysSource(Model):
    """npz files with `data` and `labels`, as ImageNet at 32x32 is published; splits are patterns of file names."""

    kind: Literal["arrays"]
    root: str
    splits: Splits


class ParquetSource(Model):
    """Parquet files with columns `image` and `label`; splits are patterns of file names."""

    kind: Literal["parquet"]
    root: str
    splits: Splits


class CharactersSource(Model):
    """Letters and digits, drawn with the fonts that matplotlib ships."""

    kind: Literal["characters"]
    seed: Whole = 0
    train: Count
    test: Count


class DigitsSource(Model):
    """The handwritten digits of scikit-learn."""

    kind: Literal["digits"]
    seed: Whole = 0
    test: Count


class TexturesSource(Model):
    """Patches of the photographs that scikit-image and scikit-learn ship."""

    kind: Literal["textures"]
    seed: Whole = 0
    train: Count
    test: Count


ExternalSource = TorchvisionSource | ImageFolderSource | OneFolderSource | ArraysSource | ParquetSource


class Dataset(Model):
    """`stored` is the side of the prepared images, `size` that of the network's input: a crop of it.

    train_per_class: how many training images of each class are used, the first of them; all where it is not said.
    images: how many test images, evenly spaced, are evaluated where the study does not say.
    published: what params/published.csv calls it.
    fetch: how to get the pictures and where to put them, said where they are missing.
    """

    source: Annotated[
        ExternalSource | CharactersSource | DigitsSource | TexturesSource,
        Field(discriminator="kind"),
    ]
    size: Count
    stored: Count | None = None
    augment: tuple[Augmentation, ...] = ()
    train_per_class: Count | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Whole = 0
    images: Images = "all"
    published: str | None = None
    fetch: str = ""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None

    @property
    def home(self) -> str:
        """The folder of its prepared form: `data` for what anybody can make again, `external` for users' pictures."""
        return "external" if isinstance(self.source, ExternalSource) else "data"

    @model_validator(mode="after")
    def _stored_holds_size(self) -> "Dataset":
        if self.stored is not None and self.stored < self.size:
            raise ValueError(f"stored: should be at least size ({self.size}), found {self.stored}")
        return self


class Datasets(Model):
    """The whole file."""

    datasets: dict[Name, Dataset]
