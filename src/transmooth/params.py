"""The only reader of params/*.yaml: frozen, validated, with messages that name the file and the key.

recipes.yaml    WHAT     named ways to pretrain and to finetune
datasets.yaml            where images come from
tables.yaml     WHICH    tables and figures, as rows of recipe names
<study>.yaml    HOW MUCH datasets for the roles, network, epochs, n, seeds, shards
"""

import csv
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from os.path import expanduser, expandvars
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from transmooth import strict_yaml


class ParamsError(ValueError):
    """Params that cannot be used.  The message names the file, the key, what was found and what is allowed."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_M = TypeVar("_M", bound=BaseModel)


def _no_booleans(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number, not a boolean")
    return value


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"should name each value once, found {list(values)}")
    return values


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"should increase, found {list(values)}")
    return values


OBJECTIVES = Path(__file__).parent / "objectives"

# Names become folders and wildcards of the workflow: nothing that a shell or a path could read as more than a name.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
# Records hold integers of 64 bits.
Count = Annotated[int, BeforeValidator(_no_booleans), Field(ge=1, le=2**63 - 1)]
Whole = Annotated[int, BeforeValidator(_no_booleans), Field(ge=0, le=2**63 - 1)]
Level = Annotated[float, BeforeValidator(_no_booleans), Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_no_booleans), Field(gt=0, allow_inf_nan=False)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(_unique)]
Seeds = Annotated[tuple[Whole, ...], Field(min_length=1), AfterValidator(_unique)]
Radii = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(_increasing)]


# ---------------------------------------------------------------------------------------------- recipes.yaml
class Training(_Model):
    """What a training recipe says: with which objective and noise, of which parameters."""

    objective: Name = "cross_entropy"
    options: dict[str, JsonValue] = {}
    sigmas: Levels = (0.0,)

    @field_validator("objective")
    @classmethod
    def _objective_is_a_file(cls, name: str) -> str:
        there = sorted(path.stem for path in OBJECTIVES.glob("[!_]*.py"))
        if name not in there:
            raise ValueError(f"should be a file of src/transmooth/objectives ({', '.join(there)}), found {name!r}")
        return name


class PretrainRecipe(Training):
    """What a network is before finetuning.

    start: `train` pretrains it on the dataset of the role `upstream`; `random` and `official` (the weights that timm
    serves for `network`, such as resnet152.tv_in1k) do not: the finetune recipe then starts from that.
    network, stem: in place of the study's.
    """

    start: Literal["train", "random", "official"] = "train"
    norm: Literal["batch", "instance", "group", "layer"] = "layer"
    upstream: Name = "upstream"
    network: str | None = None
    stem: Literal["cifar", "imagenet"] | None = None

    @model_validator(mode="after")
    def _official_is_as_published(self) -> "PretrainRecipe":
        if self.start == "official" and (self.norm != "batch" or self.network is None or self.stem == "cifar"):
            raise ValueError("start: official needs `network`, `norm: batch` and the imagenet stem of its weights")
        return self


class FinetuneRecipe(Training):
    """`epochs` stands in place of the study's, e.g. 1 for the paper's starred rows."""

    trainable: Literal["all", "head"] = "all"
    epochs: Count | None = None


class Recipes(_Model):
    pretrain: dict[Name, PretrainRecipe]
    finetune: dict[Name, FinetuneRecipe]


# --------------------------------------------------------------------------------------------- datasets.yaml
def _train_and_test(splits: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if missing := [split for split in ("train", "test") if not splits.get(split)]:
        raise ValueError(f"should name at least one part for train and for test, none found for {missing[0]}")
    if both := sorted(set(splits["train"]) & set(splits["test"])):
        raise ValueError(f"should have other images in train than in test, found {both[0]!r} in both")
    return splits


Splits = Annotated[dict[Literal["train", "test"], tuple[str, ...]], AfterValidator(_train_and_test)]


class TorchvisionSource(_Model):
    """A dataset class of torchvision by its name, e.g. CIFAR10."""

    kind: Literal["torchvision"]
    name: str
    root: str = "~/datasets"
    download: bool = False
    splits: Splits | None = None


class ImageFolderSource(_Model):
    """root/<split>/<class>/<image>."""

    kind: Literal["imagefolder"]
    root: str
    splits: Splits = {"train": ("train",), "test": ("test",)}


class OneFolderSource(_Model):
    """root/<class>/<image>, of which a share is set aside for the test."""

    kind: Literal["onefolder"]
    root: str
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Whole = 0


class ArraysSource(_Model):
    """npz files with `data` and `labels`, as ImageNet at 32x32 is published; splits are patterns of file names."""

    kind: Literal["arrays"]
    root: str
    splits: Splits


class ParquetSource(_Model):
    """Parquet files with columns `image` and `label`; splits are patterns of file names."""

    kind: Literal["parquet"]
    root: str
    splits: Splits


class CharactersSource(_Model):
    """Letters and digits, drawn with the fonts that matplotlib ships."""

    kind: Literal["characters"]
    seed: Whole = 0
    train: Count
    test: Count


class DigitsSource(_Model):
    """The handwritten digits of scikit-learn."""

    kind: Literal["digits"]
    seed: Whole = 0
    test: Count


class TexturesSource(_Model):
    """Patches of the photographs that scikit-image and scikit-learn ship."""

    kind: Literal["textures"]
    seed: Whole = 0
    train: Count
    test: Count


ExternalSource = TorchvisionSource | ImageFolderSource | OneFolderSource | ArraysSource | ParquetSource


class Dataset(_Model):
    """`stored` is the side of the prepared images, `size` that of the network's input: a crop of it.

    images: how many test images, evenly spaced, are certified where the study does not say.
    fetch: how to get the pictures and where to put them, told to whom they are missing.
    """

    source: Annotated[
        ExternalSource | CharactersSource | DigitsSource | TexturesSource,
        Field(discriminator="kind"),
    ]
    size: Count
    stored: Count | None = None
    augment: tuple[Literal["flip", "crop", "resized_crop"], ...] = ()
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Whole = 0
    images: Count | Literal["all"] = "all"
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


# ----------------------------------------------------------------------------------------------- tables.yaml
class Row(_Model):
    """One trained network of a table or figure: recipes, and the role of the dataset it is finetuned for."""

    label: str
    pretrain: Name
    finetune: Name
    dataset: Name = "downstream"
    block: str = ""
    published: str | None = None


class LogFile(_Model):
    """A certification log or records at one sigma; a path below the checkout, or with ~ or $VARIABLES."""

    sigma: Positive
    file: str


class LogRow(_Model):
    """A row of somebody else's network, from the logs of its certification."""

    label: str
    published: str | None = None
    files: Annotated[tuple[LogFile, ...], Field(min_length=1)]

    @field_validator("files")
    @classmethod
    def _one_each(cls, value: tuple[LogFile, ...]) -> tuple[LogFile, ...]:
        _unique(tuple(log.sigma for log in value))
        return value


class Table(_Model):
    title: str
    caption: str
    paper: str | None = None
    radii: Radii
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    logs: tuple[LogRow, ...] = ()


class Panel(_Model):
    """One row: a curve for every sigma and their envelope.  Several rows: the envelope of each."""

    title: str
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Figure(_Model):
    title: str
    caption: str
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]


class Gap(_Model):
    """A distribution gap (evaluation/shift.py): a table and a figure of how far each row's normalised features move."""

    title: str
    caption: str
    sigmas: Levels
    images: Count
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Reports(_Model):
    tables: dict[Name, Table]
    figures: dict[Name, Figure]
    gaps: dict[Name, Gap] = {}


# ---------------------------------------------------------------------------------------------- <study>.yaml
class NetworkParams(_Model):
    name: str
    stem: Literal["cifar", "imagenet"]
    groups: Count = 32
    options: dict[str, JsonValue] = {}


class TrainParams(_Model):
    epochs: Count
    warmup_epochs: Whole
    batch: Count
    lr: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_unique)]
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: Level
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: Count = 1
    processes: Count = 1
    checkpoint_seconds: Positive = 300

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "TrainParams":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: should be below epochs ({self.epochs}), found {self.warmup_epochs}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> "TrainParams":
        if self.batch % (self.processes * self.accumulate):
            raise ValueError(
                f"batch: should be a multiple of processes x accumulate "
                f"({self.processes} x {self.accumulate}), found {self.batch}"
            )
        return self


class CertifyParams(_Model):
    """`n` is the most samples of an image where the method may stop earlier (see smoothing/methods.py)."""

    method: Literal["cohen", "cohen_two_sided", "sequential", "adaptive"] = "cohen"
    radii: Radii | None = None
    sigmas: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_increasing)]
    n0: Count
    n: Count
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    images: Count | Literal["all"] | None = None
    batch: Count = 256
    dtype: Literal["fp32", "bf16"] = "fp32"
    seed: Whole = 0
    shards: Count = 1
    processes: Count = 1

    @model_validator(mode="after")
    def _radii_of_sequential(self) -> "CertifyParams":
        if self.method == "sequential" and self.radii is None:
            raise ValueError("radii: missing: method sequential decides a grid of radii, the ones that tables show")
        if self.method != "sequential" and self.radii is not None:
            raise ValueError(f"radii: only for method sequential, found {list(self.radii)} with {self.method}")
        return self

    @model_validator(mode="after")
    def _n_can_certify(self) -> "CertifyParams":
        alpha = self.alpha / 2 if self.method == "cohen_two_sided" else self.alpha
        if alpha ** (1 / self.n) <= 0.5:
            raise ValueError(
                f"n: {self.n} samples can never certify at alpha = {self.alpha}: even without a failure the bound "
                f"alpha^(1/n) = {alpha ** (1 / self.n):.3f} stays at or below 1/2"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_absent_radii(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A spec holds what can change its job's output: a method without radii has no such key.
        return {key: value for key, value in handler(self).items() if key != "radii" or value is not None}


class Study(_Model):
    roles: dict[Name, Name]
    seeds: Seeds
    seeds_of: dict[Name, Seeds] = {}  # of reports that differ from it
    network: NetworkParams
    pretrain: TrainParams
    finetune: TrainParams
    certify: CertifyParams
    report: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_unique)]

    @model_validator(mode="after")
    def _seeds_of_reports(self) -> "Study":
        if unknown := sorted(self.seeds_of.keys() - {*self.report}):
            raise ValueError(f"seeds_of: {', '.join(unknown)}: not in `report`, which has {', '.join(self.report)}")
        return self


class Params(_Model):
    """Everything that a study is made of."""

    name: Name
    recipes: Recipes
    datasets: dict[Name, Dataset]
    reports: Reports
    study: Study


# ------------------------------------------------------------------------------------------------- reading
def _read(path: Path, base: Path) -> Mapping[str, Any]:
    shown = path.relative_to(base)
    try:
        return strict_yaml.load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "no YAML file"
        raise ParamsError(f"{shown}: no such file; {shown.parent}/ holds {there}") from None
    except OSError as error:
        raise ParamsError(f"{shown}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{shown}: should be UTF-8, found the byte {error.object[error.start]:#04x}") from error
    except strict_yaml.YamlError as error:
        raise ParamsError(f"{shown}: {error}") from error


def validate(model: type[_M], content: Mapping[str, Any], file: str) -> _M:
    """The content as a checked model.  Raises ParamsError with one line for each fault, which begins with `file`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A list whose only element is at fault is also too short "after validation": that tells nothing more.
        told = [detail for detail in error.errors() if detail["type"] != "too_short" or not detail["input"]]
        lines = [_explain(detail, file) for detail in told]
        raise ParamsError("\n".join(lines)) from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def _explain(detail: Any, file: str) -> str:
    # The union of sources puts its tag into the location, a checked mapping a marker: neither is in the file.
    loc = detail["loc"]
    places = [part for before, part in zip((None, *loc), loc, strict=False) if before != "source" and part != "[key]"]
    words = [part if isinstance(part, int) or part.isprintable() else repr(part) for part in places]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in words).lstrip(".")
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = message.replace("input was not a valid JSON value", "should be text, a number, a list or a mapping")
    message = message.replace("a valid tuple", "a list, such as [0.1, 0.2]").replace("Tuple should", "list should")
    if detail["type"] == "extra_forbidden":
        return f"{file}: {key}: unknown key"
    if detail["type"] == "missing":
        return f"{file}: {key}: missing"
    found = detail["input"]
    shown = "" if "found" in message or isinstance(found, dict | BaseModel) else f", found {_SHORT.repr(found)}"
    return f"{file}: {key}: {message}{shown}" if key else f"{file}: {message}{shown}"


def studies(folder: str | Path) -> list[str]:
    """The names of the studies in a folder of params."""
    return sorted({path.stem for path in Path(folder).glob("*.yaml")} - {"recipes", "datasets", "tables"})


def load_datasets(base: Path) -> dict[str, Dataset]:
    """Read and check params/datasets.yaml below `base`.  Raises ParamsError with one line for each fault."""

    class DatasetsFile(_Model):
        datasets: dict[Name, Dataset]

    return validate(DatasetsFile, _read(base / "params" / "datasets.yaml", base), "params/datasets.yaml").datasets


def load(study: str, base: Path) -> Params:
    """Read and check the params of one study below `base` (the checkout).

    Raises ParamsError with one line for each fault: file, key, what was found, what is allowed.
    """
    folder = base / "params"
    if study not in (known := studies(folder)):
        raise ParamsError(f"params/{study}.yaml: no such study; there is {', '.join(known) or 'none'}")
    raw = {name: _read(folder / f"{name}.yaml", base) for name in ("recipes", "tables", study)}

    class RecipesFile(_Model):
        recipes: Recipes

    params = Params(
        name=study,
        recipes=validate(RecipesFile, raw["recipes"], "params/recipes.yaml").recipes,
        datasets=load_datasets(base),
        reports=validate(Reports, raw["tables"], "params/tables.yaml"),
        study=validate(Study, raw[study], f"params/{study}.yaml"),
    )
    faults = [*_unknown_names(params), *_bad_groups(params), *_bad_reports(params, folder / "published.csv")]
    if faults:
        raise ParamsError("\n".join(faults))
    return params


def _unknown_names(params: Params) -> list[str]:
    """Names in one file that another file does not define."""
    faults = []
    study, recipes, reports = params.study, params.recipes, params.reports

    def check(name: str, known: Mapping[str, Any], where: str, kind: str, home: str) -> None:
        if name not in known:
            faults.append(f"{where}: {kind} {name!r} is not in {home}, which has {', '.join(sorted(known))}")

    file = f"params/{params.name}.yaml"
    for role, dataset in study.roles.items():
        check(dataset, params.datasets, f"{file}: roles.{role}", "dataset", "params/datasets.yaml")
    known = reports.tables | reports.figures | reports.gaps
    for index, name in enumerate(study.report):
        check(name, known, f"{file}: report[{index}]", "report", "params/tables.yaml")
    rows = [(f"tables.{t}.rows[{i}]", r) for t, table in reports.tables.items() for i, r in enumerate(table.rows)]
    rows += [(f"gaps.{g}.rows[{i}]", row) for g, gap in reports.gaps.items() for i, row in enumerate(gap.rows)]
    for name, figure in reports.figures.items():
        for p, panel in enumerate(figure.panels):
            rows += [(f"figures.{name}.panels[{p}].rows[{i}]", r) for i, r in enumerate(panel.rows)]
    for where, row in rows:
        where = f"params/tables.yaml: {where}"
        check(row.pretrain, recipes.pretrain, f"{where}.pretrain", "recipe", "params/recipes.yaml: recipes.pretrain")
        check(row.finetune, recipes.finetune, f"{where}.finetune", "recipe", "params/recipes.yaml: recipes.finetune")
        if where.split(": ")[1].split(".")[1] in study.report:
            check(row.dataset, study.roles, f"{where}.dataset", "role", f"{file}: roles")
            recipe = recipes.pretrain.get(row.pretrain)
            if recipe and recipe.start == "train" and recipe.upstream not in study.roles:
                faults.append(f"{file}: roles.{recipe.upstream}: missing, {where} is pretrained on it")
    return faults


def _bad_groups(params: Params) -> list[str]:
    """Group norm needs groups that divide every channel count; timm's ResNets have multiples of 64 unless told else."""
    network = params.study.network
    if not any(recipe.norm == "group" for recipe in params.recipes.pretrain.values()):
        return []
    where = f"params/{params.name}.yaml: network"
    channels: Any = network.options.get("channels", [64])
    stem: Any = network.options.get("stem_width", 32)
    if not (isinstance(channels, list) and all(type(width) is int and width > 0 for width in channels)):
        return [f"{where}.options.channels: should be a list of numbers such as [64, 128], found {channels!r}"]
    if type(stem) is not int or stem < 1:
        return [f"{where}.options.stem_width: should be a number >= 1, found {stem!r}"]
    # A deep stem has layers of stem_width and of twice that.
    widths = [*channels, *([stem, 2 * stem] if "deep" in str(network.options.get("stem_type")) else [])]
    if any(width % network.groups for width in widths):
        return [f"{where}.groups: should divide every channel count {widths}, found {network.groups}"]
    return []


def _published_rows(path: Path) -> dict[str, set[str]]:
    """Table of the mixed-noise paper -> the names of its rows."""
    keys: dict[str, set[str]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                if line["paper"] == "mixed-noise":
                    keys.setdefault(line["table"], set()).add(f"{line['block']};{line['row']}".lstrip(";"))
    except KeyError as error:
        raise ParamsError(f"params/{path.name}: should have a column {error}, found none") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ParamsError(f"params/{path.name}: cannot be read as CSV in UTF-8: {error}") from error
    return keys


def _bad_reports(params: Params, published: Path) -> list[str]:
    """Rows that cannot be told apart or joined, and radii that are not decided: found before all the compute."""
    faults = []
    study, reports = params.study, params.reports
    keys = _published_rows(published)
    names = [*reports.tables, *reports.figures, *reports.gaps]
    faults += [f"params/tables.yaml: {n}: names two reports" for n in sorted({n for n in names if names.count(n) > 1})]
    for name, table in reports.tables.items():
        where = f"params/tables.yaml: tables.{name}"
        if table.paper is not None and table.paper not in keys:
            faults.append(f"{where}.paper: should be one of {', '.join(sorted(keys))}, found {table.paper!r}")
        named = [(f"rows[{i}]", row.published) for i, row in enumerate(table.rows)]
        named += [(f"logs[{i}]", row.published) for i, row in enumerate(table.logs)]
        for place, key in named:
            if key is not None and key not in keys.get(str(table.paper), set()):
                faults.append(f"{where}.{place}.published: {key!r} is no row of {table.paper}")
        grid = study.certify.radii
        if name in study.report and grid is not None and (missing := sorted(set(table.radii) - set(grid))):
            faults.append(
                f"params/{params.name}.yaml: certify.radii: should have all radii of {name}, {missing} are missing"
            )
    titled: list[tuple[str, Sequence[Row | LogRow]]]
    titled = [(f"tables.{n}.rows", t.rows) for n, t in reports.tables.items()]
    titled += [(f"tables.{n}.logs", t.logs) for n, t in reports.tables.items()]
    titled += [(f"gaps.{n}.rows", g.rows) for n, g in reports.gaps.items()]
    titled += [
        (f"figures.{n}.panels[{i}].rows", p.rows) for n, f in reports.figures.items() for i, p in enumerate(f.panels)
    ]
    for where, rows in titled:
        seen: set[tuple[str, str]] = set()
        for index, row in enumerate(rows):
            name_of = (row.block if isinstance(row, Row) else "", row.label)
            if name_of in seen:
                faults.append(f"params/tables.yaml: {where}[{index}].label: {row.label!r} is there twice")
            seen.add(name_of)
    for name, gap in reports.gaps.items():
        for index, row in enumerate(gap.rows):
            recipe = params.recipes.pretrain.get(row.pretrain)
            if recipe is not None and recipe.start != "train":
                faults.append(
                    f"params/tables.yaml: gaps.{name}.rows[{index}].pretrain: should be pretrained (start: train), "
                    f"{row.pretrain!r} starts {recipe.start}"
                )
    return faults


def below(base: Path, path: str) -> Path:
    """Where a path of the params leads: ~ and $VARIABLES are expanded, a relative one starts at `base`."""
    return base / expanduser(expandvars(path))


def check_logs(params: Params, base: Path) -> None:
    """Raises ParamsError for logs of the study's tables that are not there."""
    faults = [
        f"params/tables.yaml: tables.{name}.logs[{i}].files[{k}].file: no such file: {below(base, log.file)}"
        for name, table in params.reports.tables.items()
        if name in params.study.report
        for i, row in enumerate(table.logs)
        for k, log in enumerate(row.files)
        if not below(base, log.file).is_file()
    ]
    if faults:
        raise ParamsError("\n".join(faults))


def missing_folder(name: str, dataset: Dataset, base: Path) -> Path | None:
    """The folder that a dataset lacks, if it is neither prepared (below its `home`) nor to be found at its source."""
    source = dataset.source
    if not isinstance(source, ExternalSource) or (base / dataset.home / name / "manifest.json").is_file():
        return None
    if isinstance(source, TorchvisionSource) and source.download:
        return None
    root = base / expanduser(expandvars(source.root))
    folders = [root]
    if isinstance(source, ImageFolderSource):
        folders += [root / folder for split in source.splits.values() for folder in split]
    return next((folder for folder in folders if not folder.is_dir()), None)


def check_sources(params: Params, datasets: Iterable[str], base: Path) -> list[str]:
    """What is said of datasets that lack a folder (see `missing_folder`).

    A set that its user must fetch by hand (`fetch`) can be planned with: it is returned, a line or two each, and must
    be there before any work.  Any other one is a fault of the params: raises ParamsError.
    """
    faults, to_fetch = [], []
    for name in datasets:
        dataset = params.datasets[name]
        missing = missing_folder(name, dataset, base)
        if missing is None:
            continue
        what = "not a folder" if missing.exists() else "no such folder"
        fault = f"params/datasets.yaml: datasets.{name}.source.root: {what}: {missing}"
        if dataset.fetch:
            to_fetch.append(f"{fault}\n  to fetch: {dataset.fetch}")
        else:
            faults.append(fault)
    if faults:
        raise ParamsError("\n".join(faults + to_fetch))
    return to_fetch
