import platform
import subprocess
import sys

import pytest

# 48 MiB: above 32 MiB glibc always asks the kernel, whatever it has learnt about the process so far.
PAGES_CLEARED = """
import resource
import numpy as np
from transmooth.runtime import memory

def cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.empty(6 * 2**20).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

asked = cleared()
memory.keep()
cleared()
print(asked, cleared())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_memory_that_was_freed_comes_back_without_the_kernel() -> None:
    told = subprocess.run([sys.executable, "-c", PAGES_CLEARED], capture_output=True, text=True, check=True).stdout
    before, after = map(int, told.split())
    assert before > 100  # a huge page counts as one
    assert after < before / 10
