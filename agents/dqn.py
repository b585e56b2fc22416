"""DQN: stable-baselines3's, with its update handed to the interventions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from rlplastic.agents.acting import Acting, set_mode, values_of
from rlplastic.agents.critics import Critic, cross_entropy, logits_of
from rlplastic.agents.direct import (
    Slopes,
    huber,
    huber_slopes,
    learnt_chain,
    shown,
)
from rlplastic.agents.duelling import output_of, paths_to_outputs, split
from rlplastic.agents.learner import Minibatch, Scopes, update, wrapped
from rlplastic.agents.networks import (
    Layer,
    default_optimizer,
    hidden_layers,
    last_linear,
    leaves,
    new_policy,
    scope_of,
    set_channels_last,
)
from rlplastic.agents.pages import keep_pages
from rlplastic.agents.replay import LeanReplay
from rlplastic.agents.resume import restore, snapshot
from rlplastic.interventions import Interventions, Part


class DQN(Acting):
    """Deep Q-network (Mnih et al. 2015), with Huber loss as in stable-baselines3 or another.

    Two things differ, and neither does in an agent's first world: updates wait until
    `learning_starts` transitions have come since the replay memory was last emptied, and the loss
    goes through the interventions.

    Args:
        *args: As for `stable_baselines3.DQN`.
        interventions: What is done to keep it plastic.
        channels_last: Memory layout of convolutions; faster on CPUs, the same numbers to rounding.
        critic: The fields of `rlplastic.agents.critics.Critic`.
        double: The online network chooses the next action, the target network values it.
        duelling: Value and advantages in streams of their own; see `rlplastic.agents.duelling`.
        **kwargs: As for `stable_baselines3.DQN`.
    """

    batch_type = ReplayBufferSamples

    def __init__(
        self,
        *args: Any,
        interventions: Interventions | None = None,
        channels_last: bool = False,
        critic: dict[str, Any] | None = None,
        double: bool = False,
        duelling: bool = False,
        **kwargs: Any,
    ) -> None:
        keep_pages()
        self.interventions = interventions or Interventions()
        self.critic = Critic(**self.interventions.critic(critic or {"kind": "huber"}))
        self.channels_last = channels_last
        self.double, self.duelling = double, duelling
        self.num_updates = 0
        self._scopes = Scopes()
        self.last_batch: ReplayBufferSamples | None = None
        self.last_terms: dict[str, Tensor] = {}
        kwargs["policy_kwargs"] = self.interventions.build(dict(kwargs.get("policy_kwargs") or {}))
        super().__init__(*wrapped(self.interventions, args, kwargs), **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.duelling:
            split(self.policy)
        self.critic.install(self.policy)
        self.interventions.rebuild(self.policy)
        self.q_net_target.set_training_mode(False)  # what was put in is born in the other mode
        self.policy.to(self.device)
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        if self.channels_last:
            set_channels_last(self.policy)
        self.policy.optimizer = self.interventions.optimizer(
            lambda: default_optimizer(self, self.q_net.parameters()), self.q_net.parameters()
        )
        self.interventions.begin(self)
        self.initial = {p: p.detach().clone() for p in self.scope("all")}

    def _on_step(self) -> None:
        super()._on_step()
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            self.interventions.new_objective(self)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """`gradient_steps` updates on minibatches from the replay memory."""
        if self._transitions <= min(self.learning_starts, self.buffer_size - 1):
            return
        assert self.replay_buffer is not None
        set_mode(self.policy, training=True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        gradient_steps = self.interventions.repeats(self, gradient_steps)
        for drawn in self._minibatches(gradient_steps, batch_size):
            self.last_batch = self.interventions.minibatch(self, drawn)
            terms = update(self, self.losses(self.last_batch))
            losses.append(terms["critic"].item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _minibatches(self, count: int, size: int) -> Iterator[ReplayBufferSamples]:
        """As many minibatches from the replay memory: of vectors, all are drawn at once."""
        memory = self.replay_buffer
        assert memory is not None
        if isinstance(memory, LeanReplay) and memory.divisible:
            drawn = memory.sample(count * size, env=self._vec_normalize_env)
            parts: list[Any] = [
                [None] * count if column is None else torch.split(column, size) for column in drawn
            ]
            yield from map(ReplayBufferSamples, *parts)
            return
        for _ in range(count):
            yield memory.sample(size, env=self._vec_normalize_env)

    def losses(self, batch: ReplayBufferSamples) -> Minibatch:
        """The critic's loss; the bootstrap target is computed here, once."""
        weights = self.interventions.weights(self, batch)
        plain = self.critic.kind == "huber" and weights is None
        discounts = batch.discounts if batch.discounts is not None else self.gamma
        with torch.no_grad():
            later = values_of(self.q_net_target, batch.next_observations)
            future, best = later.max(dim=1, keepdim=True)
            if self.double:  # arXiv 1509.06461, Eq. 4
                best = values_of(self.q_net, batch.next_observations).argmax(dim=1, keepdim=True)
                future = later.gather(1, best)
            target = batch.rewards + (1 - batch.dones) * discounts * future
            if self.critic.kind == "c51":
                atoms = self.critic.centres().to(target)
                moved = batch.rewards + (1 - batch.dones) * discounts * atoms
                logits = chosen(logits_of(output_of(self.q_net_target)), best)
                wanted = self.critic.projected(logits.softmax(dim=1), moved)
            elif self.critic.binned:
                wanted = self.critic.probabilities(target.squeeze(1))

        def terms(_: tuple[str, ...]) -> dict[str, Tensor]:
            chain = learnt_chain(self.q_net) if plain else None
            if chain is not None:
                return {"critic": huber(self.q_net, chain, batch, target)}
            values = self.q_net(batch.observations)
            actions = batch.actions.long()
            if self.critic.binned:
                logits = chosen(logits_of(output_of(self.q_net)), actions)
                return {"critic": cross_entropy(logits, wanted, weights)}
            return {"critic": self.critic.loss(torch.gather(values, 1, actions), target, weights)}

        known = learnt_chain(self.q_net) if plain else None
        if known is None:
            return Minibatch(self.policy, terms)

        inputs, actions = shown(batch.observations), batch.actions.long()  # once for all passes

        def without_graph(*parts: Part) -> tuple[dict[str, Tensor], list[Slopes]]:
            loss, found = huber_slopes(known, inputs, actions, target)
            return {"critic": loss}, [{} if part == "others" else found for part in parts]

        return Minibatch(self.policy, terms, without_graph)

    def values(self, observations: Tensor) -> Tensor:
        """The critic's output: ``[batch, actions]``."""
        values: Tensor = self.q_net(observations)
        return values

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "initial", "_scopes"]

    def scope(self, name: str) -> list[nn.Parameter]:
        """The parameters of a scope; see `rlplastic.agents.networks.scope_of`."""
        return self._scopes.of(name, self.policy.optimizer, self._scope)

    def _scope(self, name: str) -> list[nn.Parameter]:
        head = [p for path in paths_to_outputs(self.q_net) for p in last_linear(path[-1])]
        return scope_of(name, critic=self.q_net.parameters(), head=head, actor=())

    def layers(self, name: str) -> list[Layer]:
        """The hidden layers of a scope: of the critic, which is all there is."""
        if name == "actor":
            return []
        return hidden_layers([leaves(*path) for path in paths_to_outputs(self.q_net)])

    def targets(self) -> dict[nn.Parameter, nn.Parameter]:
        """The target network's copy of each parameter."""
        return dict(zip(self.q_net.parameters(), self.q_net_target.parameters(), strict=True))

    def newborn(self, generator: torch.Generator) -> nn.Module:
        """A newly initialised policy of the same architecture; draws from `generator` alone."""
        return new_policy(self, generator)

    def reference(self, size: int, generator: torch.Generator) -> Tensor:
        """Observations from the replay memory; draws from `generator` alone."""
        memory = self.replay_buffer
        assert memory is not None
        steps = torch.randint(memory.size(), (size,), generator=generator).numpy()
        copies = torch.randint(memory.n_envs, (size,), generator=generator).numpy()
        drawn = memory.observations[steps, copies]
        shown: Any = memory._normalize_obs(drawn, self._vec_normalize_env)
        return memory.to_torch(shown)

    def snapshot(self) -> dict[str, Any]:
        """Its complete state but the replay memory, at a rollout's start."""
        return snapshot(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` returned, at a rollout's start."""
        restore(self, state)

    def at_shift(self, phase: int, replay: Literal["clear", "keep"]) -> None:
        """The world has shifted: empty the replay memory if the protocol says so, tell oracles."""
        if replay == "clear":
            assert self.replay_buffer is not None
            self.replay_buffer.reset()
            self._transitions = 0
        self.interventions.at_shift(self, phase)


def chosen(logits: Tensor, actions: Tensor) -> Tensor:
    """The logits ``[batch, bins]`` of actions ``[batch, 1]`` among ``[batch, actions, bins]``."""
    return logits[torch.arange(len(logits), device=logits.device), actions.squeeze(1)]
