"""When the world changes: a schedule maps the clock to a phase, and a phase to a world.

The clock counts environment steps summed over the copies, over the whole training run. Phase k
covers the steps from ``start(k)`` up to ``start(k + 1)``; the last phase has no end. World 0, in
phase 0, is the unshifted environment.

A schedule that draws has ``bind(seed)``, which gives the schedule that was drawn (`Drawn`). One
that ramps has ``mix(clock)`` (`Ramped`). Lengths other than `period` count periods, so that one
spec fits every agent and budget; with ``period=1`` they are steps.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from annotated_types import Ge, Gt, Le, MinLen

from rlplastic.errors import UsageError
from rlplastic.registry import schedule

_GAPS = 0x47415053  # keeps the draws of gaps apart from those of contents and of resets


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


@runtime_checkable
class Ramped(Schedule, Protocol):
    """A schedule whose worlds do not come at once."""

    def mix(self, clock: int) -> float:
        """How much of the phase's world there is in the step that begins at this clock.

        In [0, 1]; the rest is the world of the phase before.
        """


@runtime_checkable
class Drawn(Protocol):
    """A schedule that depends on its stream's seed."""

    @property
    def step(self) -> int:
        """What all lengths are multiples of; also the shortest."""

    def bind(self, seed: int) -> Schedule:
        """The schedule of the stream with this seed."""


def bound(schedule: Schedule | Drawn, seed: int) -> Schedule:
    """The schedule of a stream: itself, unless it is drawn from the stream's seed."""
    return schedule.bind(seed) if isinstance(schedule, Drawn) else schedule


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


def _turn(phase: int, worlds: int, first: int) -> int:
    """The world of a phase where `worlds` worlds take turns, those below `first` only once."""
    if not worlds or phase < first:
        return phase
    return first + (phase - first) % (worlds - first)


def _refuse_turns(name: str, worlds: int, first: int) -> None:
    """Consecutive worlds must differ."""
    if worlds - first < 2:
        raise UsageError(
            f"schedule {name!r}: first = {first} leaves fewer than two of {worlds} worlds to take "
            f"turns; valid: 0 to {worlds - 2}"
            if worlds > 1
            else f"schedule {name!r}: worlds = {worlds}; valid: 2 or more, or 0 for a new world "
            "in each phase"
        )


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
        _refuse_turns("cyclic", self.worlds, self.first)

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return phase * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return _turn(phase, self.worlds, self.first)


@schedule("random")
@dataclass(frozen=True, kw_only=True)
class Random:
    """A new world after a random number of steps, geometric with mean `period`.

    At each multiple of `step` the world changes with probability step / period, so that the time
    since the last shift says nothing of the next: the constant hazard of change-point models
    (Adams & MacKay, arXiv 0710.3742, Sec. 2.1). The gaps depend on the stream's seed alone.

    >>> drawn = Random(period=40, phases=5, step=10).bind(7)
    >>> [drawn.start(k) for k in range(6)], [drawn.world(k) for k in range(5)]
    ([0, 70, 100, 150, 160, 230], [0, 1, 2, 3, 4])

    Attributes:
        period: Mean length of a phase.
        phases: Number of phases, the first included.
        step: Lengths are multiples of it, so that rollouts fit; the shortest is one of it.
        worlds: How many worlds take turns; 0: a new one in each phase.
        first: Worlds below it do not come back.
    """

    period: Annotated[int, Gt(0)]
    phases: Annotated[int, Ge(1)]
    step: Annotated[int, Gt(0)] = 1
    worlds: Annotated[int, Ge(0)] = 0
    first: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        """A mean cannot be below the least value."""
        if not 0 < self.step <= self.period:
            raise UsageError(
                f"schedule 'random': step = {self.step} and a mean gap of period = {self.period} "
                f"steps; valid: a step of 1 to {max(1, self.period)}"
            )
        if self.worlds:
            _refuse_turns("random", self.worlds, self.first)

    def bind(self, seed: int) -> Listed:
        """See `Drawn`."""
        rng = np.random.default_rng([_GAPS, seed])
        # a geometric number rounded up to a multiple is a geometric number of multiples
        lengths = rng.geometric(self.step / self.period, size=self.phases)
        worlds = [_turn(phase, self.worlds, self.first) for phase in range(self.phases)]
        return Listed(period=self.step, worlds=worlds, lengths=[int(n) for n in lengths])


@schedule("gradual")
@dataclass(frozen=True, kw_only=True)
class Gradual:
    """A new world every `period` steps, which comes little by little.

    From the beginning of a phase on the world before it turns into its own, in a straight line
    over the first part of the phase. For shifts that can be mixed (``mixes``), and boundaries that
    let a world change within an episode: ``truncate`` and ``step``.

    >>> schedule = Gradual(period=100, phases=3, ramp=0.5)
    >>> [schedule.mix(clock) for clock in (0, 99, 100, 110, 149, 150, 199)]
    [1.0, 1.0, 0.0, 0.2, 0.98, 1.0, 1.0]

    Attributes:
        period: Length of a phase.
        phases: Number of phases, the first included.
        ramp: Share of a phase until its world is there in full.
        worlds: How many worlds take turns; 0: a new one in each phase.
        first: Worlds below it do not come back.
    """

    period: Annotated[int, Gt(0)]
    phases: Annotated[int, Ge(1)]
    ramp: Annotated[float, Gt(0), Le(1)] = 0.5
    worlds: Annotated[int, Ge(0)] = 0
    first: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        """Consecutive worlds must differ, and a ramp ends within its phase."""
        if self.worlds:
            _refuse_turns("gradual", self.worlds, self.first)
        if not 0 < self.ramp <= 1:
            raise UsageError(f"schedule 'gradual': ramp = {self.ramp}; valid: above 0 and up to 1")

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return phase * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return _turn(phase, self.worlds, self.first)

    def mix(self, clock: int) -> float:
        """See `Ramped`."""
        phase = phase_at(self, clock)
        if phase == 0:
            return 1.0
        return min(1.0, (clock - self.start(phase)) / (self.ramp * self.period))


@schedule("once")
@dataclass(frozen=True, kw_only=True)
class Once:
    """A single shift, after which the last phase has `period` steps.

    >>> schedule = Once(period=10, after=3)
    >>> [schedule.start(k) for k in range(3)], [schedule.world(k) for k in range(2)]
    ([0, 30, 40], [0, 1])

    Attributes:
        period: Length of the phase after the shift.
        after: When the shift comes, in periods.
        to: The world after the shift.
        phases: The one before the shift and the one after it.
    """

    period: Annotated[int, Gt(0)]
    after: Annotated[int, Gt(0)] = 1
    to: Annotated[int, Gt(0)] = 1
    phases: Literal[2] = 2

    def __post_init__(self) -> None:
        """There is one shift."""
        if self.phases != 2:
            raise UsageError(f"schedule 'once': phases = {self.phases}; valid: 2, since it is once")

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return (phase - 1 + self.after) * self.period if phase else 0

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return self.to if phase else 0


@schedule("list")
@dataclass(frozen=True, kw_only=True)
class Listed:
    """An explicit list of worlds, and of how long each of them stays.

    >>> [Listed(period=10, worlds=(0, 3, 1)).world(k) for k in range(3)]
    [0, 3, 1]
    >>> [Listed(period=10, worlds=(0, 3, 1), lengths=(1, 5, 2)).start(k) for k in range(4)]
    [0, 10, 60, 80]

    Attributes:
        period: Length of a phase, or the unit of `lengths`.
        worlds: The world of each phase.
        lengths: Length of each phase, in periods; default: one each.
    """

    later: ClassVar[frozenset[str]] = frozenset(["lengths"])

    period: Annotated[int, Gt(0)]
    worlds: Annotated[Sequence[Annotated[int, Ge(0)]], MinLen(1)]
    lengths: Sequence[Annotated[int, Gt(0)]] = ()

    def __post_init__(self) -> None:
        """One length for each world."""
        if self.lengths and len(self.lengths) != len(self.worlds):
            raise UsageError(
                f"schedule 'list': {len(self.lengths)} lengths for {len(self.worlds)} worlds; "
                "valid: as many, or none"
            )

    @property
    def phases(self) -> int:
        """See `Schedule`."""
        return len(self.worlds)

    @cached_property
    def _before(self) -> list[int]:
        """Periods before each phase, and in all."""
        return [0, *itertools.accumulate(self.lengths or [1] * len(self.worlds))]

    def start(self, phase: int) -> int:
        """See `Schedule`."""
        return self._before[phase] * self.period

    def world(self, phase: int) -> int:
        """See `Schedule`."""
        return int(self.worlds[phase])
