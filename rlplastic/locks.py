"""Who writes where: locks that end with their process, however that ends.

Several benches, also on several machines that share a file system with working ``flock`` (NFS has
it since version 4), may work on one results folder: each cell is claimed by the process that runs
it. The plan is held only while it is read and written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from rlplastic.errors import UsageError

PATIENCE = 10.0  # seconds in which another process has surely written its plan
BRIEF = 0.5  # longer than `is_claimed` holds a claim


class Locked(Exception):
    """Another process is writing the plan of this folder, and does not end."""


def plan(folder: Path) -> FileLock:
    """Hold the plan of a results folder, which is made if it is not there.

    Raises:
        Locked: another process holds it.
        UsageError: nothing can be written there.
    """
    try:
        guard = FileLock(folder / ".lock")
        guard.acquire(timeout=PATIENCE)
    except Timeout:
        raise Locked(f"{folder}: another rlplastic process is writing its plan") from None
    except (OSError, NotImplementedError) as error:
        raise _unusable(folder, error) from error
    return guard


def claim(folder: Path, cell: str) -> FileLock | None:
    """Hold a cell of a results folder, by its id; None if another process does.

    Who has it looks again at how the cell ended: it may have been finished just before.
    """
    guard = FileLock(_place(folder, cell))
    try:
        guard.acquire(timeout=BRIEF)
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        raise _unusable(folder, error) from error
    return guard


def let_go(guard: FileLock, *, finished: bool) -> None:
    """Release a claim; that of a finished cell leaves no file behind."""
    if finished:
        Path(guard.lock_file).unlink(missing_ok=True)
    guard.release()


def forget(folder: Path, cell: str) -> None:
    """Remove what a process that was killed at the end of a finished cell left of its claim."""
    if _place(folder, cell).exists():
        guard = claim(folder, cell)
        if guard is not None:
            let_go(guard, finished=True)


def is_claimed(folder: Path, cell: str) -> bool:
    """True if a process is running the cell now; writes nothing."""
    try:  # read only and shared: neither the file nor its times change
        descriptor = os.open(_place(folder, cell), os.O_RDONLY)
    except OSError:  # nobody's, or a folder that may not be read
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _place(folder: Path, cell: str) -> Path:
    return folder / ".locks" / hashlib.sha256(cell.encode()).hexdigest()[:16]


def _unusable(folder: Path, error: Exception) -> UsageError:
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return UsageError(f"{folder}: cannot be written: {why}")
