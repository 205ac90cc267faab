"""What this machine has: packages, processors, the datasets of the params and the studies that can run."""

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from transmooth.params.datasets import ExternalSource, TorchvisionSource
from transmooth.params.load import load, load_datasets
from transmooth.params.load import studies as list_studies
from transmooth.params.present import missing_folder
from transmooth.plan import Plan

GIB = 2**30
OPTIONAL = ("slurm",)  # extras without which nothing is missing: a cluster wants them


def packages() -> dict[str, dict[str, str | None]]:
    """Version of each package that transmooth asks for, None if it is not installed, by the extra that brings it.

    The extra of what is always installed is ''.
    """
    found: dict[str, dict[str, str | None]] = {}
    for requirement in requires("transmooth") or []:
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = None
        found.setdefault(extra[1] if extra else "", {})[name] = installed
    return found


def processors() -> dict[str, Any]:
    """Cores that this process may use, memory and free disk here in GiB, and the GPUs with their memory."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / GIB, 1)} for gpu in gpus],
    }


def _memory_gib() -> float | None:
    """Memory of the machine; None where the system does not tell, as Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)


def datasets(checkout: Path) -> list[dict[str, Any]]:
    """For each entry of params/datasets.yaml its name, kind, size, state, and how to get it (`fetch`, or '').

    state: `prepared`; `made here`, for what needs no pictures; `downloaded when needed`; `there`; `missing`.
    Raises ParamsError for params that are missing or wrong.
    """
    found = []
    for name, dataset in load_datasets(checkout).items():
        source, folder = dataset.source, missing_folder(name, dataset, checkout)
        if (checkout / dataset.home / name / "manifest.json").is_file():
            state = "prepared"
        elif not isinstance(source, ExternalSource):
            state = "made here"
        elif isinstance(source, TorchvisionSource) and source.download:
            state = "downloaded when needed"
        else:
            state = "there" if folder is None else "missing"
        fetch = f"{folder}: {dataset.fetch or 'no such folder'}" if state == "missing" else ""
        found.append({"name": name, "kind": source.kind, "size": dataset.size, "state": state, "fetch": fetch})
    return found


def studies(checkout: Path) -> dict[str, list[str]]:
    """Return the datasets that each study of the params lacks.  Raises ParamsError for params that are wrong."""
    lacking = {}
    for study in list_studies(checkout):
        plan = Plan(load(study, checkout))
        sets = plan.params.datasets
        lacking[study] = [name for name in plan.datasets if missing_folder(name, sets[name], checkout)]
    return lacking
