"""A plugin agent for the toy `Cue`: what its first step teaches it, it does all its life.

It names the side of the cue as world 0 wants it; if its very first answer is not paid, it answers
the other way round from then on. So a newborn is right from its second step in every world, and a
life that began in world 0 earns exactly 10 in world 0 and 0 in world 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlplastic.agents.random import RandomConfig, RandomPlay
from rlplastic.registry import agent


class Imprinted(RandomPlay):
    def learn(self, total_timesteps, callback=None, log_interval=None):
        total, callback = self._setup_learn(total_timesteps, callback)
        callback.on_training_start(locals(), globals())
        observations, flip, first = self._last_obs, False, True
        while self.num_timesteps < total:
            callback.on_rollout_start()
            answers = (observations[:, 0] > 0) ^ flip
            observations, rewards, _, _ = self.env.step(answers.astype(np.int64))
            flip, first = (rewards[0] == 0 if first else flip), False
            self.num_updates = 1  # the one lesson of its life
            self.num_timesteps += self.n_envs
            callback.on_step()
        callback.on_training_end()
        return self


@agent("imprinted")
@dataclass(frozen=True, kw_only=True)
class ImprintedConfig(RandomConfig):
    """See the head of this file."""

    learns: ClassVar[bool] = True

    num_envs: int = 1

    def build(self, env, *, seed, interventions, device, horizon):
        return Imprinted(env, seed)
