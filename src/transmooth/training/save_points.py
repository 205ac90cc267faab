"""When a training saves its state, over all processes."""

import time

import torch
from accelerate import Accelerator


class SavePoints:
    """When all processes save, at the same step: before the oldest went `limit` seconds without, or if one should end.

    They meet every 20 steps, or more often where these take more than a tenth of the limit: to meet is to wait.
    """

    def __init__(self, accelerator: Accelerator, limit: float) -> None:
        self.accelerator, self.limit, self.last = accelerator, limit, time.monotonic()
        self.steps = self.left = 1

    def save(self, saved: float, told: bool) -> tuple[bool, bool]:
        """Return whether to save after this step, and whether any process should end.  saved: time of the last save."""
        self.left -= 1
        if self.left:
            return False, False
        now = time.monotonic()
        took, self.last = now - self.last, now
        due = now - saved + took > self.limit  # at the next meeting it would be too late
        if (processes := self.accelerator.num_processes) > 1:
            mine = torch.tensor([due, told, took / self.steps], device=self.accelerator.device, dtype=torch.float64)
            anyone_due, anyone_told, step_seconds = self.accelerator.reduce(mine).tolist()
            due, told = anyone_due > 0, anyone_told > 0
            self.steps = max(1, min(20, int(self.limit / 10 * processes / step_seconds)))
        self.left = self.steps
        return due or told, told
