"""What the C library does with freed memory: kept for the next step, and given back before memory is measured.

By default, glibc returns large blocks to the system when they are freed. A training step then gets its memory anew, and
the system clears each page of it: a third of the step for images of 160 pixels. Other C libraries are left alone.
"""

import ctypes
import sys
from functools import cache
from typing import Any

# By the number that <malloc.h> gives each option: no block is mapped by itself, and up to 2 GiB of freed ones are kept.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
OPTIONS = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1}


def keep_freed() -> None:
    """From now on, keep what this process frees; nothing that is computed changes."""
    for option, value in OPTIONS.items() if _glibc() else ():
        _glibc().mallopt(option, value)


def give_back() -> None:
    """Return to the system what is free, so that resident memory is what is in use."""
    if _glibc():
        _glibc().malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library if it is glibc, else None."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None
