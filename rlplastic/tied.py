"""The first thing that a fork server imports: it ends with the process that it was started by.

Busy with its imports it would not see for seconds that its parent has been killed. Linux kills it
then (``prctl(2)``, ``PR_SET_PDEATHSIG``); elsewhere it leaves when its imports are done. Workers
are not tied, as Linux clears this in forked children: they watch their parent themselves.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tie() -> None:
    """Tie this process to its parent's life, if it is a fork server."""
    is_server = any("multiprocessing.forkserver" in word for word in sys.orig_argv)
    if is_server and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


tie()
