"""Base environments whose every number is known, for tests of streams."""

from __future__ import annotations

import gymnasium
import numpy as np

from rlplastic.envs.copies import Copies, Transition


class Counter(Copies):
    """Shows how many steps have been taken since its reset, and the seed of that; ends never."""

    def __init__(self, num_copies=1, ends_at=10**9, pays=1.0):
        self.num_copies, self.ends_at, self.pays = num_copies, ends_at, pays
        self.observation_space = gymnasium.spaces.Box(-1e9, 1e9, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seeds=None):
        seeds = [-1] * self.num_copies if seeds is None else seeds
        self.state = np.array([[0.0, seed % 1000] for seed in seeds])
        return self.state.copy()

    def step(self, actions):
        self.state[:, 0] += 1
        final, ended = self.state.copy(), self.state[:, 0] == self.ends_at
        self.state[ended] = [0, -1]
        reward = np.full(self.num_copies, self.pays)
        return Transition(self.state.copy(), reward, ended, np.zeros_like(ended), final)


class Frames(Copies):
    """Frames of 4 x 4 whose pixels are all different, one brighter each step."""

    stack = 3

    def __init__(self, num_copies=2, ends_at=5):
        self.num_copies, self.ends_at = num_copies, ends_at
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, 4, 4), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(2)

    def show(self):
        pixels = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4) * 10
        return pixels + self.clock.astype(np.uint8)[:, None, None, None]

    def reset(self, seeds=None):
        self.clock = np.zeros(self.num_copies)
        return self.show()

    def step(self, actions):
        self.clock += 1
        final, ended = self.show(), self.clock == self.ends_at
        self.clock[ended] = 0
        zero = np.zeros(self.num_copies)
        return Transition(self.show(), zero, ended, zero.astype(bool), final)


def steps(stream, number):
    for _ in range(number):
        yield stream.step(np.zeros(stream.num_envs, dtype=int))
