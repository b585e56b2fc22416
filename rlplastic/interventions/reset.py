"""Start a part of the network anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


def restart(intervention: Intervention, agent: Learner, scope: str) -> None:
    """Draw the parameters of a scope anew, in the target network too, with empty moments."""
    from rlplastic.interventions import surgery

    values = surgery.newborn_values(agent, intervention.generator)
    for parameter in agent.scope(scope):
        surgery.overwrite(agent, parameter, values[parameter])
    intervention.state["resets"] = intervention.state.get("resets", 0) + 1


@intervention("reset")
@dataclass(frozen=True, kw_only=True)
class Reset(Intervention):
    """Draw the last value layer, or another part, anew every N updates.

    Primacy bias (arXiv 2205.07802): the replay memory stays, the optimizer forgets the moments of
    what was drawn anew, and the target network gets the same new weights. Mainly for off-policy
    agents, whose memory teaches the new weights what the old ones knew; the paper resets the last
    layer of SPR every 2e4 environment steps, PLASTIC (arXiv 2306.10711) every 4e4 updates on Atari.

    Attributes:
        every: N, in updates of the agent's life (20,000: the paper's number, of steps).
        scope: What is drawn anew: ``head`` is the last value layer, ``actor`` the whole policy.
    """

    every: Annotated[int, Ge(1)] = 20_000
    scope: Literal["head", "critic", "backbone", "actor", "all"] = "head"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def after_update(self, agent: Learner) -> None:
        """Draw anew after each N-th update."""
        if agent.num_updates % self.every == 0:
            restart(self, agent, self.scope)


@intervention("reset-at-shift")
@dataclass(frozen=True, kw_only=True)
class ResetAtShift(Intervention):
    """Draw all parameters, or a part of them, anew at each shift; it is told of the shift.

    The yardstick of arXiv 2306.13812 and of Juliani & Ash (arXiv 2405.19153, ``reset-all`` and
    ``reset-final``). With scope ``all`` it is a newborn at each shift, but for the replay memory
    and warm-up.

    Attributes:
        scope: What is drawn anew.
    """

    oracle: ClassVar[bool] = True

    scope: Literal["head", "critic", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def at_shift(self, agent: Learner, phase: int) -> None:
        """Draw anew."""
        restart(self, agent, self.scope)
