"""A base environment of images that costs next to nothing, for shifts of images."""

from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import GymCopies
from rlplastic.registry import environment


class ScreenEnv(gymnasium.Env):
    """A bright square that moves over a noisy, slanted background; pays -1, 0 or 1."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
        self.action_space = spaces.Discrete(4)
        self.render_mode = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.integers(0, 76, size=2), 0
        self._ground = np.add.outer(np.arange(84), np.arange(84)).astype(np.uint8) // 2
        self._ground += self.np_random.integers(0, 60, size=(84, 84), dtype=np.uint8)
        return self._show(), {}

    def step(self, action):
        self._place = np.clip(self._place + [(0, 2), (2, 0), (0, -2), (-2, 0)][action], 0, 76)
        self._steps += 1
        reward = float(np.sign(self._place[0] - self._place[1]))
        return self._show(), reward, False, self._steps == 25, {}

    def _show(self):
        frame = self._ground.copy()
        frame[self._place[0] : self._place[0] + 8, self._place[1] : self._place[1] + 8] = 250
        return frame[None]


class ScreenCopies(GymCopies):
    stack = 4


@environment("Screen")
@dataclass(frozen=True, kw_only=True)
class Screen:
    """See `ScreenEnv`."""

    time_limit: ClassVar[int] = 25
    frame_skip: ClassVar[int] = 1

    def make(self, num_copies):
        return ScreenCopies(ScreenEnv, num_copies)
