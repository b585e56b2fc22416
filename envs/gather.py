"""The symbolic gridworld of Juliani & Ash (arXiv 2405.19153): gather gems, avoid pits.

Written anew from the paper's description and the behaviour of its code (`envs/gridworld.py` of
awjuliani/deep-rl-plasticity, task ``gather-vis``, on neuro-nav's `GridEnv`), which has no licence
file. A *level* is a layout of walls, gems and pits; an episode begins in one of the levels of the
present world, any with the same probability::

    # # # # # # # # # # #      11 x 11 cells with a wall around; the agent @ starts in the middle
    # . . * . # . . x . #      10 more walls #, 5 gems * of +0.75, 5 pits x of -0.75
    # . # . . @ . . * . #      a gem or pit pays once and is gone; 100 steps
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Ge
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.registry import environment

SIZE = 11
VALUE = 0.75  # of a gem; a pit has minus that
COUNTS = {"walls": 10, "pits": 5, "gems": 5}  # inside the outer wall
LIMIT = 100
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left: (row, column)
_LAYOUT = 0x4C4556454C  # keeps the draws of layouts apart from others


def layout_of(level: int) -> tuple[Array, Array]:
    """Walls and values of a level: bool and float32, ``[11, 11]``. It depends on `level` alone.

    As in the paper's code, items lie in rows 2 to 8 and columns 1 to 9, never at the start, and
    nothing keeps walls from enclosing one.
    """
    middle = SIZE // 2
    cells = [
        (row, column)
        for row in range(2, SIZE - 2)
        for column in range(1, SIZE - 1)
        if (row, column) != (middle, middle)
    ]
    order = np.random.default_rng([_LAYOUT, level]).permutation(len(cells))
    drawn = [cells[i] for i in order[: sum(COUNTS.values())]]
    walls = np.ones((SIZE, SIZE), dtype=bool)
    walls[1:-1, 1:-1] = False
    values = np.zeros((SIZE, SIZE), dtype=np.float32)
    first_pit, first_gem = COUNTS["walls"], COUNTS["walls"] + COUNTS["pits"]
    for number, cell in enumerate(drawn):
        if number < first_pit:
            walls[cell] = True
        else:
            values[cell] = VALUE if number >= first_gem else -VALUE
    return walls, values


class GatherEnv(gymnasium.Env[Array, Any]):
    """See `Gather`."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.observation_space = spaces.Box(-VALUE, 1.0, (3 * SIZE * SIZE,), np.float32)
        self.action_space = spaces.Discrete(len(MOVES))
        self.render_mode = None
        self.home = tuple(levels)  # of world 0
        self.set_levels(self.home)

    def set_levels(self, levels: Sequence[int]) -> None:
        """The levels that episodes begin in from the next reset on."""
        self.levels = tuple(levels)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        level = self.levels[int(self.np_random.integers(len(self.levels)))]
        self._walls, self._values = layout_of(level)
        self._place, self._steps = (SIZE // 2, SIZE // 2), 0
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        down, right = MOVES[int(action)]
        ahead = self._place[0] + down, self._place[1] + right
        if not self._walls[ahead]:
            self._place = ahead
        reward = float(self._values[self._place])
        self._values[self._place] = 0.0
        self._steps += 1
        return self._show(), reward, False, self._steps == LIMIT, {}

    def _show(self) -> Array:
        """Three channels: the agent, the values, the walls."""
        frame = np.zeros((3, SIZE, SIZE), dtype=np.float32)
        frame[0][self._place] = 1.0
        frame[1], frame[2] = self._values, self._walls
        return frame.ravel()


@environment("Gather")
@dataclass(frozen=True, kw_only=True)
class Gather:
    """Gather 5 gems (+0.75) and avoid 5 pits (-0.75) in 100 steps on 11 x 11 cells, seen in full.

    Attributes:
        levels: Number of layouts that episodes begin in (the paper's code: 10 unless stated).
    """

    time_limit: ClassVar[int] = LIMIT
    frame_skip: ClassVar[int] = 1

    levels: Annotated[int, Ge(1)] = 10

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(lambda: GatherEnv(range(self.levels)), num_copies)
