"""What a run of the workflow shows, from records as Snakemake makes them and files as jobs leave them."""

import io
import json
import logging
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from tests.helpers.records import row
from tests.helpers.specs import certify_spec, train_spec
from transmooth.records.journal import Journal
from transmooth.runtime import shutdown, terminal
from transmooth.runtime.terminal import Count, LogHandler, counter
from transmooth.specs import RunSpec, ShiftSpec
from transmooth.training import loop, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def handler(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None = None, **settings: Any) -> LogHandler:
    monkeypatch.setattr("sys.stderr", stream or io.StringIO())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    names = {"quiet": None, "dryrun": False, "nocolor": True, "stdout": False, "printshellcmds": False}
    return LogHandler(SimpleNamespace(**(names | settings)), None)  # type: ignore[arg-type]


def send(to: LogHandler, event: LogEvent | None, text: str = "", level: int = logging.INFO, **fields: Any) -> str:
    """Hand over a record; what is on the stream so far."""
    record = logging.LogRecord("snakemake", level, "", 0, text, (), None)
    vars(record).update(fields, event=event)
    to.handle(record)
    return to.console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def job(number: int, rule: str = "train", **changes: Any) -> dict[str, Any]:
    made = {
        "jobid": number,
        "rule_name": rule,
        "wildcards": {"run": "resnet/mixed@upstream/0"},
        "input": [],
        "output": ["train/resnet/mixed@upstream/0/model.safetensors", "train/resnet/mixed@upstream/0/model.json"],
        "log": [],
        "shellcmd": "true",
        "reason": "Params have changed since last execution:\n    before: 1\n    now: 2",
    }
    return made | changes


STATS = {"finish": 1, "train": 2, "prepare": 1, "all": 1, "total": 5}


def test_away_from_a_terminal_there_is_a_line_for_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = handler(monkeypatch)
    send(shown, None, "Building DAG of jobs...")
    send(shown, LogEvent.WORKFLOW_STARTED, "Workflow has started!")
    send(shown, LogEvent.RUN_INFO, "Job stats: …", stats=STATS)
    send(shown, None, "Select jobs to execute...")
    send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
    send(shown, LogEvent.SHELLCMD, "Shell", shellcmd="true")
    send(shown, LogEvent.JOB_FINISHED, "Finished", job_id=3)
    send(shown, None, "This is odd", logging.WARNING)
    text = send(shown, LogEvent.PROGRESS, "None", done=5, total=5)
    assert text.splitlines() == [
        f"{tmp_path.name}: 5 jobs: 1 prepare, 2 train, 2 report",
        "[1 of 5] train resnet/mixed@upstream/0  0 s",
        "This is odd",
    ]


def test_a_failed_job_is_told_with_the_end_of_its_log_and_how_to_run_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "job.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    for quiet in (None, {Quietness.RULES, Quietness.PROGRESS}):  # the second is `--quiet`
        shown = handler(monkeypatch, quiet=quiet)
        send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
        text = send(shown, LogEvent.JOB_ERROR, "Error", logging.ERROR, **job(3, log=["job.log"]))
        assert "failed: train resnet/mixed@upstream/0\n" in text
        assert f"the end of {log}:\n    line 85\n" in text
        assert f"snakemake train/resnet/mixed@upstream/0/model.safetensors --config study={tmp_path.name}\n" in text
        assert text.count("line ") == terminal.LOG_LINES
        assert send(shown, LogEvent.JOB_FINISHED, "Finished", job_id=3) == text


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (
            ["note: x", "transmooth: pics/a.png: cannot be read"],
            "failed: train resnet/mixed@upstream/0: pics/a.png: cannot",
        ),
        (
            ["Traceback", "  File x", "RuntimeError: no kernel", ""],
            "failed: train resnet/mixed@upstream/0: RuntimeError: no",
        ),
        (["epoch 1", "stopped"], "stopped: train resnet/mixed@upstream/0; the same command goes on"),
    ],
)
def test_the_cause_comes_first(lines: list[str], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.log").write_text("\n".join(lines) + "\n")
    shown = handler(monkeypatch)
    send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
    text = send(shown, LogEvent.JOB_ERROR, "Error", logging.ERROR, **job(3, log=["job.log"]))
    assert text.startswith(first)
    assert ("the end of" in text) == first.startswith("failed")


def test_a_run_that_a_signal_ended_has_stopped_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(shutdown.STOPPED, "130")
    shown = handler(monkeypatch)
    send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
    text = send(shown, LogEvent.JOB_ERROR, "Error", logging.ERROR, **job(3, log=["none.log"]))
    assert text == "stopped: train resnet/mixed@upstream/0; the same command goes on\n"
    failure = "WorkflowError:\nAt least one job did not complete successfully."
    assert send(shown, None, failure, logging.ERROR) == text
    monkeypatch.delenv(shutdown.STOPPED)
    assert send(shown, None, failure, logging.ERROR) == f"{text}{failure}\n"


def test_a_second_run_is_not_advised_to_unlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = handler(monkeypatch)
    text = send(shown, None, "LockException: Directory cannot be locked. … use --unlock", logging.ERROR)
    assert text == f"results/{tmp_path.name}: another snakemake is at work in it; wait for it or stop it\n"


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, warned in (({Quietness.RULES, Quietness.PROGRESS}, "odd\n"), ({Quietness.ALL}, "")):
        shown = handler(monkeypatch, Terminal(), quiet=quiet)
        send(shown, LogEvent.RUN_INFO, "Job stats: …", stats=STATS)
        send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
        send(shown, LogEvent.JOB_FINISHED, "Finished", job_id=3)
        send(shown, None, "Unlocking working directory.")
        assert send(shown, None, "odd", logging.WARNING) == warned


def test_a_dry_run_lists_jobs_with_one_reason_and_the_counts_last(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = handler(monkeypatch, dryrun=True, stdout=True)
    send(shown, LogEvent.RUN_INFO, "Job stats: 5", stats=STATS)
    send(shown, LogEvent.JOB_INFO, "Rule", **job(3))
    send(shown, None, "This was a dry-run (flag -n). The order …")
    text = send(shown, LogEvent.RUN_INFO, "Job stats: 5", stats=STATS)
    assert text == "train resnet/mixed@upstream/0  (params have changed since last execution)\nJob stats: 5\n"


def test_a_terminal_shows_stages_and_running_jobs_and_is_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "job.log"
    command = f"python -m transmooth job train --spec {shlex.quote(train_spec(lr=[0.1]).text)}"
    shown = handler(monkeypatch, Terminal())
    send(shown, LogEvent.RUN_INFO, "Job stats: …", stats=STATS)
    send(shown, LogEvent.JOB_INFO, "Rule", **job(3, shellcmd=command, log=["job.log"]))
    log.write_text('{"lr": 0.1, "step": 3, "of": 4, "images_per_second": 123.4}\n')
    try:
        assert shown.live is not None
        shown.live.refresh()
        text = shown.console.file.getvalue()  # type: ignore[attr-defined]
        assert "2 of 3  train" in text
        assert "train resnet/mixed@upstream/0" in text
        assert "123 images/s" in text
        send(shown, LogEvent.JOB_FINISHED, "Finished", job_id=3)
        done = send(shown, LogEvent.PROGRESS, "None", done=5, total=5)
        assert done.endswith("1 of 5 jobs in 0 min 0 s\n")
        assert shown.live is None
    finally:
        shown.close()


def started(rule: str, spec: str, folder: Path, **fields: Any) -> Any:
    command = f"python -m transmooth job x --spec {shlex.quote(spec)} >{folder}/job.log 2>&1"
    count = counter(job(1, rule, shellcmd=command, log=[str(folder / "job.log")], **fields))
    assert count is not None
    return count


def test_a_training_is_followed_by_its_log(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    spec = train_spec(epochs=2, batch=512, lr=[0.01, 0.02])
    count = started("train", spec.text, tmp_path)
    assert count() is None
    loop.train(spec, digits, tmp_path / "model")
    lines = capsys.readouterr().out.splitlines(keepends=True)
    steps = 2 * [json.loads(line)["step"] for line in lines if '"epoch"' in line][1]
    seen = []
    for told in range(1, len(lines) + 1):
        (tmp_path / "job.log").write_text("a warning\n" * 5000 + "".join(lines[:told]) + '{"lr": 0.0')
        seen.append((count().done, count().total))
    assert sorted({*seen}) == seen[:1] + [(step, steps) for step in range(1, steps + 1)]
    assert seen == sorted(seen)
    assert count().speed.endswith(" images/s")


@pytest.mark.parametrize(("images", "expected"), [(10, 4 * 2), ("all", 7 * 2)])
def test_a_certification_is_followed_by_its_journals(tmp_path: Path, images: int | str, expected: int) -> None:
    manifest, out = tmp_path / "manifest.json", tmp_path / "[1].parquet"
    manifest.write_text(json.dumps({"counts": {"test": 20}}))
    wildcards = {"run": "resnet/0", "evaluation": "certify", "shard": "1", "shards": "3"}
    spec = certify_spec(images=images, sigmas=[0.25, 0.5])
    files = {"input": [str(manifest), "model.safetensors"], "output": [f"{out} (temporary)"]}
    count = started("evaluate", spec.text, tmp_path, wildcards=wildcards, **files)
    assert count() == Count(0, expected)
    with Journal(out, {"spec": 1}) as first, Journal(out, {"spec": 1}, 1) as second:
        first.restart([])
        assert count() == Count(0, expected)
        first.append([row(0), row(1)])
        assert count() == Count(2, expected)
        second.restart([row(2)])
        first.append([row(3)])
        assert count() == Count(4, expected)
        first.restart([])
        assert count() == Count(1, expected)


def test_a_preparation_is_followed_by_its_log(tmp_path: Path) -> None:
    count = started("prepare", "{}", tmp_path)
    assert count() is None
    (tmp_path / "job.log").write_text('{"images": 4096, "of": 9000}\n{"images": 8192, "of": 9000}\n')
    assert count() == Count(8192, 9000)


def test_jobs_that_say_nothing_of_their_progress_are_not_followed() -> None:
    assert counter(job(1, "finish", shellcmd="python -m transmooth job finish --spec '{}'", log=["x"])) is None
    run = RunSpec(network="n", stages=("a@b",), seed=0, dataset="digits", path="n/a@b/0")
    shift = ShiftSpec(run=run, sigmas=(0.0,), images=9).text
    command = f"python -m transmooth job evaluate --spec {shlex.quote(shift)}"
    assert counter(job(1, "evaluate", shellcmd=command, log=["x"])) is None
    assert counter(job(1, "all", shellcmd=None)) is None
