"""The C library keeps the memory that a step frees, for the next step."""

import ctypes
from contextlib import suppress

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep() -> None:
    """Have glibc give no block of up to 1 GiB back to the kernel; elsewhere nothing happens.

    PyTorch asks for every tensor on a CPU anew.  glibc maps blocks of some MB from the kernel each time, which clears
    them page by page: 10 to 20 % of a training step at 32x32.  For our own processes alone; a library leaves the
    allocator of its user's process as it is.
    """
    with suppress(AttributeError, OSError, TypeError):  # Windows has no library without a name
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
