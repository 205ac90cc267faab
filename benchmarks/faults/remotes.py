"""Does a study come back from DVC as it was?  From three kinds of remote, from experiments, and from a damaged cache.

    uv run --group remotes python benchmarks/faults/remotes.py --json

A small study is run and versioned in a temporary folder.  Then it is pushed to a folder, to an SSH server and to an S3
server; both are started here on the loopback interface.  A clean clone pulls it, and Snakemake must plan nothing there.
Experiments are queued, run, applied and collected as garbage; files of a cache and of a remote are damaged and must be
found.  Nothing is written outside the temporary folder but /run/sshd, which sshd wants when it runs as root.
"""

import argparse
import getpass
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.helpers.workflow import planned, snakemake, tiny  # noqa: E402  (the checkout's, wherever this is called)
from tests.test_dvc import call, store, version  # noqa: E402

METRICS = Path("results/smoke/metrics/pair.json")
STAGE = "minutes@smoke"
PATIENCE = 900  # seconds for the experiments of a queue


class Skipped(Exception):  # noqa: N818  (no fault)
    """What a trip needs is not installed."""


def isolate(temp: Path) -> None:
    """Keep DVC, git, ssh and AWS away from the user's own files."""
    home = temp / "home"
    home.mkdir()
    os.environ |= {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
    os.environ |= {f"DVC_{name}_DIR": str(temp / name) for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG")}
    os.environ |= {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "loopback"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


# ------------------------------------------------------------------------------------------------------- remotes
def local(temp: Path) -> Iterator[dict[str, str]]:
    """A folder."""
    yield {"url": str(temp / "store")}


def ssh(temp: Path) -> Iterator[dict[str, str]]:
    """An sshd of this user's own, with a host key and a user key made for this call."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None:
        raise Skipped("no sshd here: apt-get install openssh-server")
    _needs("dvc_ssh")
    folder = temp / "ssh"
    folder.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = Path.home() / ".ssh" / "known_hosts"
    known.parent.mkdir(mode=0o700)
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    config = {
        **{"Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none"},
        **{"AuthorizedKeysFile": folder / "user.pub", "AuthenticationMethods": "publickey", "StrictModes": "no"},
        **{"PermitRootLogin": "prohibit-password", "UsePAM": "no", "Subsystem": "sftp internal-sftp"},
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_for(port, server, folder / "log")
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder / 'store'}"
        yield {"url": url, "keyfile": str(folder / "user")}
    finally:
        server.terminate()
        server.wait()


def s3(temp: Path) -> Iterator[dict[str, str]]:
    """moto's S3 server."""
    _needs("dvc_s3")
    _needs("moto")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="studies")
        yield {"url": "s3://studies/store", "endpointurl": endpoint}
    finally:
        server.stop()


def _needs(module: str) -> None:
    if find_spec(module) is None:
        raise Skipped(f"no {module} here: uv sync --group remotes")


def _wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"sshd does not answer: {log.read_text().strip()}")


def remember(folder: Path, remote: dict[str, str]) -> None:
    """Tell a checkout of the remote, in the part of its configuration that git does not keep."""
    call(folder, "dvc", "remote", "add", "--local", "--default", "--force", "store", remote["url"])
    for option in remote.keys() - {"url"}:
        call(folder, "dvc", "remote", "modify", "--local", "store", option, remote[option])


def clone(project: Path, to: Path, remote: dict[str, str]) -> Path:
    """A clean clone that knows the remote."""
    call(project.parent, "git", "clone", "--quiet", str(project), str(to))
    remember(to, remote)
    return to


def current(folder: Path) -> None:
    """Raise AssertionError unless neither Snakemake nor DVC finds anything to do."""
    assert (plan := planned(folder)) == {}, f"Snakemake plans {plan}"
    status = call(folder, "dvc", "status", STAGE).strip()
    assert status.endswith("up to date."), f"DVC says: {status}"


def prepare(project: Path) -> str:
    """Run the small study and put it under DVC."""
    project.mkdir()
    done = snakemake(tiny(project))
    assert done.returncode == 0, done.stdout + done.stderr
    version(project)
    store(project)
    current(project)
    return f"{sum(path.is_file() for path in (project / 'results').rglob('*'))} files of results"


def round_trip(project: Path, temp: Path, kind: Callable[[Path], Iterator[dict[str, str]]]) -> str:
    """Push, pull into a clean clone, and plan."""
    with contextmanager(kind)(temp) as remote:
        remember(project, remote)
        started = time.monotonic()
        call(project, "dvc", "push", "--quiet")
        pushed = time.monotonic()
        assert "in sync" in (said := call(project, "dvc", "status", "--cloud")), said
        copy = clone(project, temp / f"from-{kind.__name__}", remote)
        begun = time.monotonic()
        call(copy, "dvc", "pull", "--quiet")
        pulled = time.monotonic()
        current(copy)
        assert (copy / METRICS).read_bytes() == (project / METRICS).read_bytes()
    return f"push {pushed - started:.1f} s, pull {pulled - begun:.1f} s, then nothing is planned"


# --------------------------------------------------------------------------------------------------- experiments
def run_experiments(project: Path, start: list[str], samples: list[int]) -> str:
    """Queue an experiment for each number of samples, have `start` run them, and apply them one after the other."""
    names = [f"n-{n}" for n in samples]
    before = (project / METRICS).read_bytes()
    for name, n in zip(names, samples, strict=True):
        how = start[3:] if "--temp" in start else ["--queue"]
        change = f"params/studies/smoke.yaml:certify.n={n}"
        call(project, "dvc", "exp", "run", *how, "-n", name, "-S", change, STAGE)
    if "--temp" not in start:
        call(project, *start)
        _wait_for_queue(project, names)
    assert (project / METRICS).read_bytes() == before, "the workspace changed"
    for name, n in zip(names, samples, strict=True):
        call(project, "dvc", "exp", "apply", name)
        assert f"n: {n}" in (project / "params/studies/smoke.yaml").read_text()
        current(project)
        assert (project / METRICS).read_bytes() != before, f"{name} has the metrics of the study"
    restore(project)
    assert (project / METRICS).read_bytes() == before
    return f"{len(names)} run and applied, then nothing is planned; the workspace comes back"


def _wait_for_queue(project: Path, names: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = [line for line in call(project, "dvc", "queue", "status").splitlines() if set(line.split()) & {*names}]
        if failed := [line for line in lines if "Failed" in line]:
            raise RuntimeError(f"{failed[0]}: {call(project, 'dvc', 'queue', 'logs', failed[0].split()[1])[-500:]}")
        if len(lines) == len(names) and all("Success" in line for line in lines):
            return
        time.sleep(2)
    raise RuntimeError(f"the queue took more than {PATIENCE} s: {call(project, 'dvc', 'queue', 'status')}")


def restore(project: Path) -> None:
    """What git and DVC have of the last commit."""
    call(project, "git", "checkout", "--quiet", "--force", "HEAD", "--", ".")
    call(project, "dvc", "checkout", "--quiet", STAGE)
    current(project)


def collect_garbage(project: Path) -> str:
    """Remove what no workspace needs: the study stays, the experiments go."""
    before = len(objects(project))
    call(project, "dvc", "gc", "--workspace", "--force", "--quiet")
    after = len(objects(project))
    assert after < before, "nothing was removed"
    shutil.rmtree(project / "results" / "smoke")
    restore(project)
    return f"{before} files in the cache before, {after} after; the study is still checked out whole"


# ------------------------------------------------------------------------------------------------------- damage
def objects(folder: Path) -> list[Path]:
    """The files of a DVC cache or store."""
    return [path for path in (folder / ".dvc/cache/files/md5").glob("??/*") if path.is_file()]


def damaged(store: Path) -> list[Path]:
    """The files of a cache or store whose name is not the MD5 of their content."""
    found = store.glob("files/md5/??/*")
    return [path for path in found if _md5(path) != path.parent.name + path.name.removesuffix(".dir")]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def refusal(folder: Path, *command: str) -> str:
    """What a command says that fails; nothing if it works."""
    try:
        call(folder, *command)
    except AssertionError as error:
        return str(error)
    return ""


def flip_a_bit(store: Path, like: Path) -> Path:
    """Damage the file of a store that has the content of `like`, keeping its size, mode and times."""
    digest = _md5(like)
    path = store / "files" / "md5" / digest[:2] / digest[2:]
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


def damage_cache(project: Path, temp: Path) -> str:
    """A flipped bit in the cache, in records that are then checked out: which command notices?"""
    remote = {"url": str(temp / "store")}
    copy = clone(project, temp / "damaged-cache", remote)
    call(copy, "dvc", "pull", "--quiet")
    records = next(copy.glob("results/smoke/dvc/evaluate/**/certify/records.parquet"))
    cache = copy / ".dvc" / "cache"
    path = flip_a_bit(cache, records)
    records.unlink()
    noticed = {
        "dvc checkout": bool(refusal(copy, "dvc", "checkout", "--force")),
        "dvc status": not call(copy, "dvc", "status", STAGE).strip().endswith("up to date."),
        "snakemake": planned(copy) != {},
        "md5 of the cache": damaged(cache) == [path],
    }
    assert noticed["md5 of the cache"], f"not found: {noticed}"
    path.unlink(missing_ok=True)
    records.unlink(missing_ok=True)
    call(copy, "dvc", "pull", "--quiet")
    assert damaged(cache) == []
    current(copy)
    answers = ", ".join(f"{name} {'sees' if seen else 'misses'} it" for name, seen in noticed.items())
    return f"{answers}; removed and pulled again, it is whole"


def damage_remote(project: Path, temp: Path) -> str:
    """A flipped bit in a remote: `verify` makes a pull compare contents."""
    store = temp / "damaged-store"
    shutil.copytree(temp / "store", store)
    flip_a_bit(store, next(project.glob("results/smoke/evaluate/**/certify/records.parquet")))
    copy = clone(project, temp / "damaged-remote", {"url": str(store), "verify": "true"})
    said = refusal(copy, "dvc", "pull")
    assert said, "a pull with `verify` took it"
    return f"a pull with `verify` refuses it: {' '.join(said.split())[-200:]}"


# ---------------------------------------------------------------------------------------------------------- main
def main() -> int:
    """Print a line for each trip; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="transmooth-", ignore_cleanup_errors=True) as name:
        temp = Path(name)
        isolate(temp)
        project = temp / "project"
        trips: dict[str, Callable[[], str]] = {
            "study, versioned": lambda: prepare(project),
            "local remote": lambda: round_trip(project, temp, local),
            "SSH remote": lambda: round_trip(project, temp, ssh),
            "S3 remote": lambda: round_trip(project, temp, s3),
            "exp run --temp": lambda: run_experiments(project, ["dvc", "exp", "run", "--temp"], [110]),
            "exp run --run-all": lambda: run_experiments(project, ["dvc", "exp", "run", "--run-all"], [120, 130]),
            "queue start": lambda: run_experiments(project, ["dvc", "queue", "start"], [140, 150]),
            "gc": lambda: collect_garbage(project),
            "damaged cache": lambda: damage_cache(project, temp),
            "damaged remote": lambda: damage_remote(project, temp),
        }
        for trip, run in trips.items():
            started = time.monotonic()
            try:
                status, said = "ok", run()
            except Skipped as reason:
                status, said = "skipped", str(reason)
            except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
                status, said = "failed", " ".join(str(error).split())[-1000:]
            seconds = round(time.monotonic() - started, 1)
            found.append({"trip": trip, "status": status, "seconds": seconds, "said": said})
            print(f"{trip:<18}{seconds:>7.1f} s  {status:<8}{said}", flush=True)
            if not (project / METRICS).exists():  # no study, nothing to try
                break
    if arguments.json:
        print(json.dumps({"trips": found, "failed": sum(each["status"] == "failed" for each in found)}))
    return int(any(each["status"] == "failed" for each in found))


if __name__ == "__main__":
    sys.exit(main())
