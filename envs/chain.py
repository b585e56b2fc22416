"""The shifts of a stream in turn: what becomes of an action, a reward or a frame in its world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlplastic.envs.copies import Array
from rlplastic.envs.moments import Moment
from rlplastic.envs.shifts import Shift

METHODS = ("action", "reward", "target", "observation", "configure")


class Chain:
    """Bound shifts, applied in their order to the copies that are not in world 0.

    Args:
        shifts: The shifts, bound.
        num_copies: Number of copies.

    Attributes:
        by_method: The shifts that have a method of `METHODS`, by its name.
        before: The world that a ramp comes from.
        mix: How much of the present world there is, the rest being the one before; 1 but for
            ramps.
    """

    def __init__(self, shifts: Sequence[Shift], num_copies: int) -> None:
        self.shifts = tuple(shifts)
        self.by_method = {
            method: [s for s in shifts if getattr(type(s), method) is not getattr(Shift, method)]
            for method in METHODS
        }
        self.before, self.mix = 0, 1.0
        self._age = 0  # steps since the last seeded reset: what random shifts draw depends on it
        self._everyone = np.arange(num_copies)
        self._never = np.zeros(num_copies, dtype=bool)
        self._asked: tuple[Array | None, bool, bool] = None, False, False

    def tick(self) -> None:
        """A step, or a reset, begins."""
        self._age += 1

    def reseed(self, seeds: Sequence[int]) -> None:
        """A seeded reset begins: random shifts begin anew too."""
        self._age = 0
        for shift in self.shifts:
            shift.reseed(seeds)

    def forget(self, copies: Array) -> None:
        """Nothing is remembered of some copies: an episode of theirs, or a world, begins."""
        for shift in self.shifts:
            shift.forget(copies)

    def through(
        self, method: str, values: Array, worlds: Array, *more: Array, **moment: Any
    ) -> Array:
        """The values in the copies' worlds, or on the way there from the world before.

        Args:
            method: One of `METHODS`.
            values: What is given to the first shift's method, one row for each copy.
            worlds: The world of each row.
            more: What else the method is given.
            moment: ``copies`` of the rows, if not all; ``event``, if not the method; ``last``.
        """
        shifts = self.by_method[method]
        if not shifts:
            return values
        after = self._changed(shifts, method, values, worlds, *more, **moment)
        if self.mix == 1.0:
            return after
        origin = np.full_like(worlds, self.before)
        before = self._changed(shifts, method, values, origin, *more, **moment)
        return _between(before, after, self.mix)

    def _changed(
        self,
        shifts: Sequence[Shift],
        method: str,
        values: Array,
        worlds: Array,
        *more: Array,
        copies: Array | None = None,
        event: str = "",
        last: Array | None = None,
    ) -> Array:
        """The values after every shift that has this method, in the copies not in world 0."""
        if self._asked[0] is not worlds:  # the same array at each step, until a world changes
            self._asked = worlds, bool(worlds.any()), bool(worlds.all())
        _, some, whole = self._asked
        if not some:
            return values
        copies = self._everyone if copies is None else copies
        last = self._never[: len(worlds)] if last is None else last
        rows = slice(None) if whole else np.flatnonzero(worlds)
        moment = Moment(copies[rows], self._age, event or method, last[rows])
        for shift in shifts:
            shift.tell(moment)
            change = getattr(shift, method)
            if whole:
                values = change(values, worlds, *more)
            else:
                values = values.copy()
                values[rows] = change(values[rows], worlds[rows], *(m[rows] for m in more))
        return values


def _between(before: Array, after: Array, mix: float) -> Array:
    """A mix of what two worlds give, of the same type."""
    if before.dtype == after.dtype and np.array_equal(before, after):
        return after
    values = (1 - mix) * before + mix * after
    return (np.rint(values) if np.issubdtype(after.dtype, np.integer) else values).astype(
        after.dtype
    )
