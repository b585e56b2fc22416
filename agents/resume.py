"""The complete state of a stable-baselines3 agent at a rollout's start, and putting it back.

stable-baselines3's own ``save`` and ``load`` keep neither the generators nor the counters that
decide when the next update or target copy comes, so an agent that it loads is another run. Between
two rollouts this is all there is; what `learn` sets up by itself (the last observation, the rollout
buffer) is what the stream's reset at the start of a phase gives again.

A state must be put back at a rollout's start, not before `learn`: its set-up would change it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from rlplastic.interventions import Interventions

COUNTERS = (
    "num_timesteps",
    "num_updates",
    "exploration_rate",
    "_n_calls",
    "_n_updates",
    "_episode_num",
    "_transitions",
)


class Resumable(Protocol):
    """What `snapshot` and `restore` need of an agent."""

    interventions: Interventions
    policy: Any
    last_batch: Any  # a named tuple of tensors, or None
    batch_type: Any  # its class
    action_space: Any
    device: Any
    ep_info_buffer: Any
    ep_success_buffer: Any
    _last_obs: Any

    def get_vec_normalize_env(self) -> Any:
        """The environment's normaliser, if it has one."""


def snapshot(agent: Resumable) -> dict[str, Any]:
    """Everything but the replay memory, as a tree for `rlplastic.snapshot.pack`."""
    batch = agent.last_batch
    return {
        "counters": {name: getattr(agent, name) for name in COUNTERS if hasattr(agent, name)},
        "policy": dict(agent.policy.state_dict()),
        "optimizer": agent.policy.optimizer.state_dict(),
        "interventions": agent.interventions.state_dict(),
        "batch": None if batch is None else batch._asdict(),
        "episodes": agent.ep_info_buffer,
        "successes": agent.ep_success_buffer,
        "generators": generators(agent),
    }


def restore(agent: Resumable, state: Mapping[str, Any]) -> None:
    """Put a snapshot into a newly built agent of the same configuration."""
    agent.policy.load_state_dict(state["policy"])
    agent.policy.optimizer.load_state_dict(state["optimizer"])
    agent.interventions.load_state_dict(state["interventions"])
    for name, value in state["counters"].items():
        setattr(agent, name, value)
    batch = state["batch"]
    if batch is not None:
        moved = {k: v if v is None else v.to(agent.device) for k, v in batch.items()}
        agent.last_batch = agent.batch_type(**moved)
    agent.ep_info_buffer = state["episodes"]
    agent.ep_success_buffer = state["successes"]
    normaliser = agent.get_vec_normalize_env()
    if (
        normaliser is not None
    ):  # the phase's first observation was shown with a newborn's statistics
        agent._last_obs = normaliser.normalize_obs(normaliser.get_original_obs())
    set_generators(agent, state["generators"])


def generators(agent: Resumable) -> dict[str, Any]:
    """The global generators, which stable-baselines3 draws from, and the action space's."""
    cuda = torch.device(agent.device).type == "cuda"
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
        "actions": agent.action_space.np_random.bit_generator.state,
    }


def set_generators(agent: Resumable, states: Mapping[str, Any]) -> None:
    """Put back what `generators` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    agent.action_space.np_random.bit_generator.state = states["actions"]
