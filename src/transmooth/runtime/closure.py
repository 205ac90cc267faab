"""The code that a job's result depends on: all that its entry module imports, found without running it.

A hash of the sources is a param of the job.  As inputs they would be compared by time first, and git and DVC restore
files with arbitrary times.  After a change that cannot alter results: `snakemake --touch`.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

PACKAGE = "transmooth"
SOURCES = Path(__file__).parents[1]
# What carries jobs out and changes no result: the specs that these make are params of their own.
PLUMBING = ("files", "hub", "provenance", "specs", "cli", "params", "runtime")


def digest(*entries: str) -> str:
    """Return a hash of what the entries need: modules such as `training.loop`, files such as `report/page/x.css`."""
    texts = [path.read_bytes() for path in sources(*entries)]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def sources(*entries: str) -> list[Path]:
    """Return the files of the entries and of all that they import from this package, plumbing apart, sorted."""
    found = {SOURCES / entry for entry in entries if "/" in entry}
    waiting = list[Path]()
    for entry in entries:
        if "/" not in entry:
            if _file(f"{PACKAGE}.{entry}") is None:
                raise ValueError(f"no such module: {PACKAGE}.{entry}")
            waiting.extend(_around(f"{PACKAGE}.{entry}"))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(_imported(path))
    return sorted(found)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Return the files of this package that a file imports, in functions too, and the packages around them."""
    here = [PACKAGE, *path.relative_to(SOURCES).with_suffix("").parts]
    found: set[Path] = set()
    for name in _names(ast.parse(path.read_bytes()), here):
        parts = name.split(".")
        if parts[0] != PACKAGE or (parts[1:2] and parts[1] in PLUMBING):
            continue
        found.update(_around(name))
    return tuple(found)


def _around(name: str) -> Iterator[Path]:
    """The packages that a name is in, and its module: `from package import name` may name one, or what is in it."""
    parts = name.split(".")
    files = (_file(".".join(parts[:count])) for count in range(2, len(parts) + 1))
    return (file for file in files if file is not None)


def _names(tree: ast.Module, here: list[str]) -> Iterator[str]:
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All statements, in functions and branches too, but for those that only type checkers see."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            if not (part == "body" and _is_type_checking(node)):
                yield from _statements(getattr(node, part, ()))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _file(module: str) -> Path | None:
    path = SOURCES.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
