"""What is done to keep a learner plastic: the seam between an agent and its interventions.

An agent never steps its optimizer. It hands its *named loss terms* over, and the interventions
turn them into one update. To add an intervention: one file in this folder, one frozen dataclass
whose fields are its hyper-parameters, any of the hooks::

    @intervention("l2")
    @dataclass(frozen=True, kw_only=True)
    class L2(Intervention):
        \"\"\"Add half the squared norm of the weights to the critic's loss.\"\"\"

        strength: Annotated[float, Ge(0)] = 1e-3

        def penalty(self, agent):
            return self.strength / 2 * sum(p.square().sum() for p in agent.scope("critic"))

===================  =============================================================================
``build``            before construction: layers, activations, normalisation
``check``            refuse an agent it cannot work on, before anything is written
``penalty``          a tensor added to the critic's term
``gradient``         how loss terms become gradients (one intervention of an arm at most)
``optimizer``        which optimizer (one at most)
``after_update``     surgery on weights and optimizer state
``at_shift``         only with ``oracle = True``: it is told of the shift, and drawn differently
===================  =============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rlplastic.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Parameter


class Losses(Protocol):
    """The loss terms of one minibatch at the current weights; may be called again.

    The minibatch, the bootstrap target and any dropout mask are the same in every call.
    Called with names, it computes only those terms.
    """

    def __call__(self, *names: str) -> dict[str, Tensor]:
        """Named terms: ``critic``, and for an actor-critic ``actor`` and ``entropy``."""


class Learner(Protocol):
    """What an intervention may ask of an agent."""

    num_updates: int

    def scope(self, name: str) -> list[Parameter]:
        """The parameters of a scope: critic, head, backbone, actor, all."""


SCOPES = ("critic", "head", "backbone", "actor", "all")


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One intervention: frozen hyper-parameters, hooks, and a `state` that is saved with the agent.

    Attributes:
        oracle: True if it must be told when the world shifts.
        agents: Agents it fits; empty: all.
        cost: Gradient evaluations per update, relative to none.
    """

    oracle: ClassVar[bool] = False
    agents: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[float] = 1.0
    name: ClassVar[str]

    @property
    def state(self) -> dict[str, Any]:
        """What changes while training: tensors and numbers, by name."""
        state: dict[str, Any] = self.__dict__.setdefault("_state", {})
        return state

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The policy's keyword arguments, changed; called before construction."""
        return policy_kwargs

    def check(self, agent: Learner) -> None:
        """Raise `UsageError` if it cannot work on this agent; called before anything is written."""

    def penalty(self, agent: Learner) -> Tensor | None:
        """A tensor to add to the critic's loss term."""
        return None

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """Leave the gradient of this update in ``.grad``; return the terms for the log."""
        raise NotImplementedError

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer to use instead of the agent's own."""
        raise NotImplementedError

    def after_update(self, agent: Learner) -> None:
        """Change weights and optimizer state after a step of the optimizer."""

    def at_shift(self, agent: Learner, phase: int) -> None:
        """The world has just shifted; only for interventions with ``oracle = True``."""


def overrides(intervention: Intervention, hook: str) -> bool:
    """True if the intervention has this hook."""
    return getattr(type(intervention), hook) is not getattr(Intervention, hook)


class Interventions:
    """The interventions of one arm, as one object for the agent.

    Raises:
        UsageError: two of them for a hook that holds one, or one that does not fit the agent.
    """

    def __init__(self, members: Sequence[Intervention] = (), agent: str = "") -> None:
        self.members = tuple(members)
        for hook, why in (
            ("gradient", "each decides how the loss terms become a gradient"),
            ("optimizer", "each brings an optimizer of its own"),
        ):
            rivals = [member.name for member in self.members if overrides(member, hook)]
            if len(rivals) > 1:
                raise UsageError(f"--reg {'+'.join(rivals)}: they exclude each other, since {why}")
        for member in self.members:
            if member.agents and agent and agent not in member.agents:
                raise UsageError(
                    f"--reg {member.name}: does not fit agent {agent!r}; "
                    f"it fits {', '.join(member.agents)}"
                )
        self._gradient = next((m.gradient for m in self.members if overrides(m, "gradient")), None)
        self._penalties = [m.penalty for m in self.members if overrides(m, "penalty")]
        self._after = [m.after_update for m in self.members if overrides(m, "after_update")]

    def check(self, agent: Learner) -> None:
        """Every member's check."""
        for member in self.members:
            member.check(agent)

    @property
    def oracle(self) -> bool:
        """True if any of them must be told of the shift."""
        return any(member.oracle for member in self.members)

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Every member's changes to the policy's keyword arguments, in order."""
        for member in self.members:
            policy_kwargs = member.build(dict(policy_kwargs))
        return policy_kwargs

    def optimizer(
        self, default: Callable[[], torch.optim.Optimizer], parameters: Iterable[Parameter]
    ) -> torch.optim.Optimizer:
        """The optimizer: a member's if one brings it, else the agent's own."""
        for member in self.members:
            if overrides(member, "optimizer"):
                return member.optimizer(parameters)
        return default()

    def penalised(self, agent: Learner, losses: Losses) -> Losses:
        """The losses with every member's penalty in the critic's term."""
        if not self._penalties:
            return losses

        def with_penalty(*names: str) -> dict[str, Tensor]:
            terms = losses(*names)
            if "critic" in terms:
                for penalty in self._penalties:
                    extra = penalty(agent)
                    if extra is not None:
                        terms["critic"] = terms["critic"] + extra
            return terms

        return with_penalty

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """Leave the update's gradient in ``.grad``, which the caller has set to none."""
        losses = self.penalised(agent, losses)
        if self._gradient is not None:
            return self._gradient(agent, losses)
        terms = losses()
        total(terms).backward()  # type: ignore[no-untyped-call]
        return terms

    def after_update(self, agent: Learner) -> None:
        """Every member's surgery, in order."""
        for after in self._after:
            after(agent)

    def at_shift(self, agent: Learner, phase: int) -> None:
        """Tell the oracles, and nobody else."""
        for member in self.members:
            if member.oracle:
                member.at_shift(agent, phase)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The state of every member by name."""
        return {member.name: dict(member.state) for member in self.members}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what `state_dict` returned."""
        for member in self.members:
            member.state.clear()
            member.state.update(state[member.name])


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms in the order they came: bytes depend on the order."""
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first
