"""PPO: stable-baselines3's, with its update handed to the interventions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import Tensor, nn

from rlplastic.agents.critics import Critic, cross_entropy, logits_of
from rlplastic.agents.learner import Minibatch, Scopes, has_dropout, update, wrapped
from rlplastic.agents.networks import (
    Layer,
    auxiliary,
    default_optimizer,
    hidden_layers,
    leaves,
    new_policy,
    scope_of,
    set_channels_last,
)
from rlplastic.agents.pages import keep_pages
from rlplastic.agents.policies import LeanCnnPolicy, LeanPolicy
from rlplastic.agents.resume import restore, snapshot
from rlplastic.agents.rollout import Collector, Rollout
from rlplastic.agents.surrogate import Surrogate
from rlplastic.agents.towers import ByHand
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions

Look = Callable[[], dict[str, Tensor]]


class PPO(Collector):
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
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **stable_baselines3.PPO.policy_aliases,
        "MlpPolicy": LeanPolicy,
        "CnnPolicy": LeanCnnPolicy,
    }

    def __init__(
        self,
        *args: Any,
        interventions: Interventions | None = None,
        channels_last: bool = False,
        critic: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        keep_pages()
        self.interventions = interventions or Interventions()
        self.critic = Critic(**self.interventions.critic(critic or {"kind": "mse"}))
        self.channels_last = channels_last
        self.num_updates = 0
        self._scopes = Scopes()
        self.last_batch: RolloutBufferSamples | None = None
        self.last_terms: dict[str, Tensor] = {}
        kwargs["policy_kwargs"] = self.interventions.build(dict(kwargs.get("policy_kwargs") or {}))
        super().__init__(*wrapped(self.interventions, args, kwargs), **kwargs)

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None and not isinstance(
            self.observation_space, spaces.Dict
        ):
            self.rollout_buffer_class = Rollout
            self.rollout_buffer_kwargs.setdefault("channels_last", self.channels_last)
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
        policy: Any = self.policy
        still = isinstance(policy, LeanPolicy) and self.interventions.idle
        with policy.held() if still else nullcontext():
            self._passes()

    def _passes(self) -> None:
        log: list[dict[str, Tensor]] = []
        kept_on = True
        for _ in range(self.interventions.repeats(self, self.n_epochs)):
            begun = len(log)
            for batch in self.rollout_buffer.get(self.batch_size):
                self.last_batch = batch
                losses, look = self.losses_of(batch)
                log.append(look())
                if self.target_kl is not None and self._kl(log[-1:])[0] > 1.5 * self.target_kl:
                    kept_on = False
                    break
                update(self, losses)
            self._n_updates += 1
            if not kept_on:
                break
        self._write_log(log, begun)

    def losses(self, batch: RolloutBufferSamples) -> Minibatch:
        """The named loss terms of a minibatch."""
        return self.losses_of(batch)[0]

    def losses_of(self, batch: RolloutBufferSamples) -> tuple[Minibatch, Look]:
        """The named loss terms of a minibatch, and how to look at its statistics beforehand."""
        policy: Any = self.policy
        surrogate = self._surrogate(batch)
        lean = isinstance(policy, LeanPolicy) and policy.lean
        observations = policy.prepared(batch.observations) if lean else batch.observations
        predict = policy.valued if lean else policy.predict_values
        evaluate = policy.evaluated if lean else policy.evaluate_actions
        statistics: dict[str, Tensor] = {}

        def value_loss(values: Tensor) -> Tensor:
            if not self.critic.binned:
                return surrogate.value_loss(values)
            wanted = self.critic.probabilities(batch.returns)
            return cross_entropy(logits_of(policy.value_net)[:, 0], wanted, surrogate.weights)

        def terms(names: tuple[str, ...]) -> dict[str, Tensor]:
            if names == ("critic",) and not has_dropout(policy):
                return {"critic": self.vf_coef * value_loss(predict(observations))}
            values, log_prob, entropy = evaluate(observations, surrogate.actions)
            compared = surrogate.compared(log_prob)
            # without an analytical form the log-likelihood stands for the entropy
            entropy = -log_prob if entropy is None else entropy
            found, seen = surrogate.terms(compared, entropy, value_loss(values))
            statistics.update(seen)
            return {name: found[name] for name in names or found}

        plain = self.interventions.plain_loss and not self.critic.binned
        towers = policy.known or policy.towers() if lean and plain else None
        if towers is not None and towers.learnt:
            by_hand = ByHand(towers, observations, surrogate)
            return Minibatch(policy, terms, by_hand), by_hand.look
        losses = Minibatch(policy, terms)

        def look() -> dict[str, Tensor]:
            losses.peek()
            return statistics

        return losses, look

    def _surrogate(self, batch: RolloutBufferSamples) -> Surrogate:
        progress = self._current_progress_remaining
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        advantages = batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        near = self.clip_range_vf
        return Surrogate(
            batch=batch,
            actions=actions,
            advantages=advantages,
            clip_range=self.clip_range(progress),  # type: ignore[operator]
            clip_range_vf=None if near is None else near(progress),  # type: ignore[operator]
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            critic=self.critic,
            weights=self.interventions.weights(self, batch),
        )

    def values(self, observations: Tensor) -> Tensor:
        """The critic's output: ``[batch, 1]``."""
        return self.policy.predict_values(observations)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "initial", "_scopes"]

    def scope(self, name: str) -> list[nn.Parameter]:
        """The parameters of a scope; see `rlplastic.agents.networks.scope_of`."""
        return self._scopes.of(name, self.policy.optimizer, self._scope)

    def _scope(self, name: str) -> list[nn.Parameter]:
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

    @staticmethod
    def _kl(log: list[dict[str, Tensor]]) -> list[float]:
        """Mean divergence from the rollout's policy, of each minibatch."""
        ratios = [each["log_ratio"] for each in log]
        return [torch.mean((torch.exp(ratio) - 1) - ratio).item() for ratio in ratios]

    def _write_log(self, log: list[dict[str, Tensor]], last_epoch: int) -> None:
        """What stable-baselines3 writes; of a whole training at once, since each item waits."""
        buffer, progress = self.rollout_buffer, self._current_progress_remaining
        clip_range = self.clip_range(progress)  # type: ignore[operator]
        names = ("policy_gradient_loss", "entropy_loss", "value_loss")
        losses = torch.stack([each[name] for name in names for each in log]).view(len(names), -1)
        for name, values in zip(names, losses, strict=True):
            self.logger.record(f"train/{name}", values.mean().item())
        actor, entropy, value = losses[:, -1].tolist()
        self.logger.record("train/loss", actor + self.ent_coef * entropy + self.vf_coef * value)
        self.logger.record("train/approx_kl", np.mean(self._kl(log[last_epoch:])))
        clipped = [(each["log_ratio"].exp() - 1).abs() > clip_range for each in log]
        self.logger.record(
            "train/clip_fraction", np.mean([some.float().mean().item() for some in clipped])
        )
        variance = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/explained_variance", variance)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", self.clip_range_vf(progress))  # type: ignore[operator]
