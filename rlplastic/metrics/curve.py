"""The return curve of a phase, and the case that every metric is computed from.

Episodes are placed at the step at which they *began*. Placed at their ends, short episodes would
come first after a boundary, and even an unchanging policy would seem to drop and recover. A bin in
which no episode began repeats the value before it: that is the episode still in progress::

    begin of phase                                            end of phase
    |  bin 0  |  bin 1  |  bin 2  |  bin 3  |   ...   |  last bin  |
      e1  e2            (e2 runs)    e3                               value of a bin = mean return
      |---first episode of each copy: start level      end level: all that end in the last 10 %
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlplastic.record import BoolArray, Episodes, FloatArray, IntArray, Phase

MOST_BINS = 50
EPISODES_PER_BIN = 10  # of the longest episodes, so that even these fill a bin
LAST_PART = 0.1  # of a phase, for its end level
FIRST_EPISODES = 5  # after a shift, where there is a single copy


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Returns of one arm in one phase.

    Attributes:
        phase: Number of the phase.
        world: World it was in.
        begin: Clock at its begin.
        end: Clock at its end.
        values: Mean return of the episodes begun in each bin, carried forward over empty bins.
        finished: Number of finished episodes begun in each bin.
        start_level: Mean return of the first episode of each copy (one copy: the first five).
        end_level: Mean return of the episodes that end in the last 10 %.
        returns: Returns of the counted episodes in the order of their begins.
        partial: How many of them were cut by the boundary and count with what they had.
    """

    phase: int
    world: int
    begin: int
    end: int
    values: FloatArray
    finished: IntArray
    start_level: float
    end_level: float
    returns: FloatArray
    partial: int = 0

    @property
    def level(self) -> float:
        """L, the mean return of the phase: the area under the curve over its length.

        Each *step* weighs the same. A mean over episodes would let the many short ones of a
        failing agent outvote the few long ones of a balancing agent.
        """
        return float(self.values.mean())

    @property
    def steps(self) -> int:
        """Length of the phase in environment steps."""
        return self.end - self.begin

    def at(self, step: float) -> float:
        """Value of the curve at so many steps after its begin."""
        place = int(step * len(self.values) / self.steps)
        return float(self.values[min(place, len(self.values) - 1)])


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What the frozen policy of a life got in the worlds of its phases.

    Attributes:
        worlds: The world of each phase.
        returns: R ``[phases + 1, phases]``: in the world of each phase, when so many were over;
            NaN where it was not evaluated.
    """

    worlds: Sequence[int]
    returns: FloatArray


@dataclass(frozen=True, kw_only=True)
class Case:
    """One arm on one task with one seed, and all that it is judged by. Index = phase.

    Attributes:
        life: The arm.
        newborn: Its newborns; entry 0 is the arm's own phase 0, which is theirs too.
        reference: The newborns of ``none``, the yardstick that all arms share.
        random: Mean return of a random policy in the world of each phase.
        scale: C, one constant a task and agent: what a pilot newborn gained over random.
        low: Random level of the unshifted task, a constant of the suite.
        high: Reference level of the unshifted task, a constant of the suite.
        cost: Gradient evaluations per update relative to ``none``; NaN where it is not known.
        broken: Whether the life diverged.
        evaluated: Its frozen policy in every world; None where it was not evaluated.
    """

    life: Sequence[Curve | None]
    newborn: Sequence[Curve | None]
    reference: Sequence[Curve | None]
    random: FloatArray
    scale: float
    low: float = float("nan")
    high: float = float("nan")
    cost: float = 1.0
    broken: bool = False
    evaluated: Evaluated | None = None


def levels(curves: Sequence[Curve | None]) -> FloatArray:
    """L of each phase; NaN where there is no curve."""
    return np.array([np.nan if curve is None else curve.level for curve in curves])


def end_levels(curves: Sequence[Curve | None]) -> FloatArray:
    """End level of each phase; NaN where there is no curve."""
    return np.array([np.nan if curve is None else curve.end_level for curve in curves])


def start_levels(curves: Sequence[Curve | None]) -> FloatArray:
    """Level just after the begin of each phase; NaN where there is no curve."""
    return np.array([np.nan if curve is None else curve.start_level for curve in curves])


def num_bins(steps: int, longest: float, iteration: int = 0) -> int:
    """Bins of a phase: min(50, steps // (10 * L90)), at least one.

    A published protocol that averages over iterations of so many steps has one bin for each.
    """
    if iteration:
        return max(1, steps // iteration)
    return max(1, min(MOST_BINS, int(steps // (EPISODES_PER_BIN * longest))))


def counted(length: IntArray, cut: BoolArray, late: BoolArray) -> BoolArray:
    """Which episodes of a phase count.

    Finished ones do. One that the boundary cut counts with its partial return only if it is at
    least as long as the phase's median: a short stump says nothing, but a long one left out would
    hide the best episodes of the phase. It must also be as long as the median of those that
    finished in the last part: the phase of a newborn is full of short first episodes, beside which
    every stump of its long later ones would count, and it would seem to end lower than a life that
    plays equally well. Without any finished episode all partial returns count.

    Args:
        length: Steps of each episode.
        cut: Which of them the boundary cut.
        late: Which of them ended in the last part of the phase.
    """
    if cut.all():
        return np.ones_like(cut)
    least = np.median(length[~cut])
    if (late & ~cut).any():
        least = max(least, np.median(length[late & ~cut]))
    return ~cut | (length >= least)


def return_curve(
    episodes: Episodes, phase: Phase, longest: float, iteration: int = 0
) -> Curve | None:
    """The curve of one phase, or None if no episode belongs to it.

    Args:
        episodes: Episodes of the cell.
        phase: The phase, closed.
        longest: L90, the time limit or the 90th percentile of a newborn's episode lengths.
        iteration: Steps of an iteration of a published protocol; 0: there is none.
    """
    inside = episodes.where(episodes.phase == phase.phase)
    if not len(inside):
        return None
    steps = phase.end - phase.begin
    late = inside.end > phase.end - LAST_PART * steps
    inside = inside.where(counted(inside.length, inside.cut, late))
    bins = num_bins(steps, longest, iteration)
    place = np.clip((inside.begin - phase.begin) * bins // steps, 0, bins - 1)
    late = inside.end > phase.end - LAST_PART * steps
    values = _carry_forward(place, inside.returns, bins)
    return Curve(
        phase=phase.phase,
        world=phase.world,
        begin=phase.begin,
        end=phase.end,
        values=values,
        finished=np.bincount(place[~inside.cut], minlength=bins),
        start_level=float(inside.returns[_first(inside.copy)].mean()),
        end_level=float(inside.returns[late].mean() if late.any() else values[-1]),
        returns=inside.returns,
        partial=int(inside.cut.sum()),
    )


def _carry_forward(place: IntArray, returns: FloatArray, bins: int) -> FloatArray:
    count = np.bincount(place, minlength=bins)
    total = np.bincount(place, weights=returns, minlength=bins)
    filled = count > 0
    # The bins before the first episode (only where worlds change inside an episode) take its value.
    source = np.maximum.accumulate(np.where(filled, np.arange(bins), filled.argmax()))
    return np.asarray(total[source] / count[source])


def _first(copy: IntArray) -> IntArray:
    """Indices of the first episode of each copy, or of the first five of a single copy."""
    _, first = np.unique(copy, return_index=True)
    return first if len(first) > 1 else np.arange(min(FIRST_EPISODES, len(copy)))


def floored(
    curve: Curve | None,
    phase: Phase,
    step: int,
    floor: float,
    longest: float,
    iteration: int = 0,
) -> Curve:
    """The curve of a phase in which, or before which, the learner diverged.

    From the bin of that step on the arm counts as `floor`, the lower of the random level and its
    own lowest one: a learner that broke is never better off than one that stayed bad.

    Args:
        curve: What was measured of the phase before, if anything.
        phase: The phase in full length.
        step: Clock at which the learner diverged.
        floor: What it counts as from then on.
        longest: L90, as in `return_curve`.
        iteration: As in `return_curve`.
    """
    bins = num_bins(phase.end - phase.begin, longest, iteration)
    kept = int(np.clip((step - phase.begin) * bins // (phase.end - phase.begin), 0, bins))
    values = np.full(bins, floor)
    finished = np.zeros(bins, dtype=np.int64)
    start = floor
    if curve is not None:
        values[:kept], finished[:kept] = curve.values[:kept], curve.finished[:kept]
        start = curve.start_level
    return Curve(
        phase=phase.phase,
        world=phase.world,
        begin=phase.begin,
        end=phase.end,
        values=values,
        finished=finished,
        start_level=start,
        end_level=floor,
        returns=np.empty(0),
        partial=curve.partial if curve is not None else 0,
    )
