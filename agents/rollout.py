"""PPO's rollout, drawn in the memory layout that the networks compute in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples


class ChannelsLastRollout(RolloutBuffer):
    """Image observations are put channels last once a rollout, not once a minibatch and epoch."""

    @staticmethod
    def swap_and_flatten(arr: NDArray[Any]) -> NDArray[Any]:
        """[steps, copies, ...] to [copies x steps, ...], images with their channels last."""
        if arr.ndim == 5:
            arr = np.moveaxis(arr, 2, -1)
        return RolloutBuffer.swap_and_flatten(arr)

    def _get_samples(self, batch_inds: NDArray[Any], env: Any = None) -> RolloutBufferSamples:
        drawn = super()._get_samples(batch_inds, env)
        return drawn._replace(observations=torch.movedim(drawn.observations, -1, 1))
