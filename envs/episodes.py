"""The running account of the episode that each copy is in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlplastic.envs.copies import Array


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode of one copy.

    Attributes:
        phase: Phase in which it began.
        world: World in which it began.
        begin: Clock before its first step.
        end: Clock after its last step.
        copy: Index of the copy.
        length: Steps of the copy.
        task_return: Sum of rewards after the reward shifts, before any clipping.
        base_return: Sum of the base environment's rewards.
        cut: True if only the boundary of the phase ended it.
    """

    phase: int
    world: int
    begin: int
    end: int
    copy: int
    length: int
    task_return: float
    base_return: float
    cut: bool


class Accounts:
    """What the open episode of each copy has come to so far.

    Attributes:
        length: Steps of each copy in its open episode: int ``[copies]``.
    """

    def __init__(self, num_copies: int) -> None:
        self._begin, self._phase, self._world, self.length = (
            np.zeros(num_copies, dtype=np.int64) for _ in range(4)
        )
        self._task_return, self._base_return = (np.zeros(num_copies) for _ in range(2))

    def open(self, rows: Array, clock: int, phase: int, worlds: Array) -> None:
        """Copies where `rows` is true begin an episode now."""
        self._begin[rows] = clock
        self._phase[rows] = phase
        self._world[rows] = worlds[rows]
        self.length[rows] = 0
        self._task_return[rows] = 0.0
        self._base_return[rows] = 0.0

    def add(self, paid: Array, base: Array) -> None:
        """One step of all copies."""
        self._task_return += paid
        self._base_return += base
        self.length += 1

    def close(self, copy: int, clock: int, *, cut: bool) -> Episode:
        """The episode of a copy that ends now."""
        return Episode(
            phase=int(self._phase[copy]),
            world=int(self._world[copy]),
            begin=int(self._begin[copy]),
            end=clock,
            copy=copy,
            length=int(self.length[copy]),
            task_return=float(self._task_return[copy]),
            base_return=float(self._base_return[copy]),
            cut=cut,
        )
