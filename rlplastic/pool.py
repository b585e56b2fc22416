"""Many cells, each or each team in its own fresh process, and nothing left behind at any end.

A worker is forked from a *fork server*: one process that has imported torch and all of our code
and has run nothing. So a cell starts in milliseconds, in a process as clean as a new one, and
files that are edited while a bench runs do not change it. Where there is no fork server, workers
are spawned.

========================  ====================================================================
an exception in a cell    that cell is ``failed``, with reason and traceback; the others go on
a worker dies             that cell is ``failed``, with the signal and its last output; those of a
                          team are run again, each alone
a cell does not end       with a time limit it is ``failed``; with retries it is tried again
the parent is stopped     the workers are killed; the same command continues
the parent dies           each worker notices that the pipe to it has closed, and leaves
another bench runs here   each cell is run by the process that has claimed it, and by no other
========================  ====================================================================

An unfinished cell goes on at its last checkpoint, so there is nothing that a killed worker would
have to save. The parent alone writes ``failed.json``: a worker whose parent is gone records
nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rlplastic import locks, provenance, store
from rlplastic.cell import Cell
from rlplastic.progress import Display
from rlplastic.teams import Team, teams_of
from rlplastic.worker import APART, TAKEN, Worker, context_of_workers, kill

ELSEWHERE = 1.0  # seconds between looks at the cells that another process is running


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unfinished(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells that are still to be run: all but the done and the diverged."""
    return [c for c in cells if store.status_of(folder / c.id) not in store.FINISHED]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a cell is allowed.

    Attributes:
        seconds: Time of an attempt, after which it is ended as failed; None: any.
        retries: Attempts after one that failed.
    """

    seconds: float | None = None
    retries: int = 0


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    workers: int,
    display: Display,
    limits: Limits = Limits(),
) -> dict[str, str]:
    """Run all unfinished cells; finished ones are not touched.

    Results do not depend on the number of workers, nor on which cells share one
    (`rlplastic.teams`; with a time limit none do). A cell that another process is running is left
    to it, and taken over if that process ends without having finished it.

    Args:
        cells: In the order in which they are started.
        folder: Results folder.
        workers: Processes at a time.
        display: Told what happens.
        limits: Of each cell.

    Returns:
        The status of every cell: ``done``, ``diverged`` or ``failed``.
    """
    left = unfinished(cells, folder)
    teams = [(cell,) for cell in left] if limits.seconds else teams_of(left, workers)
    crew = Crew(teams, folder, display, limits)
    try:
        while crew.busy:
            crew.fill(workers)
            crew.listen()
    except BaseException:
        kill(crew.running)
        raise
    for cell in cells:
        if store.status_of(folder / cell.id) in store.FINISHED:
            locks.forget(folder, cell.id)
    return {cell.id: store.status_of(folder / cell.id) for cell in cells}


class Crew:
    """The workers of one call, and the cells that wait for one."""

    def __init__(
        self, teams: Sequence[Team], folder: Path, display: Display, limits: Limits
    ) -> None:
        self.folder, self.display, self.limits = folder, display, limits
        self.running: list[Worker] = []
        self._waiting = deque(teams)
        self._elsewhere: list[Cell] = []  # run by another process
        self._attempts: Counter[str] = Counter()
        self._began = time.time()
        self._looked = 0.0
        if teams:
            self._source = _source()
            self._context = context_of_workers()

    @property
    def busy(self) -> bool:
        """True until every cell has ended, here or elsewhere."""
        return bool(self._waiting or self.running or self._elsewhere)

    def fill(self, workers: int) -> None:
        """Start cells while there are places for them."""
        if self._elsewhere and time.monotonic() - self._looked > ELSEWHERE:
            self._look_elsewhere()
        while self._waiting and len(self.running) < workers:
            team = self._waiting.popleft()
            free = []
            for cell in team:
                if locks.is_claimed(self.folder, cell.id):
                    self._leave(cell)
                else:
                    free.append(cell)
            if not free:
                continue
            team = tuple(free)
            worker = Worker(self._context, team, self.folder, self._source, self.limits.seconds)
            self.running.append(worker)
            for cell in team:
                self.display.began(cell)

    def listen(self) -> None:
        """Wait until something happens; pass on what workers say, and end those that are over."""
        if not (self.running or self._elsewhere):
            return  # nothing will happen: the last cell has just ended elsewhere
        channels = [channel for worker in self.running for channel in worker.channels]
        wait(channels, timeout=self._patience())
        for worker in tuple(self.running):
            for cell, message in worker.listen():
                worker.tell(self.display, cell, message)
            worker.watch_time()
            if not worker.process.is_alive():
                self.running.remove(worker)
                for cell, status, reason in worker.end():
                    self._end(cell, status, reason)

    def _patience(self) -> float | None:
        """Seconds after which there is something to do even if no worker says anything."""
        times = [worker.time_left for worker in self.running if worker.time_left is not None]
        times += [ELSEWHERE] * bool(self._elsewhere)
        return max(0.0, min(times)) if times else None

    def _end(self, cell: Cell, status: str, reason: str) -> None:
        if status == TAKEN:
            self.display.left(cell)
            self._leave(cell)
            return
        if status == APART:
            self.display.left(cell)
            self.display.noted(cell, f"goes on alone: the process that it shared ended: {reason}")
            self._waiting.append((cell,))
            return
        self._attempts[cell.id] += 1
        if status == "failed" and self._attempts[cell.id] <= self.limits.retries:
            self.display.left(cell)
            again = f"attempt {self._attempts[cell.id] + 1} of {self.limits.retries + 1}"
            self.display.noted(cell, f"{again}, since it failed: {reason}")
            self._waiting.append((cell,))
            return
        self.display.ended(cell, status, reason)

    def _leave(self, cell: Cell) -> None:
        self._elsewhere.append(cell)
        self.display.noted(cell, "is run by another process")

    def _look_elsewhere(self) -> None:
        """Which of the cells that others run have ended, or lost the process that ran them."""
        self._looked = time.monotonic()
        for cell in tuple(self._elsewhere):
            if locks.is_claimed(self.folder, cell.id):
                continue
            self._elsewhere.remove(cell)
            path = self.folder / cell.id
            status = store.status_of(path)
            if status in store.FINISHED or store.failed_since(path, self._began):
                self.display.began(cell)
                self.display.ended(cell, status, "by another process")
            else:
                self._waiting.append((cell,))


def _source() -> dict[str, Any]:
    """Where the results come from: the same for all cells of a call."""
    return {
        "command": provenance.command(),
        "versions": provenance.versions(),
        "code": provenance.code(),
        "git": provenance.commit(),
        "machine": provenance.machine(),
    }
