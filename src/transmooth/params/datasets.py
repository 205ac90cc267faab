"""params/datasets.yaml: where images come from, and how they are prepared."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

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


class FolderSource(Model):
    """Folders of classes.

    nested: classes are the folders that hold images, at any depth: `a/abbey`.  without: classes that are left out.
    """

    root: str
    nested: bool | None = None
    without: tuple[str, ...] | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that say nothing: prepared sets know their source by all that it says."""
        return {key: value for key, value in handler(self).items() if value is not None}


class ImageFolderSource(FolderSource):
    """root/<split>/<class>/<image>."""

    kind: Literal["imagefolder"]
    splits: Splits = Field(default={"train": ("train",), "test": ("test",)})


class OneFolderSource(FolderSource):
    """root/<class>/<image>, of which a share, drawn by `seed`, is set aside for the test.

    train_per_class: in place of that, the first images of each class, so many, train, and the rest test.
    """

    kind: Literal["onefolder"]
    test: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Whole | None = None
    train_per_class: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _drawn_or_first(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("train_per_class") is None:
            return {"test": 0.2, "seed": 0} | content if isinstance(content, dict) else content
        if given := [key for key in ("test", "seed") if content.get(key) is not None]:
            raise ValueError(f"{given[0]}: not beside train_per_class, by which all but the first images test")
        return content


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

    resize: the side that stored images are enlarged to where they are read, before the crop; for small pictures.
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
    resize: Count | None = None
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
    def _stored_holds_size(self) -> Self:
        key, side = ("stored", self.stored) if self.resize is None else ("resize", self.resize)
        if side is not None and side < self.size:
            raise ValueError(f"{key}: should be at least size ({self.size}), found {side}")
        if self.resize is not None and (self.stored is None or self.stored > self.resize):
            raise ValueError(f"stored: should be at most resize ({self.resize}), found {self.stored or 'none'}")
        return self


class Datasets(Model):
    """The whole file."""

    datasets: dict[Name, Dataset]
