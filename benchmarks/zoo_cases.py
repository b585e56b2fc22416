"""rl-baselines3-zoo's tuned settings and reported returns, as `rlplastic.benchmarks.zoo` runs them.

From ``hyperparams/dqn.yml``, ``hyperparams/ppo.yml`` and ``benchmark.md`` at commit 22e3ff2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Linear(NamedTuple):
    """A schedule that falls from a value to zero over the training."""

    start: float

    def __call__(self, remaining: float) -> float:
        """The value where this share of the training remains."""
        return self.start * remaining


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the zoo.

    Attributes:
        agent: ``dqn`` or ``ppo``.
        env: Gymnasium's id.
        steps: Of training.
        reported: Mean return of the zoo's agent.
        spread: Its standard deviation over episodes.
        settings: Of stable-baselines3's class.
        copies: Of the environment.
        normalize: A running normaliser of observations and rewards.
    """

    agent: str
    env: str
    steps: int
    reported: float
    spread: float
    settings: dict[str, Any] = field(default_factory=dict)
    copies: int = 1
    normalize: bool = False

    @property
    def name(self) -> str:
        """As ``dqn-CartPole-v1``."""
        return f"{self.agent}-{self.env}"


DQN_ACROBOT: dict[str, Any] = {
    "learning_rate": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 4,
    "gradient_steps": -1,
    "exploration_fraction": 0.12,
    "exploration_final_eps": 0.1,
}
DQN_CARTPOLE: dict[str, Any] = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
}
DQN_MOUNTAINCAR: dict[str, Any] = {
    "learning_rate": 4e-3,
    "batch_size": 128,
    "buffer_size": 10_000,
    "learning_starts": 1_000,
    "gamma": 0.98,
    "target_update_interval": 600,
    "train_freq": 16,
    "gradient_steps": 8,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.07,
}
PPO_CARTPOLE: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "ent_coef": 0.0,
    "learning_rate": Linear(1e-3),
    "clip_range": Linear(0.2),
}
PPO_ACROBOT: dict[str, Any] = {
    "n_steps": 256,
    "gae_lambda": 0.94,
    "gamma": 0.99,
    "n_epochs": 4,
    "ent_coef": 0.0,
}
PPO_MOUNTAINCAR: dict[str, Any] = {
    "n_steps": 16,
    "gae_lambda": 0.98,
    "gamma": 0.99,
    "n_epochs": 4,
    "ent_coef": 0.0,
}


def _dqn(env: str, steps: int, reported: float, spread: float, settings: dict[str, Any]) -> Case:
    return Case(
        agent="dqn",
        env=env,
        steps=steps,
        reported=reported,
        spread=spread,
        settings={**settings, "policy_kwargs": {"net_arch": [256, 256]}},
    )


def _ppo(env: str, steps: int, reported: float, spread: float, **more: Any) -> Case:
    return Case(agent="ppo", env=env, steps=steps, reported=reported, spread=spread, **more)


CASES = {
    case.name: case
    for case in (
        _dqn("CartPole-v1", 50_000, 500.0, 0.0, DQN_CARTPOLE),
        _dqn("Acrobot-v1", 100_000, -76.639, 11.752, DQN_ACROBOT),
        _dqn("MountainCar-v0", 120_000, -100.849, 9.925, DQN_MOUNTAINCAR),
        _ppo("CartPole-v1", 100_000, 500.0, 0.0, settings=PPO_CARTPOLE, copies=8),
        _ppo(
            "Acrobot-v1",
            1_000_000,
            -73.506,
            18.201,
            settings=PPO_ACROBOT,
            copies=16,
            normalize=True,
        ),
        _ppo(
            "MountainCar-v0",
            1_000_000,
            -110.423,
            19.473,
            settings=PPO_MOUNTAINCAR,
            copies=16,
            normalize=True,
        ),
    )
}
