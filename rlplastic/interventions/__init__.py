"""What is done to keep a learner plastic: the seam between an agent and its interventions.

An agent never steps its optimizer. It hands its *named loss terms* over, and the interventions
turn them into one update. To add an intervention: one file in this folder, one frozen dataclass
whose fields are its hyper-parameters, any of the hooks::

    @intervention("l1")
    @dataclass(frozen=True, kw_only=True)
    class L1(Intervention):
        \"\"\"Add the absolute values of the critic's weights to its loss.\"\"\"

        strength: Annotated[float, Ge(0)] = 1e-5

        def penalty(self, agent):
            return self.strength * sum(p.abs().sum() for p in agent.scope("critic"))

===================  =============================================================================
``wrap``             before construction: the environment, as the agent sees it
``build``            before construction: arguments of the policy
``critic``           the agent's options on its critic's loss (one intervention of an arm at most)
``rebuild``          after construction, before the optimizer: layers, activations, normalisation
``begin``            a life begins: remember the initial weights, keep statistics
``check``            refuse an agent it cannot work on, before anything is written
``repeats``          how many updates or passes a training has
``minibatch``        what is learnt from, changed
``weights``          how much each transition counts in the critic's loss
``penalty``          a tensor added to the critic's term
``before_update``    what to remember of the weights before they move
``gradient``         how loss terms become gradients (one intervention of an arm at most)
``optimizer``        which optimizer (one at most)
``new_objective``    PPO has a new rollout, DQN a new target network
``after_update``     surgery on weights and optimizer state
``at_shift``         only with ``oracle = True``: it is told of the shift, and drawn differently
===================  =============================================================================

What changes while training is in `Intervention.state`; what is drawn is drawn from
`Intervention.generator`, so that an intervention that draws does not move the agent's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlplastic.errors import UsageError
from rlplastic.interventions.seam import (
    SCOPES,
    Intervention,
    Learner,
    Losses,
    Part,
    overrides,
    total,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.nn import Parameter

__all__ = [
    "SCOPES",
    "Intervention",
    "Interventions",
    "Learner",
    "Losses",
    "Part",
    "overrides",
    "total",
]


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
            ("critic", "each decides the critic's loss"),
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
        self._before = [m.before_update for m in self.members if overrides(m, "before_update")]
        self._changes = [m.minibatch for m in self.members if overrides(m, "minibatch")]
        self._weights = [m.weights for m in self.members if overrides(m, "weights")]
        self._rebuilders = [m.rebuild for m in self.members if overrides(m, "rebuild")]

    def check(self, agent: Learner) -> None:
        """Every member's check, and that it fits what the agent observes."""
        for member in self.members:
            seen = "images" if len(agent.policy.observation_space.shape) == 3 else "vectors"
            if member.observations and seen not in member.observations:
                fits = ", ".join(member.observations)
                raise UsageError(f"--reg {member.name}: does not fit {seen}; it fits {fits}")
            member.check(agent)

    @property
    def oracle(self) -> bool:
        """True if any of them must be told of the shift."""
        return any(member.oracle for member in self.members)

    def wrap(self, env: Any, gamma: float) -> Any:
        """The environment as the agent is to see it: every member's changes, in order."""
        for member in self.members:
            env = member.wrap(env, gamma)
        return env

    @property
    def wraps(self) -> bool:
        """True if a member changes the environment as the agent sees it."""
        return any(overrides(member, "wrap") for member in self.members)

    def repeats(self, agent: Learner, count: int) -> int:
        """The updates or passes of a training after every member's changes, in order."""
        for member in self.members:
            count = member.repeats(agent, count)
        return count

    def minibatch(self, agent: Learner, batch: Any) -> Any:
        """The minibatch after every member's changes, in order."""
        for change in self._changes:
            batch = change(agent, batch)
        return batch

    def weights(self, agent: Learner, batch: Any) -> Tensor | None:
        """The product of every member's weights of the transitions; None: all count alike."""
        found = None
        for weigh in self._weights:
            factors = weigh(agent, batch)
            found = factors if found is None or factors is None else found * factors
        return found

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Every member's changes to the policy's keyword arguments, in order."""
        for member in self.members:
            policy_kwargs = member.build(dict(policy_kwargs))
        return policy_kwargs

    def critic(self, own: dict[str, Any]) -> dict[str, Any]:
        """The options on the critic's loss: a member's if one has them, else the agent's own."""
        chosen = (member.critic() for member in self.members if overrides(member, "critic"))
        return next(chosen, own)

    def rebuild(self, policy: nn.Module) -> None:
        """Every member's changes to the modules, in order."""
        for rebuild in self._rebuilders:
            rebuild(policy)

    def begin(self, agent: Learner) -> None:
        """A life begins: every member gets its generator, then its `begin`."""
        import torch

        for member in self.members:
            name = int.from_bytes(member.name.encode(), "big")
            sequence = np.random.SeedSequence([*([] if agent.seed is None else [agent.seed]), name])
            member.__dict__["_generator"] = torch.Generator().manual_seed(
                int(sequence.generate_state(1, np.uint64)[0] >> 1)
            )
            member.begin(agent)

    def optimizer(
        self, default: Callable[[], torch.optim.Optimizer], parameters: Iterable[Parameter]
    ) -> torch.optim.Optimizer:
        """The optimizer: a member's if one brings it, else the agent's own."""
        for member in self.members:
            if overrides(member, "optimizer"):
                return member.optimizer(parameters)
        return default()

    @property
    def plain_loss(self) -> bool:
        """True if no member changes the critic's term, which then may do without a graph."""
        return not (self._penalties or self._weights)

    @property
    def at_most_gradient(self) -> bool:
        """True if in an update no member has more than a `gradient`."""
        return self.plain_loss and not any((self._before, self._changes, self._after))

    @property
    def idle(self) -> bool:
        """True if no member has a part in an update, so that none watches or changes a module."""
        return self.at_most_gradient and self._gradient is None

    def penalised(self, agent: Learner, losses: Losses) -> Losses:
        """The losses with every member's penalty in the critic's term."""
        if not self._penalties:
            return losses

        def with_penalty(*names: str) -> dict[str, Tensor]:
            terms = losses(*names)
            if not names:
                agent.last_terms = {name: term.detach() for name, term in terms.items()}
            if "critic" in terms:
                for penalty in self._penalties:
                    extra = penalty(agent)
                    if extra is not None:
                        terms["critic"] = terms["critic"] + extra
            return terms

        return with_penalty

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """Leave the update's gradient in ``.grad``, which the caller has set to none."""
        for before in self._before:
            before(agent)
        losses = self.penalised(agent, losses)
        if self._gradient is not None:
            return self._gradient(agent, losses)
        from rlplastic.interventions.ascent import plain

        return plain(losses)

    def new_objective(self, agent: Learner) -> None:
        """Tell every member."""
        for member in self.members:
            member.new_objective(agent)

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
        """The state of every member by name, with that of its generator."""
        found = {}
        for member in self.members:
            found[member.name] = dict(member.state)
            if "_generator" in member.__dict__:
                found[member.name]["generator"] = member.generator.get_state()
        return found

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what `state_dict` returned."""
        for member in self.members:
            values = dict(state[member.name])
            drawn = values.pop("generator", None)
            if drawn is not None:
                import torch

                member.__dict__["_generator"] = torch.Generator()
                member.generator.set_state(drawn)
            member.state.clear()
            member.state.update(values)
