"""Lend each job of a machine its own GPUs: `python -m transmooth.runtime.gpus COUNT SHARES COMMAND …`.

Snakemake counts GPUs but does not say which: without this every job would take the first.  A lease is a locked file
for each share of a GPU, which the system frees when the command ends, however that happens.  With one share a GPU is
lent to one job alone; with more, that many small jobs, none of which keeps it busy, have it together.  Under Slurm the
pool is what the scheduler gave to the allocation (CUDA_VISIBLE_DEVICES).  Each allocation lends its own, for two of
them may give different GPUs the same names.
"""

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

FOLDER = Path(tempfile.gettempdir(), f"transmooth-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'all')}")


def present() -> list[str]:
    """Return names of the GPUs that jobs share out: those of CUDA_VISIBLE_DEVICES, else all of the machine."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True)
    except FileNotFoundError:
        return []
    return listed.stdout.decode().split() if listed.returncode == 0 else []


def lease(count: int, pool: list[str], shares: int = 1, folder: Path = FOLDER, poll: float = 1) -> list[str]:
    """Wait until `count` GPUs of the pool have a share free and take it for this process and what it becomes.

    shares: of each GPU; one of which less is lent is taken first.  Raises ValueError if the pool has fewer GPUs.
    """
    if count > len(pool):
        raise ValueError(f"{count} GPUs asked for, the machine has {len(pool)}: {', '.join(pool) or 'none'}")
    folder.mkdir(mode=0o700, exist_ok=True)
    there = folder.lstat()  # its name is easy to guess: another user may have made it, or a link
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o022:
        raise ValueError(f"{folder}: should be a folder of this user that nobody else can write to; remove it")
    while True:
        taken: dict[str, int] = {}
        for share, name in product(range(shares), pool):
            if len(taken) == count:
                break
            if name in taken:
                continue
            descriptor = os.open(folder / f"{name}.{share}.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[name] = descriptor
            except OSError:
                os.close(descriptor)
        if len(taken) == count:
            for descriptor in taken.values():
                os.set_inheritable(descriptor, True)  # the lock lives on in the command
            return list(taken)
        # All or nothing: two jobs that each hold a part would wait for each other forever.
        for descriptor in taken.values():
            os.close(descriptor)
        time.sleep(poll)


def main(arguments: list[str]) -> None:
    """Become the command, with the leased GPUs visible to it."""
    count, shares, *command = arguments
    if pool := present():
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(lease(int(count), pool, int(shares)))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
