"""Kill a study at random moments, give the same command again each time, and compare what is left at the end.

    python benchmarks/faults/kill.py --kills 50 --seed 0 --json

A small study runs once undisturbed.  Then it runs again, and one process or all of them are killed at random moments of
every stage.  Where Snakemake ended it is started again; a study that is done starts over from the beginning.
Weights, records, tables and figures must be those of the undisturbed run, bit for bit; only what a clock says may
differ (see `tiny.observed`).  What was begun before a kill and is begun again after it is lost work.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import tiny

STAGES = ("prepare", "train", "evaluate", "finish", "table", "figure", "shift", "training")
# What a finished stage leaves.
MADE = {
    "prepare": "data/*/manifest.json",
    "train": "results/*/train/**/model.json",
    "evaluate": "results/*/evaluate/**/records.parquet",  # a shard is gone once its evaluation is finished
    "finish": "results/*/evaluate/**/records.parquet",
    "table": "results/*/tables/pair.md",
    "figure": "results/*/figures/curves.svg",
    "shift": "results/*/tables/moved.md",
    "training": "results/*/metrics/training.csv",
}
PIECES = ("train", "evaluate")  # stages whose work is saved piece by piece
SIGNALS = (signal.SIGKILL,) * 4 + (signal.SIGTERM, signal.SIGINT)
POLL = 0.1  # seconds: a look at all processes costs some 5 ms


@dataclass(frozen=True)
class Process:
    """A process of a project.  log: of the job that it belongs to, a path below logs/; empty if to none."""

    pid: int
    parent: int
    command: str
    log: str

    @property
    def stage(self) -> str:
        """The stage of its job, or the empty string."""
        return re.split(r"[/.]", self.log)[0]


@dataclass(frozen=True)
class Kill:
    """moment: on the monotonic clock.  victim: as in VICTIMS.  killed: the jobs' processes that it ended, started:
    when their jobs were first seen."""

    moment: float
    victim: str
    signal: signal.Signals
    stage: str
    killed: tuple[Process, ...]
    started: tuple[float, ...]


def processes(project: Path) -> list[Process]:
    """Every living process that works in the project."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if not os.readlink(folder / "cwd").startswith(f"{project}"):
                continue
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            log = os.readlink(folder / "fd" / "1").partition("/logs/")[2]
        except OSError:  # it ended meanwhile
            continue
        found.append(Process(int(folder.name), parent, command, log))
    return found


def start(project: Path, trace: Path) -> subprocess.Popen[bytes]:
    """Snakemake, in a process group of its own."""
    command = [str(Path(sys.executable).parent / "snakemake"), "--config", f"study={tiny.STUDY}"]
    with (project / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=project,
            env=tiny.environment(trace),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


# Which of the living processes may be killed, by the kind of victim, given the process of Snakemake.  Jobs fork
# from the warm server; what waits for one, in the place where Snakemake started it, is its client.
VICTIMS: dict[str, Callable[[list[Process], int], list[Process]]] = {
    "group": lambda living, main: [p for p in living if p.pid == main],
    "snakemake": lambda living, main: [p for p in living if p.pid == main],
    "job": lambda living, main: [p for p in living if p.stage and "accelerate launch" not in p.command],
    "rank": lambda living, main: [p for p in living if p.log == f"train/{tiny.SPREAD}.log"],
    "server": lambda living, main: [
        p for p in living if p.parent == main and "transmooth.cli.fork_server" in p.command
    ],
}
CHOICES = ("group", "group", "snakemake", "snakemake", "job", "job", "rank", "server")


class Harness:
    """Runs of the study in copies of the project, and what was seen of them."""

    def __init__(self, folder: Path, seed: int, kills: int, report: Callable[[str], None]) -> None:
        self.folder, self.random, self.report = folder, random.Random(seed), report
        self.quota = -(-kills // len(STAGES))  # of each stage: late ones would get all that early ones left over
        self.kills: list[Kill] = []
        self.orphans: dict[int, float] = {}  # pid -> when Snakemake was killed
        self.orphans_seconds = 0.0
        self.seen: dict[str, float] = {}  # log of a job that runs -> since when
        self.lifetimes: dict[str, list[float]] = defaultdict(list)

    def look(self, project: Path) -> list[Process]:
        """The living processes; keeps account of how long jobs and orphans live."""
        living, now = processes(project), time.monotonic()
        logs = {process.log for process in living if process.stage}
        for log in logs - self.seen.keys():
            self.seen[log] = now
        for log in self.seen.keys() - logs:
            self.lifetimes[re.split(r"[/.]", log)[0]].append(now - self.seen.pop(log))
        for pid in self.orphans.keys() - {process.pid for process in living}:
            self.orphans_seconds = max(self.orphans_seconds, now - self.orphans.pop(pid))
        return living

    def wait(self, project: Path, run: subprocess.Popen[bytes], until: Callable[[list[Process]], bool]) -> bool:
        """Whether `until` came true before Snakemake ended."""
        while run.poll() is None:
            if until(self.look(project)):
                return True
            time.sleep(POLL)
        return False

    def whole(self) -> Path:
        """Run the study undisturbed."""
        project, started = tiny.copy(self.folder / "whole"), time.monotonic()
        run = start(project, project / "trace")
        self.wait(project, run, lambda living: False)
        if run.returncode:
            raise SystemExit(f"the undisturbed run failed:\n{_tail(project)}")
        self.report(f"undisturbed: {time.monotonic() - started:.0f} s")
        return project

    def disturbed(self, number: int, whole: Path, kills: int) -> Path:
        """Run the study in another copy with up to so many kills until it is done."""
        project, mine = tiny.copy(self.folder / f"round{number}"), len(self.kills)
        done = False
        while not done:
            run, before = start(project, project / "trace"), len(self.kills)
            while len(self.kills) - mine < kills and self.kill(project, whole, run):
                pass
            self.wait(project, run, lambda living: False)
            done = run.returncode == 0
            if not done and len(self.kills) == before:
                raise SystemExit(f"the same command did not go on after kill {before}:\n{_tail(project)}")
        self.wait_for_orphans(project)
        return project

    def kill(self, project: Path, whole: Path, run: subprocess.Popen[bytes]) -> bool:
        """Wait for a random moment of one of the next stages and kill a random victim."""
        had = Counter(kill.stage for kill in self.kills)
        left = [s for s in STAGES if had[s] < self.quota and _made(project, s) < _made(whole, s)]
        if not left:
            return False
        stage = self.random.choice(left[:2])
        victim = "rank" if stage == "train" and self.random.random() < 0.3 else self.random.choice(CHOICES)
        number = signal.SIGKILL if victim == "server" else self.random.choice(SIGNALS)
        if not self.wait(project, run, lambda living: any(process.stage == stage for process in living)):
            return False
        moment = time.monotonic() + self.random.uniform(0, median(self.lifetimes[stage]))
        if not self.wait(project, run, lambda living: time.monotonic() >= moment):
            return False
        living = self.look(project)
        candidates = VICTIMS[victim](living, run.pid)
        if victim == "job":  # of the stage, if it still runs
            candidates = [process for process in candidates if process.stage == stage] or candidates
        if not candidates or run.poll() is not None:
            return True  # the moment has passed; another one
        chosen = self.random.choice(candidates)
        jobs = [process for process in living if process.stage]
        hit = {"job": [chosen], "rank": [chosen], "server": []}.get(victim, jobs)
        logs = {process.log for process in hit}
        killed = tuple(process for process in jobs if process.log in logs)
        stages = {process.stage for process in (killed or jobs)}
        where = stage if stage in stages else min(stages, default="between jobs")
        try:
            (os.killpg if victim == "group" else os.kill)(chosen.pid, number)
        except ProcessLookupError:
            return True
        now = time.monotonic()
        self.kills.append(Kill(now, victim, number, where, killed, tuple(self.seen[p.log] for p in killed)))
        self.report(f"kill {len(self.kills)}: {number.name} to {victim}, in {where}")
        if victim in ("group", "snakemake"):
            self.orphans |= {process.pid: now for process in jobs}
            run.wait()
            return False
        return True

    def wait_for_orphans(self, project: Path) -> None:
        """Let every process of a round end; one that does not is a fault."""
        deadline = time.monotonic() + 120
        while living := self.look(project):
            if time.monotonic() > deadline:
                raise SystemExit(f"these outlive their run: {living}")
            time.sleep(POLL)

    def lost(self, project: Path, kills: Sequence[Kill]) -> dict[str, tuple[float, int]]:
        """The longest time and the most pieces of work, by stage, that one of these kills made to be done again.

        Pieces are steps and images; other stages begin anew, which is one.
        """
        begun: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
        for line in (project / "trace").read_text().splitlines():
            moment, pid, log, item = line.split("\t")
            begun[log.partition("/logs/")[2]][item].append((float(moment), int(pid)))
        worst: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for kill in kills:
            for process, since in zip(kill.killed, kill.started, strict=True):
                times = [since]
                if process.stage in PIECES:
                    times = [
                        moment
                        for moments in begun[process.log].values()
                        for (moment, pid), (_, later) in pairwise(moments)
                        if pid == process.pid != later and moment <= kill.moment
                    ]
                if times:
                    seconds, pieces = worst[process.stage]
                    worst[process.stage] = max(seconds, kill.moment - min(times)), max(pieces, len(times))
        return worst


def _made(project: Path, stage: str) -> int:
    return len(list(project.glob(MADE[stage])))


def _tail(project: Path) -> str:
    return "\n".join((project / "output.txt").read_text(errors="replace").splitlines()[-60:])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of stages, victims, signals and moments")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    # Started in the background, a process ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="transmooth-kill-") as folder:
        harness = Harness(Path(folder).resolve(), options.seed, options.kills, lambda line: print(line, flush=True))
        whole = harness.whole()
        different: list[str] = []
        lost: dict[str, tuple[float, int]] = {}
        rounds = 0
        while len(harness.kills) < options.kills:
            rounds, first = rounds + 1, len(harness.kills)
            project = harness.disturbed(rounds, whole, options.kills - first)
            differing = tiny.different(whole, project)
            print(f"round {rounds}: {len(harness.kills) - first} kills, different: {', '.join(differing) or 'nothing'}")
            different += differing
            for stage, (seconds, pieces) in harness.lost(project, harness.kills[first:]).items():
                before = lost.get(stage, (0.0, 0))
                lost[stage] = max(before[0], seconds), max(before[1], pieces)
    trained = [seconds for stage, (seconds, _) in lost.items() if stage in PIECES]
    result: dict[str, Any] = {
        "kills": len(harness.kills),
        "different": len(different),
        "lost_seconds_max": round(max(trained, default=0.0), 2),
        "checkpoint_seconds": tiny.CHECKPOINT_SECONDS,
        "lost_seconds_by_stage": {stage: round(seconds, 2) for stage, (seconds, _) in lost.items()},
        "lost_steps_or_images_by_stage": {stage: pieces for stage, (_, pieces) in lost.items()},
        "orphans_seconds_max": round(harness.orphans_seconds, 2),
        "by_stage": Counter(kill.stage for kill in harness.kills),
        "by_victim": Counter(kill.victim for kill in harness.kills),
        "by_signal": Counter(kill.signal.name for kill in harness.kills),
        "rounds": rounds,
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
