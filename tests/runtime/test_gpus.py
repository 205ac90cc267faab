import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from transmooth.runtime.gpus import lease


def test_no_two_jobs_have_one_gpu_and_who_waits_gets_what_is_freed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from transmooth.runtime.gpus import lease\n"
        "taken = lease(int(sys.argv[1]), ['0', '1', '2'], 1, Path(sys.argv[2]), 0.01)\n"
        "print(*taken, flush=True); sys.stdin.read()"
    )

    def start(count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(count), str(tmp_path / "locks")]
        environment = {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.Popen(command, text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with start(2) as first:
        assert first.stdout is not None
        assert first.stdout.readline().split() == ["0", "1"]
        with start(1) as second, start(2) as third:
            assert second.stdout is not None
            assert third.stdout is not None
            # Either may come first; the one that asks for two has to wait for the first to be killed.
            assert second.stdout.readline().split() == ["2"]
            first.kill()
            assert third.stdout.readline().split() == ["0", "1"]
            third.kill()
            second.kill()


def test_small_jobs_share_a_gpu_the_least_lent_first_and_one_job_has_no_gpu_twice(tmp_path: Path) -> None:
    taken = [lease(1, ["0", "1"], 2, tmp_path, 0.01) for _ in range(2)]  # locks of this process, until it ends
    taken += [lease(2, ["0", "1"], 2, tmp_path, 0.01)]
    assert taken == [["0"], ["1"], ["0", "1"]]


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 GPUs asked for, the machine has 2: 0, 1"):
        lease(3, ["0", "1"], folder=tmp_path)


def test_the_command_sees_its_gpus_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "transmooth.runtime.gpus", "1", "1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    for visible, shown in (("3,5", "3"), ("", "")):
        environment["CUDA_VISIBLE_DEVICES"] = visible
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == shown


def test_two_allocations_that_name_their_gpus_alike_do_not_wait_for_each_other(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    environment["CUDA_VISIBLE_DEVICES"] = "0,1"

    def start(allocation: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "transmooth.runtime.gpus", "1", "1"]
        command += ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; read wait"]
        theirs = environment | {"SLURM_JOB_ID": allocation}
        return subprocess.Popen(command, text=True, env=theirs, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def shown(process: subprocess.Popen[str]) -> str:
        assert process.stdout
        return process.stdout.readline().strip()

    with start("7") as first, start("8") as other:
        assert {shown(first), shown(other)} == {"0"}
        with start("7") as second:  # of the first one's allocation
            assert shown(second) == "1"
            for process in (first, second, other):
                process.communicate("")
