"""When the world changes: a schedule maps the clock to a phase, and a phase to a world.

The clock counts environment steps summed over the copies, over the whole training run. Phase k
covers the steps from ``start(k)`` up to ``start(k + 1)``; the last phase has no end. World 0, in
phase 0, is the unshifted environment.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

from annotated_types import Ge, Gt, MinLen

from rlplastic.errors import UsageError
from rlplastic.registry import schedule


@runtime_checkable
class Schedule(Protocol):
    """What a stream asks of a schedule."""

    @property
    def phases(self) -> int:
        """Number of phases, the first included."""

    def start(self, phase: int) -> int:
        """The clock at which a phase begins; defined up to ``phases``, the end of the run."""

    def world(self, phase: int) -> int:
        """The world of a phase."""


def phase_at(schedule: Schedule, clock: int) -> int:
    """The phase that the step beginning at this clock belongs to.

    >>> [phase_at(Periodic(period=10, phases=3), clock) for clock in (0, 9, 10, 29, 30, 99)]
    [0, 0, 1, 2, 2, 2]
    """
    last = schedule.phases - 1
    return min(bisect.bisect_right(range(last + 1), clock, key=schedule.start) - 1, last)


def worlds_of(schedule: Schedule) -> list[int]:
    """The distinct worlds of a schedule, in ascending order."""
    return sorted({schedule.world(phase) for phase in range(schedule.phases)})


@schedule("periodic")
@dataclass(frozen=True, kw_only=True)
class Periodic:
    """A new world every `period` steps; no world comes back.

    >>> [Periodic(period=10, phases=4).world(k) for k in range(4)]
    [0, 1, 2, 3]
    """

    period: Annotated[int, Gt(0)]
    phases: Annotated[int, Ge(1)]

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return phase * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return phase


@schedule("cyclic")
@dataclass(frozen=True, kw_only=True)
class Cyclic:
    """Worlds that come back in turn, every `period` steps.

    With ``first=1`` world 0 is left for good after phase 0 and the others take turns.

    >>> [Cyclic(period=10, phases=5, worlds=2).world(k) for k in range(5)]
    [0, 1, 0, 1, 0]
    >>> [Cyclic(period=10, phases=5, worlds=3, first=1).world(k) for k in range(5)]
    [0, 1, 2, 1, 2]
    """

    period: Annotated[int, Gt(0)]
    phases: Annotated[int, Ge(1)]
    worlds: Annotated[int, Ge(2)]
    first: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        """Consecutive worlds must differ."""
        if self.worlds - self.first < 2:
            raise UsageError(
                f"schedule 'cyclic': first = {self.first} leaves fewer than two of "
                f"{self.worlds} worlds to take turns; valid: 0 to {self.worlds - 2}"
            )

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return phase * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        if phase < self.first:
            return phase
        return self.first + (phase - self.first) % (self.worlds - self.first)


@schedule("list")
@dataclass(frozen=True, kw_only=True)
class Listed:
    """An explicit list of worlds, `period` steps each. One shift only is ``worlds=[0, 1]``.

    >>> [Listed(period=10, worlds=(0, 3, 1)).world(k) for k in range(3)]
    [0, 3, 1]
    """

    period: Annotated[int, Gt(0)]
    worlds: Annotated[Sequence[Annotated[int, Ge(0)]], MinLen(1)]

    @property
    def phases(self) -> int:
        """See `Schedule`."""
        return len(self.worlds)

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return phase * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return int(self.worlds[phase])
