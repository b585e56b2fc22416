"""PPO's rollout: stable-baselines3's numbers, without its copies on the way."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlplastic.agents.policies import LeanPolicy

Array = NDArray[Any]
FIELDS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


class Rollout(RolloutBuffer):
    """Stored copy by copy, so that it is flat without being copied.

    Args:
        *args: As for `stable_baselines3.common.buffers.RolloutBuffer`.
        channels_last: Memory layout of images, in which the networks compute.
        **kwargs: As for the same.
    """

    def __init__(self, *args: Any, channels_last: bool = False, **kwargs: Any) -> None:
        self.channels_last = channels_last
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """See `RolloutBuffer.reset`."""
        observations, actions = self.observation_space.dtype, self.action_space.dtype
        self.observations = self._empty(observations, *self.obs_shape)
        self.actions = self._empty(actions, self.action_dim)
        scalars = ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages")
        for name in scalars:
            setattr(self, name, self._empty(np.float32))
        self.generator_ready = False
        self.pos, self.full = 0, False
        self._shown: object = None

    def _empty(self, dtype: Any, *shape: int) -> Array:
        """Zeros [steps, copies, ...] that lie in memory as [copies, steps, ...]."""
        if len(shape) == 3 and self.channels_last:
            channels, height, width = shape
            made = np.zeros((self.n_envs, self.buffer_size, height, width, channels), dtype=dtype)
            return np.moveaxis(made, -1, 2).swapaxes(0, 1)
        return np.zeros((self.n_envs, self.buffer_size, *shape), dtype=dtype).swapaxes(0, 1)

    def show(self, obs: Array) -> Tensor:
        """Keep the observations of the step that comes; what the networks are to see of them."""
        self.observations[self.pos] = obs.reshape(self.observations.shape[1:])
        self._shown = obs
        if self.channels_last and obs.ndim == 4:
            return torch.from_numpy(self.observations[self.pos]).to(self.device)
        return torch.as_tensor(obs, device=self.device)

    def add(
        self,
        obs: Array,
        action: Array,
        reward: Array,
        episode_start: Array,
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """See `RolloutBuffer.add`; observations that were shown last are here already."""
        pos = self.pos
        if obs is not self._shown:
            self.observations[pos] = obs.reshape(self.observations.shape[1:])
        self._shown = None
        self.actions[pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[pos] = reward
        self.episode_starts[pos] = episode_start
        self.values[pos] = value.cpu().numpy().reshape(-1)
        self.log_probs[pos] = log_prob.cpu().numpy().reshape(-1)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: Array) -> None:
        """See `RolloutBuffer.compute_returns_and_advantage`."""
        last = last_values.cpu().numpy().reshape(1, -1)
        ended = np.concatenate([self.episode_starts[1:], dones.astype(np.float32)[None]])
        going_on = 1.0 - ended
        following = np.concatenate([self.values[1:], last])
        deltas = self.rewards + self.gamma * following * going_on - self.values
        decays = self.gamma * self.gae_lambda * going_on
        advantage: Any = 0
        for step in reversed(range(self.buffer_size)):
            advantage = deltas[step] + decays[step] * advantage
            self.advantages[step] = advantage
        self.returns = self.advantages + self.values

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """See `RolloutBuffer.get`; scalars are gathered once an epoch, not once a minibatch."""
        assert self.full
        size = self.buffer_size * self.n_envs
        order = np.random.permutation(size)  # noqa: NPY002 - stable-baselines3's draw
        if not self.generator_ready:
            for name in FIELDS:
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
        numbers = np.stack([getattr(self, name)[:, 0] for name in FIELDS[2:]])
        scalars = torch.from_numpy(numbers.take(order, axis=1)).to(self.device)
        actions = torch.from_numpy(self.actions[order].astype(np.float32, copy=False))
        actions = actions.to(self.device)
        step = batch_size or size
        for start in range(0, size, step):
            rows = slice(start, start + step)
            yield RolloutBufferSamples(
                self._observations(order[rows]), actions[rows], *scalars[:, rows]
            )

    def _get_samples(self, batch_inds: Array, env: Any = None) -> RolloutBufferSamples:
        actions = self.actions[batch_inds].astype(np.float32, copy=False)
        scalars = [getattr(self, name)[batch_inds].flatten() for name in FIELDS[2:]]
        return RolloutBufferSamples(
            self._observations(batch_inds), *map(self.to_torch, (actions, *scalars))
        )

    def _observations(self, rows: Array) -> Tensor:
        """Some of the flattened rollout, gathered row by row as it lies in memory."""
        stored = torch.from_numpy(self.observations)
        images = self.channels_last and stored.ndim == 4
        if images:
            stored = stored.movedim(1, -1)
        drawn = stored.flatten(1).index_select(0, torch.from_numpy(rows))
        drawn = drawn.view(len(rows), *stored.shape[1:]).to(self.device)
        return drawn.movedim(-1, 1) if images else drawn


class Collector(stable_baselines3.PPO):
    """stable-baselines3's PPO with its way to a rollout made shorter."""

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As stable-baselines3's, with the same draws, without its conversions on the way."""
        if self.use_sde or not isinstance(rollout_buffer, Rollout):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        policy: Any = self.policy
        held = policy.held() if isinstance(policy, LeanPolicy) else nullcontext()
        with held:
            for _ in range(n_rollout_steps):
                obs: Any = self._last_obs
                starts: Any = self._last_episode_starts
                with torch.inference_mode():
                    actions, values, log_probs = self.policy(rollout_buffer.show(obs))
                actions = actions.cpu().numpy()
                new_obs, rewards, dones, infos = env.step(self._performed(actions))
                self.num_timesteps += env.num_envs
                callback.update_locals(locals())
                if not callback.on_step():
                    return False
                self._update_info_buffer(infos, dones)
                if dones.any():
                    self._bootstrap(rewards, dones, infos)
                rollout_buffer.add(obs, actions, rewards, starts, values, log_probs)
                self._last_obs = new_obs  # type: ignore[assignment]
                self._last_episode_starts = dones
        with torch.inference_mode():
            values = self.policy.predict_values(obs_as_tensor(self._last_obs, self.device))  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _performed(self, actions: Array) -> Array:
        """Actions as the environment takes them: of a Gaussian, brought into the space."""
        space = self.action_space
        if not isinstance(space, spaces.Box):
            return actions
        if self.policy.squash_output:
            return self.policy.unscale_action(actions)
        return np.clip(actions, space.low, space.high)

    def _bootstrap(self, rewards: Array, dones: Array, infos: list[dict[str, Any]]) -> None:
        """Add to the rewards what episodes that were cut were still worth."""
        for copy in np.flatnonzero(dones):
            final = infos[copy].get("terminal_observation")
            if final is not None and infos[copy].get("TimeLimit.truncated", False):
                shown = self.policy.obs_to_tensor(final)[0]
                with torch.no_grad():
                    rewards[copy] += self.gamma * self.policy.predict_values(shown)[0]
