"""How many cores a job uses."""

import os


def threads_per_process() -> None:
    """Use the cores that the scheduler gave to this job, not all of the machine."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
