"""A small foraging world with a known optimum, after the Jelly Bean World of PT-DQN.

Three items lie on a torus; one that is eaten grows again somewhere else. PT-DQN (Anand & Precup,
NeurIPS 2023, arXiv 2312.11669) exchanges the values of the good and the bad item, +2 and -1, every
150,000 steps, and leaves the third, +0.1, alone. Its world is boundless and partly hidden; this
one is small and seen in full, so that the best return can be computed::

    . . . . .        one of each: bean, onion, banana
    . b . . .        the agent @ is always in the middle: it sees the torus around it
    . . @ o .
    . . . . .        a step moves it to a neighbour; what lies there is eaten
    . n . . .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from gymnasium import spaces
from numpy.typing import NDArray

from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.errors import UsageError
from rlplastic.registry import environment

# of bean, onion and banana: `control/jbw_crl/env_params.py` of PT-DQN's code
VALUES = (2.0, -1.0, 0.1)
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # up, right, down, left: [row, column]


class ForageCopies(Copies):
    """All copies of `Forage` as arrays; each copy draws from a generator of its own.

    Attributes:
        places: Where the items lie: int ``[copies, item]``, cells counted row by row from the
            agent's own, which is 0, on the torus.
    """

    def __init__(self, num_copies: int, size: int, limit: int) -> None:
        self.num_copies, self.size, self.limit = num_copies, size, limit
        num_items = len(VALUES)
        self.observation_space = spaces.Box(0.0, 1.0, (num_items * size * size,), np.float32)
        self.action_space = spaces.Discrete(len(MOVES))
        self.spread = np.ones(num_items * size * size)
        self.places = np.zeros((num_copies, num_items), dtype=np.int64)
        self._taken = np.zeros(num_copies, dtype=np.int64)  # steps of each open episode
        self._moved = moved_cells(size)
        self._shown = shown_cells(size)
        self._generators = [np.random.default_rng() for _ in range(num_copies)]

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`."""
        if seeds is not None:
            self._generators = [np.random.default_rng(seed) for seed in seeds]
        for copy in range(self.num_copies):
            self._begin(copy)
        return self._show()

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        self.places = self._moved[np.asarray(actions)[:, None], self.places]
        eaten = self.places == 0
        for copy in np.flatnonzero(eaten.any(axis=1)):
            self._grow(int(copy), int(np.flatnonzero(eaten[copy])[0]))
        self._taken += 1
        truncated = self._taken == self.limit
        final = self._show()
        for copy in np.flatnonzero(truncated):
            self._begin(int(copy))
        return Transition(
            observation=self._show() if truncated.any() else final,
            reward=eaten @ np.array(VALUES),
            terminated=np.zeros(self.num_copies, dtype=bool),
            truncated=truncated,
            final=final,
        )

    def _begin(self, copy: int) -> None:
        cells = self.size**2 - 1
        self.places[copy] = 1 + self._generators[copy].permutation(cells)[: len(VALUES)]
        self._taken[copy] = 0

    def _grow(self, copy: int, item: int) -> None:
        """An eaten item grows on a cell that is free, any with the same probability."""
        others = np.delete(self.places[copy], item)
        free = np.setdiff1d(np.arange(1, self.size**2), others)
        self.places[copy, item] = self._generators[copy].choice(free)

    def _show(self) -> Array:
        frames = np.zeros((self.num_copies, *self.places.shape[1:], self.size**2), dtype=np.float32)
        np.put_along_axis(frames, self._shown[self.places][..., None], 1.0, axis=2)
        return frames.reshape(self.num_copies, -1)


def moved_cells(size: int) -> NDArray[np.int64]:
    """Where a cell lies, relative to the agent, once the agent has moved: ``[action, cell]``."""
    rows, columns = np.divmod(np.arange(size * size), size)
    return np.stack([(rows - r) % size * size + (columns - c) % size for r, c in MOVES])


def shown_cells(size: int) -> NDArray[np.int64]:
    """Where a cell is shown, so that the agent is in the middle of what it sees."""
    rows, columns = np.divmod(np.arange(size * size), size)
    half = size // 2
    shown: NDArray[np.int64] = (rows + half) % size * size + (columns + half) % size
    return shown


@environment("Forage")
@dataclass(frozen=True, kw_only=True)
class Forage:
    """Eat beans (+2), not onions (-1); a banana is +0.1. 100 steps on a torus of 7 x 7 cells.

    One channel an item, one where it lies, the agent in the middle: the whole state is seen. What
    the best policy earns is known: `expected_return`.

    Attributes:
        size: Rows and columns, an odd number.
    """

    time_limit: ClassVar[int] = 100
    frame_skip: ClassVar[int] = 1

    size: Annotated[int, Ge(3)] = 7

    def __post_init__(self) -> None:
        """The agent is in the middle, so there must be one."""
        if self.size % 2 == 0:
            raise UsageError(f"size = {self.size}: must be odd, as {self.size + 1}")

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return ForageCopies(num_copies, self.size, self.time_limit)


def expected_return(
    size: int, pays: Sequence[float], plays: Sequence[float] | None, steps: int
) -> float:
    """What a policy earns on average in an episode, exactly, by backward induction.

    A state is where the three items lie. With ``pays == plays`` this is the optimum, since the
    policy may know how many steps are left; one that does not can only earn less.

    Args:
        size: Rows and columns of the torus.
        pays: Value of each item.
        plays: The values for which the policy is the best one; None: uniformly random play.
        steps: Length of an episode.
    """
    moved, cells = moved_cells(size), size * size
    here = np.arange(cells)
    bean, onion, banana = np.meshgrid(here, here, here, indexing="ij", sparse=True)
    apart = (bean != onion) & (bean != banana) & (onion != banana)
    states = apart & (bean != 0) & (onion != 0) & (banana != 0)
    rewards = np.zeros((2, cells, cells, cells))
    for which, values in enumerate((pays, pays if plays is None else plays)):
        for item, value in enumerate(values):
            np.moveaxis(rewards[which], item, 0)[0] += value
    after = [np.ix_(table, table, table) for table in moved]
    worth = np.zeros_like(rewards)  # of a state, in what is paid and in what the policy is after
    for _ in range(steps):
        ahead = rewards.copy()
        for which in range(2):
            ahead[which] += _grown(worth[which] * states, cells - 3)
        ways = np.stack([ahead[:, *index] for index in after])
        if plays is None:
            worth = ways.mean(axis=0)
        else:
            best = ways[:, 1].argmax(axis=0)
            worth = np.take_along_axis(ways, best[None, None], axis=0)[0]
    return float(worth[0][states].mean())


def _grown(worth: Array, free: int) -> Array:
    """Worth of each arrangement, where one with an eaten item is worth what it grows into."""
    out = worth.copy()
    for item in range(worth.ndim):
        np.moveaxis(out, item, 0)[0] = worth.sum(axis=item) / free
    return out
