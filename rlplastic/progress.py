"""What is shown while cells run: a live display on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from rlplastic.cell import Cell

if TYPE_CHECKING:
    from rich.console import RenderableType


class Display(Protocol):
    """What the pool tells of."""

    def began(self, cell: Cell) -> None:
        """A worker has been started."""

    def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
        """A cell has come to this phase, after so many steps of its own, at so many a second."""

    def left(self, cell: Cell) -> None:
        """A worker has ended and the cell has not: it is tried again, or run elsewhere."""

    def noted(self, cell: Cell, text: str) -> None:
        """Something a user would want to know, as that a cell goes on where it was stopped."""

    def ended(self, cell: Cell, status: str, reason: str) -> None:
        """A worker has ended."""


def display_for(
    cells: Sequence[Cell], stream: TextIO, *, quiet: bool = False
) -> AbstractContextManager[Display]:
    """The display that fits a stream: live on a terminal that can, else one line a cell."""
    return Lines(cells, stream) if quiet or not can_be_live(stream) else Live(cells, stream)


def can_be_live(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can show what changes."""
    dumb = os.environ.get("TERM", "") in ("", "dumb") or bool(os.environ.get("NO_COLOR"))
    return not dumb and stream.isatty()


def duration(seconds: float) -> str:
    """A time for people, in at most two units.

    >>> [duration(s) for s in (0.4, 59.6, 90, 3_600, 100_000)]
    ['1 s', '1 min', '2 min', '1 h', '27 h 47 min']
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0))


def plain(text: str) -> str:
    """Text without control characters, so that what a cell says cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


@dataclass
class Running:
    """A cell that is being run, as it was last told of."""

    cell: Cell
    phase: int = 0
    step: int = 0
    speed: float = 0.0


class Tally:
    """Counts what has been done, and from the measured speeds how long the rest takes."""

    def __init__(self, cells: Sequence[Cell], stream: TextIO) -> None:
        self.stream = stream
        self.total = len(cells)
        self.num_ended = 0
        self.running: dict[str, Running] = {}
        self._steps = self._steps_left = sum(cell.num_steps for cell in cells)
        self._began = time.monotonic()

    def began(self, cell: Cell) -> None:
        """See `Display`."""
        self.running[cell.id] = Running(cell, phase=int(cell.fresh))

    def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
        """See `Display`."""
        self.running[cell.id] = Running(cell, phase, step, speed)

    def left(self, cell: Cell) -> None:
        """See `Display`."""
        del self.running[cell.id]

    def noted(self, cell: Cell, text: str) -> None:
        """See `Display`."""
        self.show_note(f"{cell.id}: {plain(text)}")

    def ended(self, cell: Cell, status: str, reason: str) -> None:
        """See `Display`."""
        self.num_ended += 1
        self._steps_left -= cell.num_steps
        del self.running[cell.id]
        self.show_end(cell, status, plain(reason), self.time_left())

    def show_end(self, cell: Cell, status: str, reason: str, left: str) -> None:
        """Tell the user of a cell's end."""
        raise NotImplementedError

    def show_note(self, text: str) -> None:
        """Tell the user something in passing."""
        raise NotImplementedError

    def time_left(self) -> str:
        """Remaining steps over the speed of all workers so far; empty if nothing is known."""
        left = self._steps_left - sum(one.step for one in self.running.values())
        speed = (self._steps - left) / (time.monotonic() - self._began)
        return f"{duration(left / speed)} left" if speed > 0 and left > 0 else ""


class Lines(Tally):
    """One plain line for each cell that has ended; no control characters."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show_end(self, cell: Cell, status: str, reason: str, left: str) -> None:
        """See `Tally`."""
        parts = [f"[{self.num_ended}/{self.total}]", f"{status:8}", cell.id]
        parts += [f"({reason})"] * bool(reason) + [f"- {left}"] * bool(left)
        print(*parts, file=self.stream, flush=True)

    def show_note(self, text: str) -> None:
        """See `Tally`."""
        print(text, file=self.stream, flush=True)


class Live(Tally):
    """A bar over all cells and a line for each that is running; failures stay in view."""

    def __init__(self, cells: Sequence[Cell], stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__(cells, stream)
        self._console = Console(file=stream, highlight=False)
        self._live = RichLive(
            console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show_end(self, cell: Cell, status: str, reason: str, left: str) -> None:
        """See `Tally`."""
        from rich.text import Text

        if status != "done":
            self._console.print(Text(f"{status}  {cell.id}  {reason}", style="red"))

    def show_note(self, text: str) -> None:
        """See `Tally`."""
        from rich.text import Text

        self._console.print(Text(text, style="dim"))

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1, self.total), completed=self.num_ended, width=30)
        head.add_row(bar, f"{self.num_ended}/{self.total} cells", self.time_left())
        rows = Table.grid(padding=(0, 2))
        for one in list(self.running.values()):  # the refreshing thread must not see it change
            rows.add_row(*_row(one))
        return Group(head, rows)


def _row(one: Running) -> tuple[Any, ...]:
    from rich.text import Text

    cell = one.cell
    return (
        Text(cell.id, overflow="ellipsis", no_wrap=True),
        f"phase {one.phase + 1}/{cell.num_phases}",
        f"{one.step:,}/{cell.num_steps:,} steps",
        f"{one.speed:,.0f} steps/s" if one.speed else "",
    )
