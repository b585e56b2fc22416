"""Memory pages that a process keeps instead of giving them back between two updates.

The C library of most Linux systems returns what is freed to the system, and a moment later asks for
it again, page by page and zeroed: a fifth of the time of an update that allocates megabytes, as
those on images do. The numbers stay the same bytes.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

SETTINGS = {  # of glibc's malloc.h: number and value, and the variable by which a user sets it
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**30),
    "MALLOC_TOP_PAD_": (-2, 2**26),
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),  # the most that glibc takes
}
TUNABLES = "GLIBC_TUNABLES"


@cache
def keep_pages() -> bool:
    """From now on this process keeps the pages that it frees; at most a gibibyte of them.

    Every agent asks for it when it is made. Who has set one of glibc's variables is heard, and
    other C libraries are left alone.

    Returns:
        Whether it does.
    """
    told = any(name in os.environ for name in SETTINGS)
    if told or "glibc.malloc" in os.environ.get(TUNABLES, "") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(number, value) == 1 for number, value in SETTINGS.values()])
