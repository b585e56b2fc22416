"""The environment wrapper of `rlplastic.interventions.norms`, whose statistics are state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

Array = NDArray[Any]


class KeptMeanStd(RunningMeanStd):
    """stable-baselines3's running mean and variance, kept in an intervention's state.

    Args:
        kept: The state.
        shape: Of what is counted.
    """

    def __init__(self, kept: dict[str, Any], shape: tuple[int, ...]) -> None:
        self._kept = kept
        super().__init__(shape=shape)

    @property
    def mean(self) -> Array:
        """Mean of what was seen."""
        found: Array = self._kept["mean"].numpy()
        return found

    @mean.setter
    def mean(self, value: Array) -> None:
        self._kept["mean"] = torch.as_tensor(np.asarray(value, np.float64))

    @property
    def var(self) -> Array:
        """Variance of what was seen."""
        found: Array = self._kept["var"].numpy()
        return found

    @var.setter
    def var(self, value: Array) -> None:
        self._kept["var"] = torch.as_tensor(np.asarray(value, np.float64))

    @property
    def count(self) -> float:
        """How many were seen."""
        return float(self._kept["count"])

    @count.setter
    def count(self, value: float) -> None:
        self._kept["count"] = float(value)


class Normaliser(VecNormalize):
    """stable-baselines3's normaliser, whose statistics live in the states of interventions.

    It begins with nothing switched on; `normalise_observations` and `normalise_rewards` switch on.
    """

    def __init__(self, venv: VecEnv) -> None:
        self._returns: dict[str, Any] = {}
        super().__init__(venv, norm_obs=False, norm_reward=False)

    @classmethod
    def around(cls, env: VecEnv) -> Normaliser:
        """The environment's normaliser, a new one if it has none."""
        return env if isinstance(env, cls) else cls(env)

    @property
    def returns(self) -> Array:
        """The discounted sum of the rewards of the present episode, for each copy."""
        found: Array = self._returns["returns"].numpy()
        return found

    @returns.setter
    def returns(self, value: Array) -> None:
        self._returns["returns"] = torch.as_tensor(np.asarray(value, np.float64))

    def normalise_observations(self, kept: dict[str, Any], clip: float) -> None:
        """From now on observations have mean 0 and variance 1, within ±clip."""
        assert self.observation_space.shape is not None
        self.norm_obs, self.clip_obs = True, clip
        self.obs_rms = KeptMeanStd(kept, self.observation_space.shape)  # type: ignore[assignment]

    def normalise_rewards(self, kept: dict[str, Any], clip: float, gamma: float) -> None:
        """From now on rewards are divided by the deviation of their discounted sums."""
        self.norm_reward, self.clip_reward, self.gamma = True, clip, gamma
        self.ret_rms = KeptMeanStd(kept, ())
        self._returns = kept
        self.returns = np.zeros(self.num_envs)
