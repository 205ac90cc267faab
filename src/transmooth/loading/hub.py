"""Checkpoints on a hub: load `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`, upload a folder.

Of a repository its card and weights are fetched and nothing else: neither can execute.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transmooth import __version__
from transmooth.checkpoint import weights
from transmooth.checkpoint.card import CheckpointError
from transmooth.hub import API, asking, fetch
from transmooth.models.build import Network

PREFIX = "hf-hub:"
FETCHED = ("model.json", "model.safetensors")


def load(text: str) -> tuple[Network, dict[str, Any], Path, str]:
    """A checkpoint of a hub, verified as one of a folder: network, card, its folder in the cache, and its full name.

    The name ends in the commit: what a branch is today another commit may be tomorrow.  Raises ValueError for a text of
    another form, HubError, and CheckpointError for a repository without a sound checkpoint.
    """
    folder, name = fetch(text, PREFIX, FETCHED)
    try:
        network, card = weights.load_network(folder)
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
    with asking(name):
        API.create_repo(repository, private=private, exist_ok=True)
        public = private and not API.model_info(repository).private  # one that was there stays what it was
    if public:
        raise ValueError(f"{name}: should be private, but is there already and public; nothing was uploaded")
    with asking(name):
        message = f"Checkpoint and model card by transmooth {__version__}"
        commit = API.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, delete_patterns=list(obsolete)
        )
    return f"{name}@{commit.oid}"
