"""Shrink and perturb: move the weights part of the way to new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


def shrink_and_perturb(
    intervention: Intervention, agent: Learner, scope: str, shrink: float
) -> None:
    """θ ← α θ + (1 - α) ψ for the parameters of a scope, ψ newly drawn; moments are forgotten."""
    import torch

    from rlplastic.interventions import surgery

    values = surgery.newborn_values(agent, intervention.generator)
    for parameter in agent.scope(scope):
        mixed = torch.lerp(values[parameter], parameter.detach(), shrink)
        surgery.overwrite(agent, parameter, mixed)
    intervention.state["resets"] = intervention.state.get("resets", 0) + 1


@intervention("snp")
@dataclass(frozen=True, kw_only=True)
class ShrinkAndPerturb(Intervention):
    """Shrink the weights and add newly drawn ones, every N updates.

    With ψ a newly initialised network (arXiv 1910.08475; the soft reset of arXiv 2305.19452)::

        θ ← α θ + (1 - α) ψ

    The target network gets the same weights, and the optimizer forgets the moments, as in BBF.

    Attributes:
        every: N, in updates (40,000: BBF, arXiv 2305.19452).
        shrink: α; 1 changes nothing but the moments, 0 draws the network anew. BBF has 0.5, SR-SPR
            0.8 for the encoder.
        scope: Parameters that are moved.
    """

    every: Annotated[int, Ge(1)] = 40_000
    shrink: Annotated[float, Ge(0), Le(1)] = 0.5
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def after_update(self, agent: Learner) -> None:
        """Move the weights after each N-th update."""
        if agent.num_updates % self.every == 0:
            shrink_and_perturb(self, agent, self.scope, self.shrink)


@intervention("snp-at-shift")
@dataclass(frozen=True, kw_only=True)
class ShrinkAndPerturbAtShift(Intervention):
    """Shrink the weights and add newly drawn ones at each shift; it is told of the shift.

    As ``snp``, at the moments of Juliani & Ash (arXiv 2405.19153), who use 0.5.

    Attributes:
        shrink: α of θ ← α θ + (1 - α) ψ (0.5: arXiv 2405.19153).
        scope: Parameters that are moved.
    """

    oracle: ClassVar[bool] = True

    shrink: Annotated[float, Ge(0), Le(1)] = 0.5
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def at_shift(self, agent: Learner, phase: int) -> None:
        """Move the weights."""
        shrink_and_perturb(self, agent, self.scope, self.shrink)


@intervention("soft-snp")
@dataclass(frozen=True, kw_only=True)
class SoftShrinkAndPerturb(Intervention):
    """Move the weights a very small part of the way to newly drawn ones, again and again.

    Soft shrink and perturb of Juliani & Ash (arXiv 2405.19153), who do it at every update with
    s = 1e-6 and a new network ψ each time::

        θ ← (1 - s)^k θ + (1 - (1 - s)^k) ψ        every k updates

    The optimizer keeps its moments, since the weights hardly move, and the target network follows
    with its next copy.

    Attributes:
        strength: s, for each update (1e-6: arXiv 2405.19153); 0 changes nothing.
        every: k; ours, since drawing a network costs about as much as an update.
        scope: Parameters that are moved.
    """

    strength: Annotated[float, Ge(0), Le(1)] = 1e-6
    every: Annotated[int, Ge(1)] = 10
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def after_update(self, agent: Learner) -> None:
        """Move the weights after each k-th update."""
        import torch

        from rlplastic.interventions import surgery

        if agent.num_updates % self.every:
            return
        values = surgery.newborn_values(agent, self.generator)
        part = 1 - (1 - self.strength) ** self.every
        with torch.no_grad():
            for parameter in agent.scope(self.scope):
                parameter.lerp_(values[parameter], part)
