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

from rlplastic import store
from rlplastic.listing import table
from rlplastic.metrics.study import Study
from rlplastic.progress import can_be_live, duration, plain
from rlplastic.reading import read
from rlplastic.record import FloatArray
from rlplastic.status import ORDER, CellStatus, read_status

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDED = ("done", "diverged", "failed")
MOST_ROWS = 12  # of cells that are running, in the live view
PATIENCE = 5  # between two readings of all records: so many times what one took


def watch(folder: Path, stream: TextIO, every: float) -> None:
    """Show a results folder until nothing runs in it any more.

    Args:
        folder: Results folder.
        stream: Where to.
        every: Seconds between two looks.

    Raises:
        UsageError: There is no plan in the folder, or it cannot be read.
    """
    scene = Scene(folder)
    scene.look()
    if can_be_live(stream):
        _live(scene, stream, every)
    else:
        _lines(scene, stream, every)
    scene.recover(patience=False)
    print(scene.head(), scene.recovery, sep="\n\n", file=stream, flush=True)
    if not scene.ever_running:
        print("\nnothing is running here now", file=stream, flush=True)


@dataclass
class Scene:
    """What was last seen of a folder.

    Attributes:
        folder: Results folder.
        cells: All planned cells.
        running: Whether a process runs cells there.
        ever_running: Whether one did at any look.
        recovery: The table of what has been recovered so far.
    """

    folder: Path
    cells: list[CellStatus] = field(default_factory=list)
    running: bool = False
    ever_running: bool = False
    recovery: str = ""
    _closed: int = -1
    _next_reading: float = 0.0
    _first: tuple[float, int] | None = None

    def look(self) -> None:
        """See how far every cell is; read the records too when a phase has closed."""
        self.running = store.is_locked(self.folder)
        self.ever_running |= self.running
        self.cells = read_status(self.folder)
        self._first = self._first or (time.monotonic(), self._steps())
        self.recover(patience=True)

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
        """Cells that have begun and not ended, while a process is running."""
        return [cell for cell in self.cells if self.running and cell.status == "unfinished"]

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
    if scene.running:
        print(scene.head(), file=stream, flush=True)
    while scene.running:
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
    with Live(_view(scene), console=console, refresh_per_second=2, transient=True) as live:
        while scene.running:
            time.sleep(every)
            scene.look()
            live.update(_view(scene))


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
