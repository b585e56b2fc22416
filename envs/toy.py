"""Tiny environments whose right answers are known by hand. They train in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.registry import environment


class CueEnv(gymnasium.Env[Array, Any]):
    """See `Cue`."""

    length = 10

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        reward = float(int(action) == self._cue)
        self._steps += 1
        return self._show(), reward, self._steps == self.length, False, {}

    def _show(self) -> Array:
        self._cue = int(self.np_random.integers(2))
        signal = np.float32(2 * self._cue - 1)
        return np.array([signal, -signal], dtype=np.float32)


class CorridorEnv(gymnasium.Env[Array, Any]):
    """See `Corridor`."""

    size = 7
    limit = 20
    num_goals = 2

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (self.size,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.render_mode = None
        self._goal = self.size - 1

    def set_goal(self, goal: int) -> None:
        """The right end (0) or the left end (1) pays."""
        self._goal = 0 if goal else self.size - 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self._place, self._steps = self.size // 2, 0
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        self._place += 1 if int(action) else -1
        self._steps += 1
        ended = self._place in (0, self.size - 1)
        reward = float(self._place == self._goal)
        return self._show(), reward, ended, self._steps == self.limit and not ended, {}

    def _show(self) -> Array:
        observation = np.zeros(self.size, dtype=np.float32)
        observation[self._place] = 1.0
        return observation


@environment("Cue")
@dataclass(frozen=True, kw_only=True)
class Cue:
    """Name the side of a random cue, ten times an episode.

    By hand: the best policy earns 10, uniformly random play 5 on average. Under ``inversion`` of
    the observation, or with the values 0 and 1 exchanged, the best policy of one world earns
    exactly 0 in the other.
    """

    time_limit: ClassVar[int] = 10
    frame_skip: ClassVar[int] = 1
    spread: ClassVar[Sequence[float]] = (1.0, 1.0)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(CueEnv, num_copies, spread=self.spread)


@environment("Corridor")
@dataclass(frozen=True, kw_only=True)
class Corridor:
    """Seven places in a row, start in the middle; one end pays 1, the other 0, both end.

    By hand: the best policy earns 1 in three steps; uniformly random play reaches either end
    within the 20 steps with probability 0.925, so it earns 0.462. With the goal at the other end
    the best policy earns exactly 0.
    """

    time_limit: ClassVar[int] = 20
    frame_skip: ClassVar[int] = 1
    spread: ClassVar[Sequence[float]] = (1.0,) * 7

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(CorridorEnv, num_copies, spread=self.spread)
