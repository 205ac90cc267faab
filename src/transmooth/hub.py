"""A hub of models: ask it, fetch files of one commit of a repository, and say in one line what it answers.

What talks to the hub is huggingface_hub, and so its settings hold: HF_TOKEN or `hf auth login`, HF_HUB_OFFLINE,
HF_HOME, HF_ENDPOINT.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from transmooth import __version__

API = HfApi(library_name="transmooth", library_version=__version__)


class HubError(OSError):
    """The hub cannot be reached, or refuses.  The message names the repository."""


def fetch(text: str, prefix: str, files: Sequence[str]) -> tuple[Path, str]:
    """Fetch files of `PREFIX:OWNER/NAME[@REVISION]` and return their folder in the cache, and the full name.

    The name ends in the commit: what a branch is today another commit may be tomorrow.  files: all that is fetched, as
    patterns; what the repository lacks is not in the folder.  Raises ValueError for a text of another form, HubError.
    """
    match = re.fullmatch(rf"{prefix}([^@]*)(?:@([\w./-]+))?", text)
    if not match:
        raise ValueError(f"a model of a hub is {prefix}OWNER/NAME or {prefix}OWNER/NAME@REVISION, found {text!r}")
    repository = checked(match[1])
    with asking(text):
        folder = Path(API.snapshot_download(repository, revision=match[2], allow_patterns=list(files)))
    return folder, f"{prefix}{repository}@{folder.name}"  # the cache has a folder for each commit


def checked(repository: str) -> str:
    """Return the text itself.  Raises ValueError unless it can be the name of a repository, with its owner."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository, re.ASCII):
        raise ValueError(
            f"a repository on a hub is OWNER/NAME, of letters, digits, '-', '_' and '.'; found {repository!r}"
        )
    return repository


@contextmanager
def asking(name: str) -> Iterator[None]:
    """Raise HubError, in one line that starts with `name`, for whatever the block raises."""
    if not sys.stderr.isatty():
        disable_progress_bars()  # some of its bars come all the same
    try:
        yield
    except Exception as error:  # of huggingface_hub, or of the HTTP library that its version uses
        raise HubError(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    if isinstance(error, LocalEntryNotFoundError):
        return f"not in the cache, and the hub cannot be reached: {reason}"
    login = "log in as somebody who may (hf auth login, or HF_TOKEN)"
    if isinstance(error, GatedRepoError):
        return f"its owner asks you to accept terms on its page; then {login}"
    if isinstance(error, RevisionNotFoundError):
        return "the hub has no such revision of it"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no such repository, or hides it: {login}"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"the hub refuses: {login}"
    return f"asking the hub failed: {type(error).__name__}: {reason}"
