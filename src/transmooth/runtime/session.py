"""What one Snakemake process does around its jobs: locks, the fork server, how jobs end with it."""

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from transmooth.runtime import fork_client, mirror, shutdown
from transmooth.runtime.closure import digest


def hold_folder(folder: Path, root: Path, outputs: Mapping[str, Sequence[str]], outside: Sequence[str]) -> IO[str]:
    """Keep a study's folder, and put it in order where no other Snakemake is at work in it.

    Every Snakemake that runs shares a lock, which the system frees.  One that gets it exclusively knows that no other
    one runs.  It removes old locks, for which Snakemake would want `--unlock`, and shards that were made into records.
    It takes what DVC checked out (see mirror.py, for `outputs` and `outside` too).  The file that is returned keeps
    this process's share.
    """
    (folder / ".snakemake").mkdir(exist_ok=True)
    alive = open(folder / ".snakemake" / "alive", "w")  # noqa: SIM115  (it stays open)
    with suppress(BlockingIOError):
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for lock in (folder / ".snakemake" / "locks").glob("*.lock"):
            lock.unlink()
        _remove_shards(folder)
        if stay := mirror.take(folder, folder / "dvc", outputs, outside, partial(_in_cache, root)):
            print(
                f"{len(stay)} results are in no DVC cache and stay, though results/{folder.name}/dvc has others "
                f"({stay[0]}{', …' if len(stay) > 1 else ''}); remove them to have those.",
                file=sys.stderr,
            )
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


def _remove_shards(folder: Path) -> None:
    """Remove shards that are older than the records beside them.

    Snakemake does that when `finish` is done.  But one that is killed in its last moment can bring its records into
    place after Snakemake gave it up and looked for outputs: they are whole, and the next run has nothing left to do.
    """
    for records in folder.glob("evaluate/**/records.parquet"):
        for shard in records.parent.glob("*-of-*.parquet"):
            if shard.stat().st_mtime_ns < records.stat().st_mtime_ns:
                shard.unlink()


def give_to_dvc(folder: Path, outputs: Mapping[str, Sequence[str]], outside: Sequence[str]) -> None:
    """Mirror the study for DVC, however its run ended; where that fails DVC must not version an old mirror."""
    try:
        mirror.give(folder, folder / "dvc", outputs, outside)
    except OSError as error:
        print(f"results/{folder.name}/dvc: not up to date: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _in_cache(root: Path, path: Path) -> bool:
    """Return whether DVC's cache has the content of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    return (_dvc_cache(root) / "files" / "md5" / digest[:2] / digest[2:]).exists()


@cache
def _dvc_cache(root: Path) -> Path:
    """Return where the cache is, by all of DVC's configuration; without DVC it is nowhere.

    DVC is the one of this interpreter, which needs to be on no PATH.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True)
    return Path(done.stdout.strip() or os.devnull)


def start_fork_server() -> None:
    """Import torch once for all jobs of this process here (see cli/fork_server.py); the server ends with it."""
    folder = tempfile.mkdtemp(prefix="transmooth-")
    atexit.register(shutil.rmtree, folder)
    end_jobs_with_this_process(Path(folder, "run"))
    address = Path(folder, "warm")
    subprocess.Popen([sys.executable, "-m", "transmooth.cli.fork_server", address], stdin=subprocess.PIPE)
    os.environ[fork_client.ADDRESS] = str(address)


def exit_as_stopped() -> None:
    """End a process that a signal stopped as shells have it, Ctrl-C with 130; Snakemake itself ends with 1."""
    if status := os.environ.get(shutdown.STOPPED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


def end_jobs_with_this_process(lock: Path) -> None:
    """Have jobs save and end when this process dies or is to end; Snakemake alone would wait until they are done."""
    run = shutdown.hold_run_lock(lock)
    shutdown.interrupt_on_ctrl_c()

    def tell_jobs(then: Callable[..., Any]) -> Callable[..., None]:
        def handler(*signal_and_frame: Any) -> None:
            if run.closed:  # a second one must not disturb how the jobs, and Snakemake, end after the first
                return
            os.environ[shutdown.STOPPED] = str(128 + signal_and_frame[0])  # jobs that end now are stopped, not failed
            run.close()
            then(*signal_and_frame)

        return handler

    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(then := signal.getsignal(number)):  # a shell has its background processes ignore Ctrl-C
            signal.signal(number, tell_jobs(then))


def forget_finished_trainings(folders: Iterable[Path]) -> None:
    """Remove the states that would bring a training's outputs back: Snakemake knows now that it is done."""
    if not any(Path(".snakemake/incomplete").iterdir()):
        for folder in folders:
            if (folder / "model.json").is_file():
                (folder / "resume.pt").unlink(missing_ok=True)


def check_networks(networks: Mapping[str, str], known: Path) -> list[str]:
    """Return a line for each network, a name and the canonical JSON of its spec, that cannot be built.

    It takes torch and timm to know, seconds to import: so those that were found good are remembered in the folder
    `known`, as long as the versions of both and this project's way to build stay what they are.
    """
    made = [f"{name} {version(name)}" for name in ("torch", "timm")] + [digest("models.check")]
    marks = {
        name: known / hashlib.sha256("\n".join([*made, spec]).encode()).hexdigest() for name, spec in networks.items()
    }
    unknown = {name: json.loads(networks[name]) for name, mark in marks.items() if not mark.exists()}
    if not unknown:
        return []
    command = [sys.executable, "-m", "transmooth", "job", "networks", "--spec", json.dumps(unknown)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stdout or done.stderr).strip().splitlines()
    with suppress(OSError):  # a folder that cannot be written forgets them
        known.mkdir(parents=True, exist_ok=True)
        for name in unknown:
            marks[name].touch()
    return []
