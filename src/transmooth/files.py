"""Atomic writes, locks and checksums: no reader ever sees half a file, no two processes write the same one."""

import glob
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where nothing keeps two runs of one job apart
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60  # seconds
MOST_JSON = 32 * 2**20  # bytes; the card of a network of 20 000 classes has one million


class InUseError(OSError):
    """Another process is at work on an output.  The message names it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Writing to a new file and renaming it also leaves alone a protected file that DVC linked into its cache.
    Raises OSError naming `path` where it cannot be written: a full disk, a folder that is read-only.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError from the block the name of the file: a write to a full disk raises one without any."""
    try:
        yield
    except InUseError:
        raise
    except OSError as error:
        if error.errno is None:  # NumPy's
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole file or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write the whole file or nothing, as UTF-8."""
    write_bytes(path, content.encode())


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in a file that anyone may have written.

    Raises OSError, and ValueError, naming the file and `what` it is not, where it holds something else, more than
    MOST_JSON bytes, or text that is none (half a surrogate pair).
    """
    if (size := path.stat().st_size) > MOST_JSON:
        raise ValueError(f"{path}: not {what}: it has {size} bytes, should have at most {MOST_JSON}")
    content = path.read_bytes()
    try:
        found: Any = json.loads(content.decode())
        if rb"\u" in content:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{path}: not {what}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: not {what}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not {what}: should be a JSON object, found {type(found).__name__}")
    return found


@contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[None]:
    """Keep the output `path`, a file or a folder, for this process, by a lock beside it.

    The system lets go of it when the process ends, however that happens; one that should end may still be saving, so
    this waits for `patience` seconds, else PATIENCE, then raises InUseError.  Temporary files that killed writers left
    are removed.
    """
    place = path.absolute()  # "." has no name
    lock, started, waits = place.with_name(f".{place.name}.lock"), time.monotonic(), False
    patience = PATIENCE if patience is None else patience
    with naming(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := _lock(lock)) is None:
            if time.monotonic() - started >= patience:
                raise InUseError(f"{path}: another process is at work on it; wait for it or stop it")
            if not waits:
                print(f"{path}: another process is at work on it; waiting {patience:g} s for its end", file=sys.stderr)
            waits = True
            time.sleep(0.1)
    try:
        _remove_leftovers(place)
        yield
    finally:
        with suppress(PermissionError):  # Windows removes no open file
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process that held it removes the file, and a lock on a removed file excludes no process.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of the output `path` left under temporary names."""
    name = glob.escape(path.name)
    for left in [*path.parent.glob(f".{name}.*.tmp"), *path.glob(".*.tmp")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def user_cache() -> Path:
    """Return where this user's programs keep what they can find out again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "transmooth")


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
