"""Other processes: jobs on several, and whether one has ended."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

ENVIRONMENT: Mapping[str, str] = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def launch(*arguments: Any) -> None:
    """Run `transmooth job …` in two processes, as a study launches it."""
    command = ["accelerate", "launch", "--config_file", str(ROOT / "workflow/accelerate/local.yaml")]
    command += ["--num_processes", "2", "-m", "transmooth", "job", *map(str, arguments)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, env={**ENVIRONMENT, "PATH": path}, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
