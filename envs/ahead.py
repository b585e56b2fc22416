"""What a stream will show, shifted many steps at a time, where no action can change it.

A shift of one minibatch takes longer to call than to do. A supervised stream shows its examples in
an order that no answer changes, so those of the coming steps go through the shifts at once.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from rlplastic.envs.chain import Chain
from rlplastic.envs.copies import Array, Copies


class Ahead:
    """The coming steps of a base environment that knows what it will show.

    Args:
        base: The copies.
        chain: The stream's shifts.
        plain: False if what the learner sees depends on more than base, shifts and world.

    Attributes:
        knows: True if it can look ahead at all: the base environment does, actions and rewards
            stay as they are, and observations depend on nothing but their world.
        shown: What the coming steps show, as far as they have been looked at.
    """

    def __init__(self, base: Copies, chain: Chain, *, plain: bool) -> None:
        self._base, self._chain = base, chain
        changed = any(chain.by_method[method] for method in ("action", "reward", "target"))
        still = all(shift.still for shift in chain.by_method["observation"])
        self.knows = plain and still and not changed and type(base).ahead is not Copies.ahead
        self.shown: deque[Array] = deque()

    def forget(self) -> None:
        """The copies have been restarted."""
        self.shown.clear()

    def look(self, most: int, worlds: Array) -> bool:
        """Look at the coming steps, at most so many, in which nothing ends; False: at none."""
        frames = self._base.ahead(most)
        if frames is None:
            return False
        steps, copies = frames.shape[:2]
        shown = self._chain.through(
            "observation",
            frames.reshape(steps * copies, *frames.shape[2:]),
            np.tile(worlds, steps),
            copies=np.tile(np.arange(copies), steps),
            last=np.zeros(steps * copies, dtype=bool),
        )
        self.shown.extend(shown.reshape(steps, copies, *shown.shape[1:]))
        return True

    def step(self, actions: Array) -> tuple[Array, Array]:
        """Take the next step: its reward and what is shown then."""
        return self._base.pay(actions), self.shown.popleft()
