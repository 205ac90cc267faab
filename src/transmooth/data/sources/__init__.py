"""Where raw images come from, one file a kind.  The file's name is the registry: a dataset's `kind` names it.

source(spec, base) → Source     relative roots start at `base`; each says what else it raises
"""

from importlib import import_module
from pathlib import Path

from .source import Images, Source, Spec

SOURCES = ("torchvision", "imagefolder", "onefolder", "arrays", "parquet", "characters", "digits", "textures")


def open_source(spec: Spec, base: Path) -> Source:
    """Return the source that `spec["kind"]` names.

    Raises ValueError for an unknown kind, fewer than two classes, or the name of a class that cannot be printed, and
    what the kind raises.
    """
    if spec["kind"] not in SOURCES:
        raise ValueError(f"unknown kind of source {spec['kind']!r}; there are {', '.join(SOURCES)}")
    source: Source = import_module(f"{__name__}.{spec['kind']}").source(spec, base)
    where = spec.get("root", spec["kind"])
    if len(source.classes) < 2:
        raise ValueError(f"{where}: needs at least two classes, found {', '.join(source.classes) or 'none'}")
    for name in source.classes:
        if not name.isprintable():  # a line break, or bytes that are not UTF-8: no log or manifest could hold it
            raise ValueError(f"{where}: the name of a class should be printable text in UTF-8, found {name!r}")
    return source


__all__ = ["SOURCES", "Images", "Source", "Spec", "open_source"]
