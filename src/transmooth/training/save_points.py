"""When a training saves its state, over all processes."""

import time

import torch
from accelerate import Accelerator


class SavePoints:
    """Decide when all processes save, at the same step: before one went `limit` seconds without, or if one should end.

    They exchange this every 20 steps, or more often where these take more than a tenth of the limit: an exchange waits
    for the slowest process.
    """

    def __init__(self, accelerator: Accelerator, limit: float) -> None:
        self.accelerator, self.limit, self.last = accelerator, limit, time.monotonic()
        self.steps = self.left = 1

    def save(self, saved: float, ending: bool) -> tuple[bool, bool]:
        """Return whether to save after this step, and whether any process should end.

        saved: time of the last save.  ending: this process was asked to end.
        """
        self.left -= 1
        if self.left:
            return False, False
        now = time.monotonic()
        took, self.last = now - self.last, now
        due = now - saved + took > self.limit  # at the next exchange it would be too late
        if (processes := self.accelerator.num_processes) > 1:
            mine = torch.tensor([due, ending, took / self.steps], device=self.accelerator.device, dtype=torch.float64)
            anyone_due, anyone_ends, step_seconds = self.accelerator.reduce(mine).tolist()
            due, ending = anyone_due > 0, anyone_ends > 0
            self.steps = max(1, min(20, int(self.limit / 10 * processes / step_seconds)))
        self.left = self.steps
        return due or ending, ending
