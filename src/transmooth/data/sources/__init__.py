"""Where raw images come from: a file for each kind of source, named like it, with a function from spec to `Source`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from .arrays import arrays
from .characters import characters
from .digits import digits
from .imagefolder import image_folder
from .onefolder import one_folder
from .parquet import parquet
from .source import Images, Source, Spec
from .textures import textures
from .torchvision import torchvision_set

SOURCES: Mapping[str, Callable[[Spec, Path], Source]] = {
    "torchvision": torchvision_set,
    "imagefolder": image_folder,
    "onefolder": one_folder,
    "arrays": arrays,
    "parquet": parquet,
    "characters": characters,
    "digits": digits,
    "textures": textures,
}


def open_source(spec: Spec, base: Path) -> Source:
    """The source that `spec["kind"]` names; relative roots start at `base`.

    Raises ValueError for an unknown kind, fewer than two classes, or the name of a class that cannot be printed; each
    kind's function lists what else it raises.
    """
    if spec["kind"] not in SOURCES:
        raise ValueError(f"unknown kind of source {spec['kind']!r}; there are {', '.join(SOURCES)}")
    source = SOURCES[spec["kind"]](spec, base)
    where = spec.get("root", spec["kind"])
    if len(source.classes) < 2:
        raise ValueError(f"{where}: needs at least two classes, found {', '.join(source.classes) or 'none'}")
    for name in source.classes:
        if not name.isprintable():  # a line break, or bytes that are not UTF-8: no log or manifest could hold it
            raise ValueError(f"{where}: the name of a class should be printable text in UTF-8, found {name!r}")
    return source


__all__ = ["SOURCES", "Images", "Source", "Spec", "open_source"]
