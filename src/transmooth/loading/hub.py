"""Checkpoints on a hub: load `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`, upload a folder.

What talks to the hub is huggingface_hub, and so its settings hold: HF_TOKEN or `hf auth login`, HF_HUB_OFFLINE,
HF_HOME, HF_ENDPOINT.  Of a repository its card and weights are fetched and nothing else: neither can execute.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.models.build import Network

PREFIX = "hf-hub:"
FETCHED = ("model.json", "model.safetensors")
API = HfApi(library_name="transmooth", library_version=__version__)


class HubError(OSError):
    """The hub cannot be reached, or refuses.  The message names the repository."""


def load(text: str) -> tuple[Network, dict[str, Any], Path, str]:
    """A checkpoint of a hub, verified as one of a folder: network, card, its folder in the cache, and its full name.

    The name ends in the commit: what a branch is today another commit may be tomorrow.  Raises ValueError for a text of
    another form, HubError, and CheckpointError for a repository without a sound checkpoint.
    """
    match = re.fullmatch(rf"{PREFIX}([^@]*)(?:@([\w./-]+))?", text)
    if not match:
        raise ValueError(f"a model of a hub is {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION, found {text!r}")
    repository = checked(match[1])
    with _asking(text):
        folder = Path(API.snapshot_download(repository, revision=match[2], allow_patterns=list(FETCHED)))
    name = f"{PREFIX}{repository}@{folder.name}"  # the cache has a folder for each commit
    try:
        network, card = weights.load(folder)
    except CheckpointError as error:
        # What follows the semicolon mends a training of one's own.
        fault = str(error).split(";")[0].replace(f"{folder}/", "")
        raise CheckpointError(
            f"{name}: holds no sound checkpoint of transmooth: {fault}; "
            f"if it is only damaged here, remove {folder.parents[1]} to fetch it anew"
        ) from error
    return network, card, folder, name


def upload(folder: Path, repository: str, *, private: bool, obsolete: Sequence[str]) -> str:
    """Put a folder's files into OWNER/NAME, made if need be, by one commit; returns its name as `load` takes it.

    obsolete: files that the commit removes where an earlier one left them and the folder lacks them.  Raises HubError,
    and ValueError for a repository that should be private and is there already, public.
    """
    name = f"{PREFIX}{repository}"
    with _asking(name):
        API.create_repo(repository, private=private, exist_ok=True)
        public = private and not API.model_info(repository).private  # one that was there stays what it was
    if public:
        raise ValueError(f"{name}: should be private, but is there already and public; nothing was uploaded")
    with _asking(name):
        message = f"Checkpoint and model card by transmooth {__version__}"
        commit = API.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, delete_patterns=list(obsolete)
        )
    return f"{name}@{commit.oid}"


def checked(repository: str) -> str:
    """The text itself.  Raises ValueError unless it can be the name of a repository, with its owner."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository, re.ASCII):
        raise ValueError(
            f"a repository on a hub is OWNER/NAME, of letters, digits, '-', '_' and '.'; found {repository!r}"
        )
    return repository


@contextmanager
def _asking(name: str) -> Iterator[None]:
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
