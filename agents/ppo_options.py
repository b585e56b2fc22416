"""The hyper-parameters of a PPO, and a newborn made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from stable_baselines3.common.vec_env import VecEnv

from rlplastic.agents.critics import Critic
from rlplastic.agents.features import features_for
from rlplastic.agents.networks import ACTIVATIONS, Activation, policy_name
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.registry import agent


@agent("ppo")
@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO (arXiv 1707.06347) with constant step size, clipping and entropy bonus.

    Attributes:
        num_envs: Copies of the environment.
        n_steps: Steps of each copy in a rollout.
        learning_rate: Adam's step size, constant.
        batch_size: Transitions of a minibatch.
        n_epochs: Passes over a rollout.
        gamma: Discount.
        gae_lambda: Trade-off of generalised advantage estimation (arXiv 1506.02438).
        clip_range: Of the probability ratio.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        max_grad_norm: The gradient is clipped to this norm.
        hidden: Widths of the hidden layers, of actor and critic each; empty for NatureCNN alone.
        activation: Of the hidden layers.
        shared_extractor: One NatureCNN for actor and critic, or one each.
        adam_eps: Adam's epsilon.
        fused: Fused Adam: faster, the same numbers to rounding.
        channels_last: Memory layout of convolutions: faster, the same numbers to rounding.
        critic: The critic's loss; see `rlplastic.agents.critics.Critic`.
        bins: Of a critic that says distributions.
        low: Smallest target that they can hold.
        high: Largest target that they can hold.
    """

    learns: ClassVar[bool] = True
    later: ClassVar[tuple[str, ...]] = ("critic", "bins", "low", "high")

    num_envs: Annotated[int, Ge(1)] = 8
    n_steps: Annotated[int, Ge(1)] = 128
    learning_rate: Annotated[float, Gt(0)] = 3e-4
    batch_size: Annotated[int, Ge(2)] = 64
    n_epochs: Annotated[int, Ge(1)] = 10
    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    gae_lambda: Annotated[float, Ge(0), Le(1)] = 0.95
    clip_range: Annotated[float, Gt(0)] = 0.2
    ent_coef: Annotated[float, Ge(0)] = 0.0
    vf_coef: Annotated[float, Ge(0)] = 0.5
    max_grad_norm: Annotated[float, Gt(0)] = 0.5
    hidden: Sequence[Annotated[int, Ge(1)]] = (64, 64)
    activation: Activation = "tanh"
    shared_extractor: bool = True
    adam_eps: Annotated[float, Gt(0)] = 1e-5
    fused: bool = True
    channels_last: bool = True
    critic: Literal["mse", "huber", "twohot", "hlgauss"] = "mse"
    bins: Annotated[int, Ge(2)] = 51
    low: float = -10.0
    high: float = 10.0

    def __post_init__(self) -> None:
        """A rollout must be a whole number of minibatches."""
        if self.rollout % self.batch_size:
            raise UsageError(
                f"agent 'ppo': batch_size = {self.batch_size} does not divide a rollout of "
                f"num_envs x n_steps = {self.num_envs} x {self.n_steps} = {self.rollout} steps"
            )

    @property
    def rollout(self) -> int:
        """Environment steps between two trainings: phases are whole multiples of it."""
        return self.num_envs * self.n_steps

    def arguments(self, env: VecEnv, horizon: int) -> dict[str, Any]:
        """What stable-baselines3's own PPO would be given for a life of any length."""
        return {
            "policy": policy_name(env.observation_space),
            "env": env,
            "learning_rate": self.learning_rate,
            "n_steps": self.n_steps,
            "batch_size": self.batch_size,
            "n_epochs": self.n_epochs,
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "clip_range": self.clip_range,
            "ent_coef": self.ent_coef,
            "vf_coef": self.vf_coef,
            "max_grad_norm": self.max_grad_norm,
            "policy_kwargs": {
                "net_arch": {"pi": list(self.hidden), "vf": list(self.hidden)},
                "activation_fn": ACTIVATIONS[self.activation],
                "share_features_extractor": self.shared_extractor,
                "optimizer_kwargs": {"fused": self.fused, "eps": self.adam_eps},
                **features_for(env.observation_space),
            },
        }

    def build(
        self, env: VecEnv, *, seed: int, interventions: Interventions, device: str, horizon: int
    ) -> PPO:
        """A newborn agent for a life of `horizon` steps."""
        return PPO(
            **self.arguments(env, horizon),
            seed=seed,
            device=device,
            interventions=interventions,
            channels_last=self.channels_last,
            critic=vars(Critic(kind=self.critic, bins=self.bins, low=self.low, high=self.high)),
        )
