"""Does a study survive what happens on clusters?  A Slurm cluster of two nodes on this machine, and three accidents.

    python benchmarks/faults/slurm.py --install       # apt: slurm-wlm, munge; as root
    python benchmarks/faults/slurm.py --json

A small study runs twice in copies of this checkout: on this machine, and with `--workflow-profile slurm` on two nodes
(two slurmd on one host, GPUs that exist in Slurm only).  Trainings are spread over both nodes.  While the first one has
something to lose, it is cancelled; while a certification has, its node dies with all that runs on it; then Snakemake
itself is interrupted and the same command is given again.  In the end all weights, records and tables must be those of
the run without a cluster, bit for bit (but for the seconds that a record took).

Then every certification is done again with one shard an allocation and with all shards in one: what sharing saves.

Not tried here: real GPUs, two hosts, a shared file system, slurmdbd (job states come from squeue, not from sacct).
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
CONFIG = Path("/etc/slurm")
NODES = ("faults1", "faults2")
SHARDS = 4
NODE_TIMEOUT = 10  # seconds after which Slurm gives up a node that is silent

SCHEDULE = {"warmup_epochs": 0, "batch": 64, "lr": [0.003], "weight_decay": 0.0, "processes": 2}
STUDY = {
    "tables": "mixed_noise",
    "roles": {
        "upstream": {"dataset": "characters", "schedule": "pretrain"},
        "downstream": {"dataset": "digits", "schedule": "finetune"},
    },
    "seeds": [0],
    "network": {
        "default": "layer_norm",
        "name": "resnet18",
        "stem": "cifar",
        "groups": 4,
        "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16], "stem_type": "deep", "stem_width": 4},
    },
    "schedules": {"pretrain": SCHEDULE | {"epochs": 3, "checkpoint_seconds": 1}, "finetune": SCHEDULE | {"epochs": 1}},
    "evaluate": ["certify"],
    "certify": {"n0": 20, "n": 200, "alpha": 0.01, "images": 160, "shards": SHARDS},
    "report": ["table3"],
}
# Over both nodes: `mpi` tells the plugin that the rule calls srun by itself.
SPREAD = ["train:nodes=2", "train:mpi=srun", "train:tasks_per_node=2", "train:cpus_per_task=1"]
CLUSTER = ["--workflow-profile", "slurm", "--set-resources", *SPREAD, "evaluate:turn=1"]
# No accounting here, and no time to lose.
CLUSTER += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"]

SLURM_CONF = """
ClusterName=faults
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmdTimeout={timeout}
ReturnToService=2
MinJobAge=86400
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def run(*command: str, **options: Any) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 900) -> Any:
    """What `condition` returns, as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not seen within {seconds:.0f} s")
        time.sleep(0.1)
    return found


class Cluster:
    """munged, slurmctld and one slurmd a node, all in one folder; ended by `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        port = 20000 + os.getpid() % 10000
        conf = SLURM_CONF.format(folder=folder, user="root", port=port, timeout=NODE_TIMEOUT)
        for number, node in enumerate(NODES, 1):
            conf += f"NodeName={node} NodeHostname=localhost Port={port + number} CPUs=2 RealMemory=64000 Gres=gpu:2\n"
        # The plugin takes SLURM_CONF from the environment of what runs on a node: only here do all find it.
        (CONFIG / "slurm.conf").write_text(conf)
        # Slurm counts files as GPUs; it hides them from jobs only where its settings say so.
        for gpu in range(2):
            (folder / f"gpu{gpu}").touch()
        (CONFIG / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")

    def start(self) -> None:
        """Start the daemons."""
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        run("/usr/sbin/munged", "--force", *(f"--{option}={self.folder / name}" for option, name in files.items()))
        run("/usr/sbin/slurmctld", "-c")
        for node in NODES:
            self.boot(node)

    def boot(self, node: str) -> None:
        """Start the daemon of a node."""
        run("/usr/sbin/slurmd", "-N", node)
        wait_for(f"{node} in service", lambda: self.state(node) in ("idle", "mixed", "allocated"), 60)

    def state(self, node: str) -> str:
        """As sinfo names it, without its marks."""
        return run("sinfo", "--noheader", "-n", node, "-o", "%T").strip().rstrip("*~#$@")

    def crash(self, node: str) -> int:
        """Kill a node's daemon and all that it runs, as a power cut would; the number of processes killed."""
        mine = {int((self.folder / f"{node}.pid").read_text())}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"SLURMD_NODENAME={node}".encode() not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                mine.add(int(process.name))
                if Path("/proc", parent, "cmdline").read_bytes().startswith(b"slurmstepd"):
                    mine.add(int(parent))
            except OSError:
                continue  # it ended
        for pid in mine:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(mine)

    def running(self, kind: str) -> list[str]:
        """Ids of the running jobs whose comment starts with this."""
        lines = run("squeue", "--noheader", "--states=RUNNING", "-o", "%i|%k").splitlines()
        return [line.split("|")[0] for line in lines if line.split("|")[1].startswith(kind)]

    def stop(self) -> None:
        """Cancel what is left and end the daemons."""
        subprocess.run(["scancel", "--user", str(os.getuid())], capture_output=True)
        for name in (*NODES, "slurmctld", "munged"):
            try:
                os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGTERM)
            except (FileNotFoundError, ProcessLookupError):
                continue
        for name in ("slurm.conf", "gres.conf"):
            (CONFIG / name).unlink()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster, if this machine has none."""
    if not shutil.which("slurmd", path="/usr/sbin") or not shutil.which("munged", path="/usr/sbin"):
        raise SystemExit("slurmd or munged is missing: run with --install, as root")
    if (CONFIG / "slurm.conf").exists():
        raise SystemExit(f"{CONFIG}/slurm.conf is there: this script wants a machine without a cluster")
    CONFIG.mkdir(exist_ok=True)
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def project(folder: Path) -> Path:
    """A copy of this checkout with the small study."""
    for name in ("Snakefile", "params", "profiles", "src", "workflow"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder)
    params = folder / "params"
    (params / "studies" / "smoke.yaml").write_text(yaml.safe_dump(STUDY))
    datasets = yaml.safe_load((params / "datasets.yaml").read_text())["datasets"]
    small = {name: datasets[name] | {"sha256": None} for name in ("characters", "digits")}
    small["characters"]["source"] |= {"train": 620, "test": 62}
    (params / "datasets.yaml").write_text(yaml.safe_dump({"datasets": small}))
    return folder / "results" / "smoke"


def outcome(results: Path) -> dict[str, bytes]:
    """Everything that must not differ, by its path below the study."""
    import pyarrow.parquet as pq

    found = {}
    for pattern in ("**/model.safetensors", "tables/*", "metrics/*.json"):
        found |= {str(path.relative_to(results)): path.read_bytes() for path in results.glob(pattern)}
    for path in results.glob("evaluate/**/records.parquet"):
        rows = pq.read_table(path).drop_columns("seconds").to_pylist()
        found[str(path.relative_to(results))] = json.dumps(rows).encode()
    return found


def start(folder: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """Snakemake in a project, without this machine's GPUs: only on CPUs are results equal bit for bit."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with log.open("ab") as stream:
        return subprocess.Popen([*SNAKEMAKE, *options], cwd=folder, env=environment, stdout=stream, stderr=stream)


def finished(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a Snakemake that must succeed."""
    if process.wait() != 0:
        raise SystemExit(f"snakemake failed:\n{log.read_text()[-3000:]}")


def accidents(made: Cluster, folder: Path, log: Path) -> dict[str, Any]:
    """Run the study on the cluster, with the three accidents."""
    results, seen = folder / "results" / "smoke", {}

    def rows() -> int:
        """Certified images in journals."""
        journals = results.glob("evaluate/**/*.journal")
        return sum(max(0, journal.read_text().count("\n") - 1) for journal in journals)

    snakemake = start(folder, log, *CLUSTER)
    wait_for("a state of a training", lambda: list(results.glob("train/**/resume.pt")))
    (job,) = made.running("rule_train")
    seen["training_nodes"] = int(run("squeue", "--noheader", "-j", job, "-o", "%D"))
    run("scancel", job)

    wait_for("a certified image", rows)
    (job,) = made.running("rule_evaluate")
    node = run("squeue", "--noheader", "-j", job, "-o", "%N").strip()
    seen["processes_lost_with_node"] = made.crash(node)
    seen["images_saved_at_crash"] = rows()
    wait_for("the dead node noticed", lambda: made.state(node) == "down", 10 * NODE_TIMEOUT)
    made.boot(node)
    wait_for("more images", lambda: rows() > seen["images_saved_at_crash"])

    snakemake.send_signal(signal.SIGINT)
    snakemake.wait()
    seen["images_saved_at_interrupt"] = rows()
    wait_for("an empty queue", lambda: not made.running(""), 60)
    finished(start(folder, log, *CLUSTER), log)
    return seen


def allocations(made: Cluster, folder: Path, log: Path, together: int) -> float:
    """Seconds of allocations that certification takes, with so many shards in each."""
    before = set(run("squeue", "--noheader", "--states=all", "-o", "%i").split())
    components = ["--group-components", f"evaluate={together}"]
    finished(start(folder, log, *CLUSTER, *components, "--forcerun", "evaluate"), log)
    lines = [line.split("|") for line in run("squeue", "--noheader", "--states=all", "-o", "%i|%S|%e").splitlines()]
    times = [
        (datetime.fromisoformat(began), datetime.fromisoformat(end)) for job, began, end in lines if job not in before
    ]
    return sum((end - began).total_seconds() for began, end in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install slurm-wlm and munge with apt, then end")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    if options.install:
        packages = ["slurm-wlm", "slurm-client", "munge"]
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], check=True)
        return
    # A shell that starts this in the background has it ignore Ctrl-C, and so would Snakemake.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        log = folder / "log"
        expected = project(folder / "local")
        finished(start(folder / "local", log), log)
        found = project(folder / "cluster")
        shutil.copytree(folder / "local" / "data", folder / "cluster" / "data")
        (folder / "slurm").mkdir()
        with cluster(folder / "slurm") as made:
            report = accidents(made, folder / "cluster", log)
            ours, theirs = outcome(expected), outcome(found)
            report["compared"] = len(ours)
            report["different"] = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
            report["slurm_jobs"] = len(run("squeue", "--noheader", "--states=all", "-o", "%i").split())
            report["seconds_one_shard_each"] = allocations(made, folder / "cluster", log, 1)
            report["seconds_all_in_one"] = allocations(made, folder / "cluster", log, SHARDS)
            again = outcome(found)
            report["different"] += [f"{key} (again)" for key in ours if ours[key] != again.get(key)]
    report["seconds"] = round(time.monotonic() - started)
    verdict = "as without a cluster" if not report["different"] else "DIFFERENT"
    print(f"{report['compared']} weights, records and tables: {verdict}")
    print("\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in report.items()))
    if options.json:
        print(json.dumps(report))
    sys.exit(bool(report["different"]))


if __name__ == "__main__":
    main()
