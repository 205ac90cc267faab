"""What `snakemake` shows while it runs: a logger plugin of Snakemake, chosen in profiles/default.

On a terminal, one line for each stage and each running job, redrawn in place; elsewhere, one line for each job that is
done.  A job that fails is shown with the end of its log and the command that runs it again.  How far a job is, is read
from what it leaves behind anyway: its log, or the journal of its records.  Snakemake's own, longer account stays in
.snakemake/log of the checkout.
"""

import glob
import json
import logging
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from transmooth.runtime import shutdown

STAGES = ("prepare", "train", "evaluate")
REPORT = "report"  # every rule that is no stage of its own: joining records, tables, figures
LOG_LINES, LOG_BYTES = 15, 1 << 14
# Of Snakemake's messages those that a reader of this terminal has no use for.
NOISE = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Select jobs to execute|Execute \d+ jobs|Removing temporary output"
    r"|Some jobs were triggered by provenance|Rules with provenance|This was a dry-run|Elapsed time|Touching output"
)


# ------------------------------------------------------------------------------------------- how far a job is
@dataclass(frozen=True)
class Count:
    """Done of total, in the job's own unit, and what it says of its speed."""

    done: int
    total: int
    speed: str = ""


def _last(log: Path) -> dict[str, Any] | None:
    """Return the last line of a log's end that says how far its job is: a JSON object with `of`."""
    if not log.is_file():
        return None
    with log.open("rb") as file:  # it is looked at again and again, and a training may run for weeks
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    reports = (line for line in reversed(lines) if line.startswith("{") and line.endswith("}") and '"of"' in line)
    line = next(reports, None)
    return json.loads(line) if line else None


def _pictures(log: Path) -> Count | None:
    line = _last(log)
    return Count(line["images"], line["of"]) if line else None


def _steps(log: Path, learning_rates: Sequence[float]) -> Count | None:
    """Steps over all learning rates, which take turns."""
    if (line := _last(log)) is None:
        return None
    done = learning_rates.index(line["lr"]) * line["of"] + line["step"]
    speed = f"{line['images_per_second']:.0f} images/s" if "images_per_second" in line else ""
    return Count(done, line["of"] * len(learning_rates), speed)


def _certified(out: Path, total: int, seen: dict[Path, tuple[int, int]]) -> Count:
    """Images over all sigmas.  A journal only grows until its job starts anew: `seen` has its (bytes, lines) so far."""
    for path in map(Path, glob.glob(f"{glob.escape(str(out))}.rank*.journal")):
        size, lines = seen.get(path, (0, 0))
        if path.stat().st_size < size:
            size, lines = 0, 0
        with path.open("rb") as file:
            file.seek(size)
            more = file.read()
        seen[path] = size + len(more), lines + more.count(b"\n")
    return Count(sum(lines - 1 for _, lines in seen.values() if lines), total)


def _cause(logs: Sequence[str]) -> str:
    """The line in the logs of a job that says why it ended: our own, or the last one of a traceback; '' where none."""
    for log in map(Path, logs):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        ours = [line.removeprefix("transmooth: ") for line in lines if line.startswith("transmooth: ")]
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        if found := ours[-1:] or raised[-1:] or [line for line in lines[-1:] if line == "stopped"]:
            return found[0]
    return ""


def counter(job: Mapping[str, Any]) -> Callable[[], Count | None] | None:
    """Return a function that says how far a started job is, given Snakemake's record of it; None if it does not say."""
    command = shlex.split(job.get("shellcmd") or "")
    if "--spec" not in command:
        return None
    spec, log = json.loads(command[command.index("--spec") + 1]), Path(job["log"][0])
    if job["rule_name"] == "prepare":
        return partial(_pictures, log)
    if job["rule_name"] == "train":
        return partial(_steps, log, spec["schedule"]["lr"])
    if job["rule_name"] == "evaluate" and spec["kind"] in ("certify", "samplewise"):
        manifest = next(path for path in job["input"] if path.endswith("manifest.json"))
        images = json.loads(Path(manifest).read_text(encoding="utf-8"))["counts"]["test"]
        images = images if spec["images"] == "all" else min(images, spec["images"])
        shard, shards = (int(job["wildcards"][name]) for name in ("shard", "shards"))
        out = Path(job["output"][0].split(" ")[0])
        rows = len(spec["sigmas"]) if spec["kind"] == "certify" else 1
        return partial(_certified, out, len(range(shard - 1, images, shards)) * rows, {})
    return None


# --------------------------------------------------------------------------------------------------- the terminal
@dataclass
class Job:
    """A job that Snakemake has started."""

    name: str
    stage: str
    count: Callable[[], Count | None] | None
    started: float = field(default_factory=time.monotonic)


def stage_of(rule: str) -> str:
    """Return the stage that the jobs of a rule belong to."""
    return rule if rule in STAGES else REPORT


def name_of(job: Mapping[str, Any]) -> str:
    """Return the rule and the values of its wildcards, as in the folders of the results."""
    return f"{job['rule_name']} {'/'.join(map(str, job['wildcards'].values()))}".rstrip()


class LogHandler(LogHandlerBase):
    """Shows a run of the workflow on the terminal; the records and settings are Snakemake's."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True  # of its own: --quiet shall not hide errors
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.quiet = {word.name for word in settings.quiet or ()}
        self.console = Console(stderr=not settings.stdout, no_color=settings.nocolor or None, highlight=False)
        self.redraws = self.console.is_terminal and not self.console.is_dumb_terminal and not self.quiet
        self.live: Live | None = None
        self.totals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running: dict[int, Job] = {}
        self.started = time.monotonic()
        self.bars = Progress(TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
        self.jobs = Progress(
            TextColumn("  {task.description}"),
            BarColumn(10),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            speed_estimate_period=3600,
        )
        self.stage_tasks: dict[str, Any] = {}
        self.job_tasks: dict[int, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record, or keep it for what is shown later."""
        try:
            self._show(getattr(record, "event", None), record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stop()
        super().close()

    def _show(self, event: LogEvent | None, record: logging.LogRecord) -> None:
        fields, dry = vars(record), self.common_settings.dryrun
        if "ALL" in self.quiet and not dry:
            return
        if event == LogEvent.RUN_INFO:
            self._plan(fields["stats"], record.getMessage())
        elif event == LogEvent.JOB_INFO:
            self._start(fields)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(fields["job_id"])
        elif event == LogEvent.JOB_ERROR:
            self._fail(fields)
        elif event == LogEvent.PROGRESS and fields["done"] == fields["total"]:
            self._stop()
        elif event == LogEvent.SHELLCMD and self.common_settings.printshellcmds and fields.get("shellcmd"):
            self._say(fields["shellcmd"])
        elif "cannot be locked" in record.getMessage():  # it would advise --unlock, which breaks the other run
            self._say(f"results/{Path.cwd().name}: another snakemake is at work in it; wait for it or stop it", "red")
        elif os.environ.get(shutdown.STOPPED) and "did not complete" in record.getMessage():
            return  # jobs that were stopped are no failure
        elif record.levelno >= logging.WARNING:
            self._say(record.getMessage(), "red" if record.levelno >= logging.ERROR else "yellow")
        elif event is None and not self.quiet and not NOISE.match(record.getMessage()):
            self._say(record.getMessage())

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def _plan(self, stats: Mapping[str, int], text: str) -> None:
        if self.common_settings.dryrun:
            # It comes before the jobs and after them, where it is not scrolled away; with --quiet only before.
            if self.totals or self.quiet:
                self._say(text)
            self.totals.update(stats)
            return
        for stage in (*STAGES, REPORT):  # in the order of the work, which is not that of `stats`
            if count := sum(count for rule, count in stats.items() if rule != "total" and stage_of(rule) == stage):
                self.totals[stage] = count
        stages = ", ".join(f"{count} {stage}" for stage, count in self.totals.items())
        if not self.quiet:
            self._say(f"{Path.cwd().name}: {sum(self.totals.values())} jobs: {stages}")
        if self.redraws:
            for number, (stage, count) in enumerate(self.totals.items(), 1):
                title = f"{number} of {len(self.totals)}  {stage}"
                self.stage_tasks[stage] = self.bars.add_task(title, total=count)
            self.live = Live(get_renderable=self._drawn, console=self.console, refresh_per_second=2, transient=True)
            self.live.start()

    def _start(self, fields: Mapping[str, Any]) -> None:
        name = name_of(fields)
        if self.common_settings.dryrun:
            reason = re.split(r"[:;]", fields["reason"])[0]
            if not self.quiet:
                self._say(f"{name}  ({reason[:1].lower()}{reason[1:]})")
            return
        self.running[fields["jobid"]] = Job(name, stage_of(fields["rule_name"]), counter(fields))

    def _finish(self, number: int) -> None:
        if (job := self.running.pop(number, None)) is None:
            return
        self.done[job.stage] += 1
        if not self.redraws and not self.quiet:
            count = f"{sum(self.done.values())} of {sum(self.totals.values())}"
            self._say(f"[{count}] {job.name}  {time.monotonic() - job.started:.0f} s")

    def _fail(self, fields: Mapping[str, Any]) -> None:
        job = self.running.pop(fields["jobid"], None)
        name = job.name if job else fields["rule_name"]
        cause = _cause(fields["log"])
        if os.environ.get(shutdown.STOPPED) or cause == "stopped":
            return self._say(f"stopped: {name}; the same command goes on", "yellow")
        self._say(f"failed: {name}: {cause}" if cause else f"failed: {name}", "red")
        for log in map(Path, fields["log"]):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
            self._say(f"  the end of {log.absolute()}:")
            self._say("\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (empty)")
        target = fields["output"][0].split(" ")[0] if fields["output"] else fields["rule_name"]
        self._say(f"  to run it alone: snakemake {target} --config study={Path.cwd().name}")
        return None

    def _stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
            minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
            self._say(f"{sum(self.done.values())} of {sum(self.totals.values())} jobs in {minutes} min {seconds} s")

    def _drawn(self) -> RenderableType:
        for stage, task in self.stage_tasks.items():
            self.bars.update(task, completed=self.done[stage])
        running = dict(self.running)
        for number in set(self.job_tasks) - set(running):
            self.jobs.remove_task(self.job_tasks.pop(number))
        for number, job in running.items():
            if number not in self.job_tasks:
                self.job_tasks[number] = self.jobs.add_task(job.name, total=None, state="")
            count = None
            with suppress(OSError, ValueError):  # a file that is torn or gone just now: the next look is soon
                count = job.count() if job.count else None
            if count:
                state = count.speed or f"{count.done} of {count.total}"
                self.jobs.update(self.job_tasks[number], completed=count.done, total=count.total, state=state)
        return Group(self.bars, self.jobs)
