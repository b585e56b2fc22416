"""The hyper-parameters of the supervised agents, and newborns made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from stable_baselines3.common.vec_env import VecEnv

from rlplastic.agents.networks import ACTIVATIONS, Activation
from rlplastic.agents.supervised import NO_CLIPPING, SupervisedLearner
from rlplastic.agents.team import Team
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.registry import agent

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """What the configurations of all supervised agents have in common.

    Attributes:
        num_envs: Examples of a minibatch: each copy shows one.
        optimizer: ``sgd`` or ``adam``.
        learning_rate: Its step size, constant.
        momentum: Of SGD.
        adam_eps: Of Adam.
        hidden: Widths of the hidden layers; of the CNN, those after the convolutions.
        activation: Of the hidden layers.
        dropout: Probability that a unit of `hidden` is masked in an update; answers are unmasked.
        max_grad_norm: The gradient is clipped to this norm; the default leaves it alone.
        fused: Fused optimizer: faster, the same numbers to rounding.
    """

    learns: ClassVar[bool] = True

    num_envs: Annotated[int, Ge(1)] = 16
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Gt(0)] = 0.01
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    adam_eps: Annotated[float, Gt(0)] = 1e-8
    hidden: Sequence[Annotated[int, Ge(1)]] = (100, 100)
    activation: Activation = "relu"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    max_grad_norm: Annotated[float, Gt(0)] = NO_CLIPPING
    fused: bool = True

    @property
    def rollout(self) -> int:
        """Examples between two updates: phases are whole multiples of it."""
        return self.num_envs

    @property
    def stacks(self) -> bool:
        """Whether agents of several seeds are faster together, the arm's interventions allowing."""
        return False

    def team(self) -> Team:
        """What takes the turns of several agents, and of one."""
        return Team()

    def network(self) -> dict[str, Any]:
        """The arguments of `Predictor`."""
        settings: dict[str, Any] = {"fused": self.fused}
        if self.optimizer == "sgd":
            settings["momentum"] = self.momentum
        else:
            settings["eps"] = self.adam_eps
        return {
            "net_arch": list(self.hidden),
            "activation_fn": ACTIVATIONS[self.activation],
            "dropout": self.dropout,
            "optimizer_class": OPTIMIZERS[self.optimizer],
            "optimizer_kwargs": settings,
        }

    def build(
        self, env: VecEnv, *, seed: int, interventions: Interventions, device: str, horizon: int
    ) -> SupervisedLearner:
        """A newborn learner."""
        return SupervisedLearner(
            env,
            learning_rate=self.learning_rate,
            policy_kwargs=self.network(),
            max_grad_norm=self.max_grad_norm,
            interventions=interventions,
            seed=seed,
            device=device,
        )


@agent("mlp")
@dataclass(frozen=True, kw_only=True)
class MLPConfig(SupervisedConfig):
    """A fully connected network that learns from right answers, one pass over a stream."""

    @property
    def stacks(self) -> bool:
        """Plain gradient descent on linear layers: see `rlplastic.agents.team`."""
        return self.optimizer == "sgd" and not (self.momentum or self.dropout) and self.fused


@agent("cnn")
@dataclass(frozen=True, kw_only=True)
class CNNConfig(SupervisedConfig):
    """A small convolutional network that learns from right answers, one pass over a stream.

    Attributes:
        channels: Of the convolutions, 3 x 3 with stride 2 each.
    """

    channels: Sequence[Annotated[int, Ge(1)]] = (16, 32)
    hidden: Sequence[Annotated[int, Ge(1)]] = (100,)

    def network(self) -> dict[str, Any]:
        """The arguments of `Predictor`."""
        return {**super().network(), "channels": list(self.channels)}

    def build(
        self, env: VecEnv, *, seed: int, interventions: Interventions, device: str, horizon: int
    ) -> SupervisedLearner:
        """A newborn learner, if the stream shows images."""
        if len(env.observation_space.shape or ()) != 3:
            raise UsageError(
                f"agent 'cnn': needs images; this stream shows {env.observation_space}. "
                "Agent 'mlp' takes it"
            )
        return super().build(
            env, seed=seed, interventions=interventions, device=device, horizon=horizon
        )
