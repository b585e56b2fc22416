"""What an intervention is, and what it may ask of an agent; see `rlplastic.interventions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.nn import Parameter


Part = Literal["total", "critic", "others"]  # of the sum of the loss terms


class Losses(Protocol):
    """The loss terms of one minibatch at the current weights; may be called again.

    The minibatch, the bootstrap target and any dropout mask are the same in every call.
    Called with names, it computes only those terms.

    It may have ``slopes(*parts)``: the terms, and of each of these parts of their sum the gradient
    by every parameter that it reaches, without a graph. Who needs no more than that asks
    `ascent.critic_gradient`, which takes it or autograd.
    """

    def __call__(self, *names: str) -> dict[str, Tensor]:
        """Named terms: ``critic``, and for an actor-critic ``actor`` and ``entropy``."""


class Learner(Protocol):
    """What an intervention may ask of an agent."""

    num_updates: int
    gamma: float  # discount of one step
    lr_schedule: Any  # from the share of training that is left to the step size
    policy: Any  # the networks, with their ``optimizer``
    seed: int | None
    last_batch: Any  # the minibatch of the last update
    last_terms: dict[str, Tensor]  # its loss terms, before any penalty; kept where there is one

    def scope(self, name: str) -> list[Parameter]:
        """The parameters of a scope: critic, head, backbone, actor, all."""

    def values(self, observations: Tensor) -> Tensor:
        """The critic's output."""

    def layers(self, name: str) -> list[Any]:
        """The hidden `rlplastic.agents.networks.Layer` of a scope, input side first."""

    def targets(self) -> dict[Parameter, Parameter]:
        """The target network's copy of each parameter that has one."""

    def reference(self, size: int, generator: torch.Generator) -> Tensor:
        """Observations that the agent is learning from; draws from `generator` alone."""

    def newborn(self, generator: torch.Generator) -> Any:
        """A newly initialised policy of the same architecture; draws from `generator` alone."""


SCOPES = ("critic", "head", "backbone", "actor", "all")


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One intervention: frozen hyper-parameters, hooks, and a `state` that is saved with the agent.

    Attributes:
        oracle: True if it must be told when the world shifts.
        agents: Agents it fits; empty: all.
        observations: What it fits, ``vectors`` or ``images``; empty: both.
        cost: Gradient evaluations, relative to none, of an update at which it acts: every one, or
            each `every`-th where it has that option.
        stacks: True if in an update it has at most a `gradient`, which draws nothing, asks the
            losses for no more than their ``slopes``, and takes a learner that stands for several
            seeds: it has `num_updates` and `scope`, whose parameters are `ascent.Stacked`. Those
            may be packed, or coordinates that mean nothing in the next minibatch: it adds gradients
            up, asks `ascent.norms` for their lengths, and moves by other ``.data`` as
            `ascent.two_passes` does. What it does to each seed must not depend on the others.
    """

    oracle: ClassVar[bool] = False
    agents: ClassVar[tuple[str, ...]] = ()
    observations: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[float] = 1.0
    stacks: ClassVar[bool] = False
    name: ClassVar[str]

    @property
    def state(self) -> dict[str, Any]:
        """What changes while training: tensors and numbers, by name."""
        state: dict[str, Any] = self.__dict__.setdefault("_state", {})
        return state

    @property
    def generator(self) -> torch.Generator:
        """Its own source of randomness, on the CPU; seeded from the agent's seed and its name."""
        found: torch.Generator = self.__dict__["_generator"]
        return found

    def wrap(self, env: Any, gamma: float) -> Any:
        """The vector environment as the agent is to see it; called before construction."""
        return env

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The policy's keyword arguments, changed; called before construction."""
        return policy_kwargs

    def critic(self) -> dict[str, Any]:
        """The agent's options on its critic's loss: kind, bins, low, high; in place of its own."""
        raise NotImplementedError

    def rebuild(self, policy: nn.Module) -> None:
        """Change the modules of a newly constructed policy, in place; draws nothing."""

    def begin(self, agent: Learner) -> None:
        """The agent is complete and has not acted yet."""

    def check(self, agent: Learner) -> None:
        """Raise `UsageError` if it cannot work on this agent; called before anything is written."""

    def minibatch(self, agent: Learner, batch: Any) -> Any:
        """The minibatch of DQN's next update, changed; PPO's is what its policy acted on."""
        return batch

    def weights(self, agent: Learner, batch: Any) -> Tensor | None:
        """How much each transition of a minibatch counts in the critic's loss: ``[batch]``."""
        return None

    def repeats(self, agent: Learner, count: int) -> int:
        """How many updates DQN makes at a training, or passes PPO, instead of `count`."""
        return count

    def before_update(self, agent: Learner) -> None:
        """An update is about to be made: nothing has been computed yet."""

    def penalty(self, agent: Learner) -> Tensor | None:
        """A tensor to add to the critic's loss term."""
        return None

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """Leave the gradient of this update in ``.grad``; return the terms for the log."""
        raise NotImplementedError

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer to use instead of the agent's own."""
        raise NotImplementedError

    def new_objective(self, agent: Learner) -> None:
        """PPO has a new rollout to learn from, DQN a new target network."""

    def after_update(self, agent: Learner) -> None:
        """Change weights and optimizer state after a step of the optimizer."""

    def at_shift(self, agent: Learner, phase: int) -> None:
        """The world has just shifted; only for interventions with ``oracle = True``."""


def overrides(intervention: Intervention | type[Intervention], hook: str) -> bool:
    """True if the intervention has this hook."""
    kind = intervention if isinstance(intervention, type) else type(intervention)
    return getattr(kind, hook) is not getattr(Intervention, hook)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms in the order they came: bytes depend on the order."""
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first
