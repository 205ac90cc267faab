"""A hub without a network: what is uploaded lands in huggingface_hub's own cache, from where its own code loads it.

The cache has the layout that huggingface_hub documents: refs/<branch> holds a commit, snapshots/<commit> the files.
"""

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from transmooth import hub


class FakeHub:
    """Patches what writes to the hub; reading goes through the real code, which is told that there is no network."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.cache, self.private = home / "hub", dict[str, bool]()
        patch.setattr(constants, "HF_HUB_CACHE", str(self.cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        for name in ("create_repo", "model_info", "upload_folder"):
            patch.setattr(hub.API, name, getattr(self, name))

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.private.setdefault(repo_id, private)

    def model_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str, delete_patterns: list[str]) -> Any:
        assert commit_message
        uploaded = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        kept = {path.name: path.read_bytes() for path in self.files(repo_id) if path.name not in delete_patterns}
        content = kept | uploaded
        commit = hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()
        snapshot = self.repository(repo_id) / "snapshots" / commit
        shutil.rmtree(snapshot, ignore_errors=True)
        snapshot.mkdir(parents=True)
        for name, data in content.items():
            (snapshot / name).write_bytes(data)
        refs = self.repository(repo_id) / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(commit)
        return SimpleNamespace(oid=commit)

    def repository(self, repo_id: str) -> Path:
        return self.cache / f"models--{repo_id.replace('/', '--')}"

    def files(self, repo_id: str) -> list[Path]:
        """Those of the branch main."""
        head = self.repository(repo_id) / "refs" / "main"
        return sorted((head.parents[1] / "snapshots" / head.read_text()).iterdir()) if head.is_file() else []
