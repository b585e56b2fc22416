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

    def at(self, moment: Moment) -> list[np.random.Generator]:
        """A generator for each row, at the beginning of the moment's own numbers."""
        counter = (0, moment.step, EVENTS.index(moment.event), 0)  # the first word counts draws
        found = []
        for copy in moment.copies:
            state = self._states[copy]
            state["state"]["counter"][:] = counter
            state.update(buffer_pos=4, has_uint32=0)  # nothing is left over from another moment
            self._bits[copy].state = state
            found.append(self._generators[copy])
        return found
