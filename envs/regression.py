"""Regression streams: the slowly changing bits of Dohare et al."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies
from rlplastic.envs.supervised import LIMIT, Supervised
from rlplastic.registry import environment

UNITS = 100  # of the target network
BETA = 0.7
USUAL = 1.0  # random answers are drawn within; no answer is clipped to it
_NETWORK = 0x42495453  # keeps the draw of the network apart from the seeds of resets


class SlowBits(Supervised):
    """See `Bits`.

    Attributes:
        initial: The slow bits of world 0.
        slow: The bits that only a shift changes; takes effect at the next `reset`.
    """

    def __init__(self, num_copies: int, num_slow: int, num_fast: int) -> None:
        super().__init__(num_copies)
        self._num_slow, self._width = num_slow, num_slow + num_fast + 1
        self.observation_space = spaces.Box(0.0, 1.0, (self._width,), np.float32)
        self.action_space = spaces.Box(-USUAL, USUAL, (1,), np.float32)
        codes = np.arange(2**num_fast)[:, None] >> np.arange(num_fast)
        self._fast = (codes & 1).astype(np.float32)
        self.draw(0)

    def draw(self, seed: int) -> None:
        """See `Copies.draw`: the target network, and the slow bits of world 0."""
        rng = np.random.default_rng([_NETWORK, seed])
        self.hidden = rng.choice([-1.0, 1.0], size=(self._width, UNITS))
        self.output = rng.choice([-1.0, 1.0], size=UNITS)
        negative = (self.hidden < 0).sum(axis=0)
        self.thresholds = BETA * self._width - negative
        self.initial = rng.integers(2, size=self._num_slow).astype(np.float32)
        self.slow = self.initial.copy()

    def targets(self, inputs: Array) -> Array:
        """What the target network makes of inputs ``[n, bits + 1]``: float32 ``[n, 1]``."""
        on = inputs @ self.hidden > self.thresholds
        found: Array = (on @ self.output).astype(np.float32)
        return found[:, None]

    def _begin(self) -> None:
        number = len(self._fast)
        slow, ones = np.tile(self.slow, (number, 1)), np.ones((number, 1), dtype=np.float32)
        self._inputs = np.concatenate([slow, self._fast, ones], axis=1)
        self._answers = self.targets(self._inputs)
        for _, change in sorted(self.changes.items()):
            self._answers = change(self._answers)

    def _show(self) -> Array:
        drawn = self._rng.integers(len(self._inputs), size=self.total)
        rows = drawn[self.first : self.first + self.num_copies]
        self.answers = self._answers[rows]
        return self._inputs[rows]

    def _score(self, actions: Array) -> Array:
        error = np.asarray(actions, dtype=np.float64) - self.answers
        score: Array = -np.square(error).mean(axis=1) / LIMIT
        return score


@environment("Bits")
@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits in, a number out: the target is a fixed random network of 100 threshold units.

    Slowly-changing regression (Dohare et al., Nature 2024): `slow` bits stay as they are within a
    world, `fast` ones are drawn for each example, the last input is 1. Weights of both layers are
    -1 or 1; a unit is on above 0.7 (bits + 1) minus the number of its negative weights, so that
    targets are of order 1. The target network, and the slow bits of world 0, are drawn from the
    stream's seed, so that each seed has its own, as each run there: over seeds no world is then
    harder than another, while one network's targets may become more varied from world to world.
    The return is minus the mean squared error of an episode.

    Attributes:
        slow: Bits that a shift flips.
        fast: Bits that are drawn for each example.
    """

    time_limit: ClassVar[int] = LIMIT
    fixed_length: ClassVar[bool] = True  # of every episode: phases must be whole ones
    frame_skip: ClassVar[int] = 1

    slow: Annotated[int, Ge(1), Le(64)] = 15
    fast: Annotated[int, Ge(1), Le(12)] = 5

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return SlowBits(num_copies, self.slow, self.fast)
