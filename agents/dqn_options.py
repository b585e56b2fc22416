"""The hyper-parameters of a DQN, and a newborn made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from stable_baselines3.common.vec_env import VecEnv

from rlplastic.agents.critics import Critic
from rlplastic.agents.dqn import DQN
from rlplastic.agents.features import features_for
from rlplastic.agents.networks import ACTIVATIONS, Activation, policy_name
from rlplastic.agents.replay import FrameReplay, replay_class
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.registry import agent


@agent("dqn")
@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """DQN (Mnih et al., Nature 2015) with constant exploration.

    Attributes:
        num_envs: Copies of the environment.
        learning_rate: Adam's step size, constant.
        buffer_size: Transitions in the replay memory.
        learning_starts: Transitions to wait for, at birth and whenever the memory is emptied;
            the first actions of a life are uniformly random for as long.
        batch_size: Transitions of a minibatch.
        gamma: Discount.
        n_steps: Rewards that a return sums before it bootstraps; fewer where an episode or a phase
            ends (arXiv 1602.01783, Sec. 4; uncorrected for exploration, as in Rainbow, 1710.02298).
        train_freq: Steps of each copy between trainings.
        gradient_steps: Updates in a training.
        target_update_interval: Environment steps between copies to the target network.
        epsilon: Share of uniformly random actions, constant over the life.
        max_grad_norm: The gradient is clipped to this norm.
        hidden: Widths of the hidden layers after the features; empty for NatureCNN alone.
        activation: Of the hidden layers.
        adam_eps: Adam's epsilon.
        fused: Fused Adam: faster, the same numbers to rounding.
        channels_last: Memory layout of convolutions: faster, the same numbers to rounding.
        double: The online network chooses the next action, the target network values it
            (double Q-learning, arXiv 1509.06461, Eq. 4).
        duelling: Value and advantages in streams with a hidden layer each (arXiv 1511.06581).
        critic: The critic's loss; see `rlplastic.agents.critics.Critic`.
        bins: Of a critic that says distributions.
        low: Smallest target that they can hold.
        high: Largest target that they can hold.
    """

    learns: ClassVar[bool] = True
    later: ClassVar[tuple[str, ...]] = ("double", "duelling", "critic", "bins", "low", "high")

    num_envs: Annotated[int, Ge(1)] = 1
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    buffer_size: Annotated[int, Ge(1)] = 100_000
    learning_starts: Annotated[int, Ge(0)] = 100
    batch_size: Annotated[int, Ge(1)] = 32
    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    n_steps: Annotated[int, Ge(1)] = 1
    train_freq: Annotated[int, Ge(1)] = 4
    gradient_steps: Annotated[int, Ge(1)] = 1
    target_update_interval: Annotated[int, Ge(1)] = 1_000
    epsilon: Annotated[float, Ge(0), Le(1)] = 0.05
    max_grad_norm: Annotated[float, Gt(0)] = 10.0
    hidden: Sequence[Annotated[int, Ge(1)]] = (64, 64)
    activation: Activation = "relu"
    adam_eps: Annotated[float, Gt(0)] = 1e-8
    fused: bool = True
    channels_last: bool = True
    double: bool = False
    duelling: bool = False
    critic: Literal["huber", "mse", "twohot", "hlgauss", "c51"] = "huber"
    bins: Annotated[int, Ge(2)] = 51
    low: float = -10.0
    high: float = 10.0

    def __post_init__(self) -> None:
        """A minibatch must fit into the replay memory."""
        if self.batch_size > self.buffer_size:
            raise UsageError(
                f"agent 'dqn': batch_size = {self.batch_size} is more than buffer_size = "
                f"{self.buffer_size}; nearest valid: batch_size={self.buffer_size}"
            )

    @property
    def rollout(self) -> int:
        """Environment steps between two trainings: phases are whole multiples of it."""
        return self.num_envs * self.train_freq

    def arguments(self, env: VecEnv, horizon: int) -> dict[str, Any]:
        """What stable-baselines3's own DQN would be given for a life of `horizon` steps."""
        return {
            "policy": policy_name(env.observation_space),
            "env": env,
            "learning_rate": self.learning_rate,
            # nothing is gained by room for more transitions than a life has
            "buffer_size": min(self.buffer_size, horizon),
            "learning_starts": self.learning_starts,
            "batch_size": self.batch_size,
            "gamma": self.gamma,
            "n_steps": self.n_steps,
            "train_freq": self.train_freq,
            "gradient_steps": self.gradient_steps,
            "target_update_interval": self.target_update_interval,
            "exploration_initial_eps": self.epsilon,
            "exploration_final_eps": self.epsilon,
            "max_grad_norm": self.max_grad_norm,
            "policy_kwargs": {
                "net_arch": list(self.hidden),
                "activation_fn": ACTIVATIONS[self.activation],
                "optimizer_kwargs": {"fused": self.fused, "eps": self.adam_eps},
                **features_for(env.observation_space),
            },
        }

    def build(
        self, env: VecEnv, *, seed: int, interventions: Interventions, device: str, horizon: int
    ) -> DQN:
        """A newborn agent for a life of `horizon` steps."""
        memory = replay_class(env.observation_space, self.n_steps)
        settings: dict[str, Any] = {}
        if self.n_steps > 1:
            settings |= {"n_steps": self.n_steps, "gamma": self.gamma}
        if issubclass(memory, FrameReplay):
            settings |= {"channels_last": self.channels_last}
        arguments = self.arguments(env, horizon)
        del arguments["n_steps"]  # said to the memory instead: one of one's own is asked for that
        return DQN(
            **arguments,
            replay_buffer_class=memory,
            replay_buffer_kwargs=settings,
            seed=seed,
            device=device,
            interventions=interventions,
            channels_last=self.channels_last,
            critic=vars(Critic(kind=self.critic, bins=self.bins, low=self.low, high=self.high)),
            double=self.double,
            duelling=self.duelling,
        )
