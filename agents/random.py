"""Uniformly random play: the reference that every level is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlplastic.interventions import Interventions
from rlplastic.registry import agent


class RandomPlay(BaseAlgorithm):
    """Draws every action uniformly from the action space and never learns."""

    def __init__(self, env: VecEnv, seed: int) -> None:
        super().__init__(
            BasePolicy,  # never built: there is no policy
            env,
            learning_rate=0.0,
            device="cpu",
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Discrete, spaces.Box, spaces.MultiDiscrete),
        )
        self.num_updates = 0
        self.last_batch = None
        self.interventions = Interventions()
        self._setup_model()

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)

    def learn(  # type: ignore[override]
        self, total_timesteps: int, callback: Any = None, log_interval: int | None = None
    ) -> Self:
        """Play for so many steps, all copies together."""
        total, callback = self._setup_learn(total_timesteps, callback)
        callback.on_training_start(locals(), globals())
        assert self.env is not None
        while self.num_timesteps < total:
            callback.on_rollout_start()
            actions = np.stack([self.action_space.sample() for _ in range(self.n_envs)])
            _, _, dones, infos = self.env.step(actions)
            self.num_timesteps += self.n_envs
            callback.update_locals(locals())
            callback.on_step()
            self._update_info_buffer(infos, dones)
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Write what has been recorded for the log."""
        self.logger.dump(step=self.num_timesteps)

    def scope(self, name: str) -> list[nn.Parameter]:
        """No parameters."""
        return []

    def values(self, observations: Tensor) -> Tensor:
        """There is no critic."""
        raise NotImplementedError("random play has no critic")

    def at_shift(self, phase: int, replay: Literal["clear", "keep"]) -> None:
        """Nothing to do."""


@agent("random")
@dataclass(frozen=True, kw_only=True)
class RandomConfig:
    """Uniformly random actions; run by itself beside every bench, as the reference level.

    Attributes:
        num_envs: Copies of the environment.
    """

    learns: ClassVar[bool] = False

    num_envs: Annotated[int, Ge(1)] = 8

    @property
    def rollout(self) -> int:
        """Environment steps that one step of all copies takes."""
        return self.num_envs

    def build(
        self, env: VecEnv, *, seed: int, interventions: Interventions, device: str, horizon: int
    ) -> RandomPlay:
        """A random player."""
        return RandomPlay(env, seed)
