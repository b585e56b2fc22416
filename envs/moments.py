"""For which copies, and when, a shift is called; random numbers fixed by seed, copy and step.

A shift that draws at each step has a Philox generator for every copy (Salmon et al. 2011): its
key is the seed of the copy's last seeded reset, which a stream derives from (stream seed, phase,
copy), and the step is its counter. What a copy draws then depends on nothing that other copies do
and on nothing that was drawn before: a scalar environment draws what its copy of a vectorised
stream does, and a seeded reset forgets the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlplastic.envs.copies import Array

EVENTS = ("action", "reward", "target", "observation", "first", "padding")
_BLOCK = 64  # steps that are drawn ahead
_DRAWS = 0x44524157  # keeps the draws of steps apart from those of contents and resets


@dataclass(frozen=True, slots=True)
class Moment:
    """What a shift may know of the rows that one of its methods is given.

    Attributes:
        copies: The copy that each row belongs to: int ``[rows]``.
        step: Steps since the last seeded reset.
        event: One of `EVENTS`: the method, or ``first`` for the frame that begins an episode and
            ``padding`` for the blank one that fills a fresh stack.
        last: True where the episode, or the copy's stay in this world, ends with this step:
            bool ``[rows]``. What is owed must be paid now.
    """

    copies: Array
    step: int
    event: str
    last: Array


class Draws:
    """The generators of one shift, one for each copy.

    Args:
        seeds: Of each copy's last seeded reset.
        index: Which shift of its stream it is: two shifts draw differently.
    """

    def __init__(self, seeds: Sequence[int], index: int) -> None:
        self._bits = [
            np.random.Philox(key=np.random.SeedSequence(words).generate_state(2, np.uint64))
            for words in ([_DRAWS, index, seed] for seed in seeds)
        ]
        self._generators = [np.random.Generator(bits) for bits in self._bits]
        self._states = [bits.state for bits in self._bits]
        self._ahead: tuple[object, Array] = (None, np.empty(0))

    def at(self, moment: Moment) -> list[np.random.Generator]:
        """A generator for each row, at the beginning of the moment's own numbers."""
        where = (moment.step, EVENTS.index(moment.event), 0)
        return [self._put(int(copy), where) for copy in moment.copies]

    def one(self, moment: Moment, distribution: str) -> Array:
        """One number for each row, from a distribution of `numpy.random.Generator`.

        Drawn for many steps at once, since a step of an environment has little time.
        """
        block, place = divmod(moment.step, _BLOCK)
        key = (distribution, moment.event, block)
        if self._ahead[0] != key:
            where = (block, EVENTS.index(moment.event), 1)
            numbers = [
                getattr(self._put(copy, where), distribution)(_BLOCK)
                for copy in range(len(self._bits))
            ]
            self._ahead = key, np.array(numbers)
        found: Array = self._ahead[1][moment.copies, place]
        return found

    def _put(self, copy: int, where: tuple[int, int, int]) -> np.random.Generator:
        """A copy's generator with the upper words of its counter set; the lowest counts draws."""
        state = self._states[copy]
        state["state"]["counter"][:] = (0, *where)
        state["buffer_pos"], state["has_uint32"] = 4, 0  # nothing is left over from before
        self._bits[copy].state = state
        return self._generators[copy]
