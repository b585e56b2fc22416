"""DQN: stable-baselines3's, with its update handed to the interventions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from annotated_types import Ge, Gt, Le
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlplastic.agents.critics import Critic, cross_entropy, logits_of
from rlplastic.agents.direct import (
    Slopes,
    chain_of,
    huber,
    huber_slopes,
    learnt_chain,
    outputs,
    shown,
)
from rlplastic.agents.duelling import output_of, paths_to_outputs, split
from rlplastic.agents.features import features_for
from rlplastic.agents.learner import Minibatch, update, wrapped
from rlplastic.agents.networks import (
    ACTIVATIONS,
    Activation,
    Layer,
    default_optimizer,
    hidden_layers,
    last_linear,
    leaves,
    new_policy,
    policy_name,
    scope_of,
    set_channels_last,
)
from rlplastic.agents.replay import Array, FrameReplay, LeanReplay, replay_class
from rlplastic.agents.resume import restore, snapshot
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.registry import agent


class DQN(stable_baselines3.DQN):
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
        self.interventions = interventions or Interventions()
        self.critic = Critic(**self.interventions.critic(critic or {"kind": "huber"}))
        self.channels_last = channels_last
        self.double, self.duelling = double, duelling
        self.num_updates = 0
        self.last_batch: ReplayBufferSamples | None = None
        self.last_terms: dict[str, Tensor] = {}
        self._transitions = 0  # since the replay memory was last emptied
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
        self.policy.set_training_mode(True)
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

        def without_graph() -> tuple[dict[str, Tensor], Slopes]:
            loss, found = huber_slopes(known, batch, target)
            return {"critic": loss}, found

        return Minibatch(self.policy, terms, without_graph)

    def values(self, observations: Tensor) -> Tensor:
        """The critic's output: ``[batch, actions]``."""
        values: Tensor = self.q_net(observations)
        return values

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "initial"]

    def scope(self, name: str) -> list[nn.Parameter]:
        """The parameters of a scope; see `rlplastic.agents.networks.scope_of`."""
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

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """As stable-baselines3's, with the same draws, without its conversions on the way."""
        if self.num_timesteps < learning_starts:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        if np.random.rand() < self.exploration_rate:  # noqa: NPY002 - stable-baselines3's draw
            actions = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:  # `collect_rollouts` has set the evaluation mode
            assert self._last_obs is not None
            with torch.inference_mode():
                values = values_of(self.q_net, obs_as_tensor(self._last_obs, self.device))
                actions = values.argmax(dim=1).cpu().numpy()
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
        self._transitions += self.n_envs
        if self._vec_normalize_env is not None or isinstance(new_obs, dict):
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        shown = new_obs  # the memory copies what it keeps
        if dones.any():
            shown = new_obs.copy()
            for copy in np.flatnonzero(dones):
                final = infos[copy].get("terminal_observation")
                if final is not None:
                    shown[copy] = final
        replay_buffer.add(self._last_obs, shown, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
        self._last_original_obs = self._last_obs
        self._last_obs = new_obs


def values_of(network: nn.Module, observations: Any) -> Tensor:
    """The values ``[batch, actions]``, where no gradient is asked for."""
    chain = chain_of(network)
    values: Tensor = (
        network(observations) if chain is None else outputs(chain, shown(observations))[-1]
    )
    return values


def chosen(logits: Tensor, actions: Tensor) -> Tensor:
    """The logits ``[batch, bins]`` of actions ``[batch, 1]`` among ``[batch, actions, bins]``."""
    return logits[torch.arange(len(logits), device=logits.device), actions.squeeze(1)]


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
