"""How a DQN acts and remembers: stable-baselines3's loop without what stands around its work.

Which actions are taken, the random draws and their order, what is stored, and what callbacks are
told are stable-baselines3's. Left out are copies of what the memory copies anyway, conversions of
observations on the way to the network, and looks into what is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq
from stable_baselines3.common.utils import obs_as_tensor, should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlplastic.agents.direct import chain_of, outputs, shown
from rlplastic.agents.replay import Array


class Acting(stable_baselines3.DQN):
    """stable-baselines3's DQN, whose collection of transitions costs less."""

    _transitions: int = 0  # since the replay memory was last emptied

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """As stable-baselines3's; the local names are its own, since callbacks are shown them."""
        set_mode(self.policy, training=False)
        num_collected_steps, num_collected_episodes = 0, 0
        callback.on_rollout_start()
        continue_training = True
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions, buffer_actions = self._sample_action(
                learning_starts, action_noise, env.num_envs
            )
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1
            callback.update_locals(locals())
            if not callback.on_step():
                continue_training = False
                break
            if any(infos):
                self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for _ in range(dones.tolist().count(True)):
                num_collected_episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        if continue_training:
            callback.on_rollout_end()
        steps = num_collected_steps * env.num_envs
        return RolloutReturn(steps, num_collected_episodes, continue_training)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """As stable-baselines3's, with the same draws."""
        if self.num_timesteps < learning_starts:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        if np.random.rand() < self.exploration_rate:  # noqa: NPY002 - stable-baselines3's draw
            actions = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:  # `collect_rollouts` has set the evaluation mode
            assert self._last_obs is not None
            with torch.inference_mode():
                values = values_of(self.q_net, obs_as_tensor(self._last_obs, self.device))
            # of equals the first, as of torch's
            actions = values.numpy(force=True).argmax(axis=1)
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: Array,
        new_obs: Any,
        reward: Array,
        dones: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """As stable-baselines3's, whose copies of observations the memory makes anyway."""
        self._transitions += self.n_envs
        if self._vec_normalize_env is not None or isinstance(new_obs, dict):
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        shown = new_obs
        if True in dones.tolist():
            shown = new_obs.copy()
            for copy in np.flatnonzero(dones):
                final = infos[copy].get("terminal_observation")
                if final is not None:
                    shown[copy] = final
        replay_buffer.add(self._last_obs, shown, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
        self._last_original_obs = self._last_obs
        self._last_obs = new_obs


def set_mode(policy: Any, *, training: bool) -> None:
    """As stable-baselines3's ``set_training_mode``, without torch's checks of what is assigned.

    They take as long as a pass of a small network, twice an update.
    """
    policy.__dict__["training"] = training
    _switch(policy.q_net, training)


def _switch(module: nn.Module, training: bool) -> None:
    if type(module).train is not nn.Module.train:
        module.train(training)  # its own
        return
    module.__dict__["training"] = training
    for child in module._modules.values():
        if child is not None:
            _switch(child, training)


def values_of(network: nn.Module, observations: Any) -> Tensor:
    """The values ``[batch, actions]``, where no gradient is asked for."""
    chain = chain_of(network)
    values: Tensor = (
        network(observations) if chain is None else outputs(chain, shown(observations))[-1]
    )
    return values
