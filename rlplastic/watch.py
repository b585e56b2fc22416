"""`rlplastic watch`: a bench that runs, seen from its files alone, and how its arms recover.

It may run in another terminal, on another machine that sees the folder, any number of times. It
holds no lock, writes nothing, and ends when the bench does. On a terminal that can, one live view;
everywhere else a line for each phase that closes and each cell that ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from rlplastic import locks
from rlplastic.listing import table
from rlplastic.metrics.study import Study
from rlplastic.progress import can_be_live, duration, plain
from rlplastic.reading import read
from rlplastic.record import FINISHED, FloatArray
from rlplastic.status import ORDER, CellStatus, read_status

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDED = ("done", "diverged", "failed")
MOST_ROWS = 12  # of cells that are running, in the live view
QUIET = 30.0  # seconds without a running cell after which a bench has ended; it starts one in less
PATIENCE = 5  # between two readings of all records: so many times what one took


def watch(folder: Path, stream: TextIO, every: float, quiet: float = QUIET) -> None:
    """Show a results folder until all is done, or nothing has run in it for a while.

    Args:
        folder: Results folder.
        stream: Where to.
        every: Seconds between two looks.
        quiet: Seconds without a running cell after which it leaves.

    Raises:
        UsageError: There is no plan in the folder, or it cannot be read.
    """
    scene = Scene(folder, quiet=quiet)
    scene.look()
    if can_be_live(stream):
        _live(scene, stream, every)
    else:
        _lines(scene, stream, every)
    scene.recover(patience=False)
    print(scene.head(), scene.recovery, sep="\n\n", file=stream, flush=True)
    if not scene.ever_running:
        print("\nnothing was running here", file=stream, flush=True)


@dataclass
class Scene:
    """What was last seen of a folder.

    Attributes:
        folder: Results folder.
        cells: All planned cells.
        running: Ids of the cells that a process has claimed.
        ever_running: Whether there were any at any look.
        quiet: Seconds without any after which nothing runs any more.
        recovery: The table of what has been recovered so far.
    """

    folder: Path
    cells: list[CellStatus] = field(default_factory=list)
    running: frozenset[str] = frozenset()
    ever_running: bool = False
    quiet: float = QUIET
    recovery: str = ""
    _last_running: float = field(default_factory=time.monotonic)
    _closed: int = -1
    _next_reading: float = 0.0
    _first: tuple[float, int] | None = None

    def look(self) -> None:
        """See how far every cell is; read the records too when a phase has closed."""
        self.cells = read_status(self.folder)
        left = [cell.id for cell in self.cells if cell.status not in FINISHED]
        self.running = frozenset(name for name in left if locks.is_claimed(self.folder, name))
        if self.running:
            self.ever_running = True
            self._last_running = time.monotonic()
        self._first = self._first or (time.monotonic(), self._steps())
        self.recover(patience=True)

    @property
    def over(self) -> bool:
        """Whether nothing is left, or nothing has been run for a while."""
        finished = all(cell.status in FINISHED for cell in self.cells)
        return finished or time.monotonic() - self._last_running > self.quiet

    def recover(self, *, patience: bool) -> None:
        """Renew the table of recovery, if a phase has closed since it was made."""
        closed = sum(cell.phases + (cell.status in ENDED) for cell in self.cells)
        now = time.monotonic()
        if closed == self._closed or (patience and now < self._next_reading):
            return
        self.recovery = so_far(Study(read(self.folder)))
        self._closed = closed
        self._next_reading = time.monotonic() + PATIENCE * (time.monotonic() - now)

    def head(self) -> str:
        """Cells by status, and the time that is left."""
        counts = Counter(cell.status for cell in self.cells)
        shown = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
        return f"{len(self.cells)} cells: {shown}{self._time_left()}"

    def busy(self) -> list[CellStatus]:
        """Cells that are being run."""
        return [cell for cell in self.cells if cell.id in self.running]

    def _steps(self) -> int:
        ended = sum(cell.num_steps for cell in self.cells if cell.status in ENDED)
        return ended + sum(cell.step for cell in self.cells if cell.status not in ENDED)

    def _time_left(self) -> str:
        """From the steps that were made while this looked on; empty if none were."""
        if self._first is None or not self.running:
            return ""
        began, steps = self._first
        made = self._steps() - steps
        left = sum(cell.num_steps for cell in self.cells) - self._steps()
        seconds = time.monotonic() - began
        return f"; {duration(left * seconds / made)} left" if made > 0 and left > 0 else ""


def so_far(study: Study) -> str:
    """Recovery of each arm over the shifts whose phases have closed, all seeds together."""
    rows = [("task", "agent", "arm", "shifts", "drop", "recovered to 80 %", "S", "P")]
    lives = [r for r in study.results.learners if not r.fresh]
    for task, agent, arm in dict.fromkeys(record.slot[:3] for record in lives):
        slots = [r.slot for r in lives if r.slot[:3] == (task, agent, arm)]

        def known(metric: str, slots: Sequence[tuple[str, str, str, int]] = slots) -> FloatArray:
            found = np.concatenate([np.atleast_1d(study.score(metric, *slot)) for slot in slots])
            return np.asarray(found[np.isfinite(found)])

        shifts = sum(c is not None for slot in slots for c in study.curves(*slot)[1:])
        back, gap = known("recovered_80"), known("gap")
        rows.append(
            (
                plain(task),
                plain(agent),
                plain(arm),
                str(shifts),
                _mean(known("drop")),
                f"{int(back.sum())} of {len(back)}" if len(back) else "n/a",
                _mean(1 - gap),
                _mean(known("gain")),
            )
        )
    if len(rows) == 1:
        return "No arm is planned here."
    return f"{table(rows)}\nso far: means over the shifts that are known; no verdict"


def _mean(values: FloatArray) -> str:
    return f"{values.mean():.2f}" if len(values) else "n/a"


# -- two ways to show it ---------------------------------------------------------------------


def _lines(scene: Scene, stream: TextIO, every: float) -> None:
    """A line for each phase that closes and each cell that ends."""
    seen = {cell.id: (cell.status, cell.phases) for cell in scene.cells}
    if not scene.over:
        print(scene.head(), file=stream, flush=True)
    while not scene.over:
        time.sleep(every)
        scene.look()
        for cell in scene.cells:
            before = seen.get(cell.id)
            seen[cell.id] = (cell.status, cell.phases)
            if before == seen[cell.id] or cell.status == "pending":
                continue
            words = f"phase {cell.phases}/{cell.num_phases}"
            if cell.status in ENDED:
                words = " ".join(filter(None, [cell.status, cell.reason]))
            print(f"{cell.id}  {words}", file=stream, flush=True)


def _live(scene: Scene, stream: TextIO, every: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False)
    live = Live(_view(scene), console=console, refresh_per_second=2, transient=True)
    try:  # a signal may come while it starts, when the cursor is hidden already
        live.start()
        while not scene.over:
            time.sleep(every)
            scene.look()
            live.update(_view(scene))
    finally:
        live.stop()


def _view(scene: Scene) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    ended = sum(cell.status in ENDED for cell in scene.cells)
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, len(scene.cells)), completed=ended, width=30)
    head.add_row(bar, Text(scene.head()))
    rows = Table.grid(padding=(0, 2))
    busy = scene.busy()
    for cell in busy[:MOST_ROWS]:
        rows.add_row(
            Text(cell.id, overflow="ellipsis", no_wrap=True),
            f"phase {min(cell.phases + 1, cell.num_phases)}/{cell.num_phases}",
            f"{cell.step:,}/{cell.num_steps:,} steps",
        )
    if len(busy) > MOST_ROWS:
        rows.add_row(Text(f"and {len(busy) - MOST_ROWS} more"))
    failed = [cell for cell in scene.cells if cell.status in ("failed", "diverged")]
    reasons = [Text(f"{c.status}  {c.id}  {c.reason}", style="red") for c in failed[-MOST_ROWS:]]
    return Group(head, Text(), rows, Text(), Text(scene.recovery, no_wrap=True), *reasons)
