"""What a part of the crash suite counts, and processes to kill."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import short_cells
from short_cells import Outcome

from rlplastic.cell import Cell


@dataclass
class Tally:
    """What a part of the storm has shown."""

    claim: str
    trials: int = 0
    failures: int = 0
    note: str = ""

    def count(self, good: bool, what: str = "") -> None:
        """One more trial."""
        self.trials += 1
        self.failures += not good
        if not good:
            print(f"FAILED: {self.claim}: {what}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """It in a line."""
        return f"{self.trials - self.failures} of {self.trials}: {self.claim} ({self.note})"


def forked(work: Callable[[], object]) -> int:
    """Start work in a process of its own, which has imported everything."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid: int) -> int:
    """The exit code of a forked process; that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def whole(cell: Cell, path: Path) -> tuple[Outcome, float]:
    """An undisturbed run, and how long it took."""
    begin = time.monotonic()
    assert ended(forked(lambda: short_cells.run(cell, path))) == 0
    return short_cells.outcome(path), time.monotonic() - begin


def litter(path: Path) -> list[str]:
    """Files that a finished cell should not have."""
    kept = {"header.json", "rows.jsonl", "timing.jsonl", "tensorboard", "done.json"}
    return sorted(file.name for file in path.iterdir() if file.name not in kept)
