"""What params name outside of themselves: folders, logs and packages that must be on this machine."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from os.path import expanduser, expandvars
from pathlib import Path

from transmooth.params.datasets import Dataset, ExternalSource, ImageFolderSource, TorchvisionSource
from transmooth.params.messages import ParamsError
from transmooth.params.study import Params
from transmooth.params.values import Tracker

# Of the extra `workflow`: to train, and to draw tables' figures and the page, by the names that are imported.
JOBS_IMPORT = ("accelerate", "altair", "jinja2", "matplotlib", "vl_convert")


def below(base: Path, path: str) -> Path:
    """Return where a path of the params leads: ~ and $VARIABLES are expanded, a relative one starts at `base`."""
    return base / expanduser(expandvars(path))


def check_logs(params: Params, base: Path) -> None:
    """Raise ParamsError for logs of the study's reports that are not there."""
    faults = [
        f"params/tables/{params.study.tables}.yaml: {where}.files[{at}].file: no such file: {below(base, log.file)}"
        for report, where, row in params.tables.placed_rows()
        if report in params.study.report
        for at, log in enumerate(row.files or ())
        if not below(base, log.file).is_file()
    ]
    if faults:
        raise ParamsError("\n".join(faults))


def check_tracker(tracker: Tracker | None, where: str) -> None:
    """Raise ParamsError, which begins with `where`, where a tracker's package is not installed.

    Accelerate would train on with a warning.
    """
    if tracker is None:
        return
    found = find_spec(tracker)
    # A folder of that name, such as the one that W&B writes its runs to, is found too, and has no origin.
    if found is None or found.origin is None:
        raise ParamsError(f"{where}: the package {tracker} is not installed: pip install {tracker}")


def check_packages() -> None:
    """Raise ParamsError for packages that jobs of every study import, the last ones after all of the trainings."""
    if lacking := [name for name in JOBS_IMPORT if find_spec(name) is None]:
        raise ParamsError(
            f"the jobs of a study need {', '.join(lacking)}: in a checkout, pip install -e '.[workflow]' brings "
            f"{'it' if len(lacking) == 1 else 'them'}"
        )


def check_weights(files: Mapping[str, Path]) -> list[str]:
    """Return what is said of files of published weights, by the network, that are not there: they must be fetched."""
    return [
        f"params/recipes.yaml: networks.{name}.options.from: no such file: {path}"
        for name, path in files.items()
        if not path.exists()
    ]


def missing_folder(name: str, dataset: Dataset, base: Path) -> Path | None:
    """Return the folder that a dataset lacks where it is neither prepared (below its `home`) nor at its source."""
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
    """Return what is said of datasets that lack a folder (see `missing_folder`).

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
