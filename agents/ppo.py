"""PPO: stable-baselines3's, with its update handed to the interventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from annotated_types import Ge, Gt, Le
from gymnasium import spaces
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlplastic.agents.critics import Critic, cross_entropy, logits_of
from rlplastic.agents.features import features_for
from rlplastic.agents.learner import Minibatch, has_dropout, update, wrapped
from rlplastic.agents.networks import (
    ACTIVATIONS,
    Activation,
    Layer,
    auxiliary,
    default_optimizer,
    hidden_layers,
    leaves,
    new_policy,
    policy_name,
    scope_of,
    set_channels_last,
)
from rlplastic.agents.resume import restore, snapshot
from rlplastic.agents.rollout import ChannelsLastRollout
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.registry import agent


class PPO(stable_baselines3.PPO):
    """Proximal policy optimisation (arXiv 1707.06347) as in stable-baselines3.

    The loss goes to the interventions as three named terms: ``actor`` (the clipped surrogate),
    ``entropy`` and ``critic``, the last two with their coefficients. SAM perturbs the critic's.

    Args:
        *args: As for `stable_baselines3.PPO`.
        interventions: What is done to keep it plastic.
        channels_last: Memory layout of convolutions; faster on CPUs, the same numbers to rounding.
        critic: The fields of `rlplastic.agents.critics.Critic`.
        **kwargs: As for `stable_baselines3.PPO`.
    """

    batch_type = RolloutBufferSamples

    def __init__(
        self,
        *args: Any,
        interventions: Interventions | None = None,
        channels_last: bool = False,
        critic: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.interventions = interventions or Interventions()
        self.critic = Critic(**self.interventions.critic(critic or {"kind": "mse"}))
        self.channels_last = channels_last
        self.num_updates = 0
        self.last_batch: RolloutBufferSamples | None = None
        self.last_terms: dict[str, Tensor] = {}
        kwargs["policy_kwargs"] = self.interventions.build(dict(kwargs.get("policy_kwargs") or {}))
        super().__init__(*wrapped(self.interventions, args, kwargs), **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.critic.binned and self.clip_range_vf is not None:
            raise UsageError(f"critic {self.critic.kind!r}: clip_range_vf clips values, not bins")
        self.critic.install(self.policy)
        self.interventions.rebuild(self.policy)
        self.policy.to(self.device)
        if self.channels_last:
            set_channels_last(self.policy)
        self.policy.optimizer = self.interventions.optimizer(
            lambda: default_optimizer(self, self.policy.parameters()), self.policy.parameters()
        )
        self.interventions.begin(self)
        self.initial = {p: p.detach().clone() for p in self.scope("all")}

    def train(self) -> None:
        """`n_epochs` passes over the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self.interventions.new_objective(self)
        log: dict[str, list[float]] = {}
        kept_on = True
        for _ in range(self.interventions.repeats(self, self.n_epochs)):
            kls: list[float] = []
            for batch in self.rollout_buffer.get(self.batch_size):
                self.last_batch = batch
                losses, statistics = self.losses_of(batch)
                losses.peek()
                for name, value in statistics.items():
                    log.setdefault(name, []).append(value.item())
                kls.append(statistics["approx_kl"].item())
                if self.target_kl is not None and kls[-1] > 1.5 * self.target_kl:
                    kept_on = False
                    break
                update(self, losses)
            self._n_updates += 1
            if not kept_on:
                break
        self._write_log(log, kls)

    def losses(self, batch: RolloutBufferSamples) -> Minibatch:
        """The named loss terms of a minibatch."""
        return self.losses_of(batch)[0]

    def losses_of(self, batch: RolloutBufferSamples) -> tuple[Minibatch, dict[str, Tensor]]:
        """The named loss terms of a minibatch, and a place where statistics appear with them."""
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        advantages = batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        statistics: dict[str, Tensor] = {}

        def terms(names: tuple[str, ...]) -> dict[str, Tensor]:
            if names == ("critic",) and not has_dropout(self.policy):
                values = self.policy.predict_values(batch.observations)
                return {"critic": self.vf_coef * self._value_loss(values, batch)}
            values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, actions)
            log_ratio = log_prob - batch.old_log_prob
            ratio = torch.exp(log_ratio)
            clipped = advantages * torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
            actor = -torch.min(advantages * ratio, clipped).mean()
            # without an analytical form the log-likelihood stands for the entropy
            entropy_loss = -torch.mean(-log_prob if entropy is None else entropy)
            critic = self._value_loss(values, batch)
            found = {
                "actor": actor,
                "entropy": self.ent_coef * entropy_loss,
                "critic": self.vf_coef * critic,
            }
            with torch.no_grad():
                statistics.update(
                    policy_gradient_loss=actor,
                    entropy_loss=entropy_loss,
                    value_loss=critic,
                    approx_kl=torch.mean((torch.exp(log_ratio) - 1) - log_ratio),
                    clip_fraction=torch.mean((torch.abs(ratio - 1) > clip_range).float()),
                    loss=found["actor"] + found["entropy"] + found["critic"],
                )
            return {name: found[name] for name in names or found}

        return Minibatch(self.policy, terms), statistics

    def _value_loss(self, values: Tensor, batch: RolloutBufferSamples) -> Tensor:
        weights = self.interventions.weights(self, batch)
        if self.critic.binned:
            wanted = self.critic.probabilities(batch.returns)
            return cross_entropy(logits_of(self.policy.value_net)[:, 0], wanted, weights)
        values = values.flatten()
        if self.clip_range_vf is not None:
            limit = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
            values = batch.old_values + torch.clamp(values - batch.old_values, -limit, limit)
        return self.critic.loss(batch.returns, values, weights)

    def values(self, observations: Tensor) -> Tensor:
        """The critic's output: ``[batch, 1]``."""
        return self.policy.predict_values(observations)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "initial"]

    def scope(self, name: str) -> list[nn.Parameter]:
        """The parameters of a scope; see `rlplastic.agents.networks.scope_of`."""
        paths = [*self._path("vf"), *auxiliary(self.policy)]
        return scope_of(
            name,
            critic=[p for module in paths for p in module.parameters()],
            head=self.policy.value_net.parameters(),
            actor=[
                *(p for module in self._path("pi") for p in module.parameters()),
                *([self.policy.log_std] if hasattr(self.policy, "log_std") else []),
            ],
        )

    def _path(self, prefix: Literal["vf", "pi"]) -> list[nn.Module]:
        policy = self.policy
        shared = policy.share_features_extractor
        net = policy.mlp_extractor
        return [
            policy.features_extractor
            if shared
            else getattr(policy, f"{prefix}_features_extractor"),
            net.value_net if prefix == "vf" else net.policy_net,
            policy.value_net if prefix == "vf" else policy.action_net,
        ]

    def layers(self, name: str) -> list[Layer]:
        """The hidden layers of a scope: critic, actor, or all; a shared one belongs to both."""
        paths = {"critic": leaves(*self._path("vf")), "actor": leaves(*self._path("pi"))}
        wanted = set(paths.get(name, [*paths["critic"], *paths["actor"]]))
        return [layer for layer in hidden_layers([*paths.values()]) if layer.weights in wanted]

    def targets(self) -> dict[nn.Parameter, nn.Parameter]:
        """PPO has no target network."""
        return {}

    def newborn(self, generator: torch.Generator) -> nn.Module:
        """A newly initialised policy of the same architecture; draws from `generator` alone."""
        return new_policy(self, generator, use_sde=self.use_sde)

    def reference(self, size: int, generator: torch.Generator) -> Tensor:
        """Observations from the rollout; draws from `generator` alone."""
        steps = self.rollout_buffer.buffer_size * self.n_envs
        drawn = torch.randint(steps, (size,), generator=generator).numpy()
        return self.rollout_buffer._get_samples(drawn).observations

    def snapshot(self) -> dict[str, Any]:
        """Its complete state at a rollout's start."""
        return snapshot(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` returned, at a rollout's start."""
        restore(self, state)

    def at_shift(self, phase: int, replay: Literal["clear", "keep"]) -> None:
        """The world has shifted: tell oracles. There is no replay memory."""
        self.interventions.at_shift(self, phase)

    def _write_log(self, log: dict[str, list[float]], kls: list[float]) -> None:
        buffer = self.rollout_buffer
        for name in ("entropy_loss", "policy_gradient_loss", "value_loss"):
            self.logger.record(f"train/{name}", np.mean(log[name]))
        self.logger.record("train/approx_kl", np.mean(kls))
        self.logger.record("train/clip_fraction", np.mean(log["clip_fraction"]))
        self.logger.record("train/loss", log["loss"][-1])
        variance = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/explained_variance", variance)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        progress = self._current_progress_remaining
        self.logger.record("train/clip_range", self.clip_range(progress))  # type: ignore[operator]
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", self.clip_range_vf(progress))  # type: ignore[operator]


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
        space = env.observation_space
        frames = space.shape is not None and len(space.shape) == 3
        return PPO(
            **self.arguments(env, horizon),
            rollout_buffer_class=ChannelsLastRollout if frames and self.channels_last else None,
            seed=seed,
            device=device,
            interventions=interventions,
            channels_last=self.channels_last,
            critic=vars(Critic(kind=self.critic, bins=self.bins, low=self.low, high=self.high)),
        )
