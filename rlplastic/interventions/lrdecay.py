"""A smaller step size after each shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Gt, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


@intervention("lrdecay-at-shift")
@dataclass(frozen=True, kw_only=True)
class LearningRateDecay(Intervention):
    """Multiply the step size by γ at each shift; it is told of the shift.

    The stable regime of arXiv 2006.06958, which trades plasticity for stability: a baseline that is
    expected to learn less and less.

    Attributes:
        factor: γ (0.8; the paper has 0.4 to 0.8, depending on the data); 1 is none.
    """

    oracle: ClassVar[bool] = True
    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo", "mlp", "cnn")

    factor: Annotated[float, Gt(0), Le(1)] = 0.8

    def begin(self, agent: Learner) -> None:
        """Put the factor on the agent's own schedule."""
        self.state["shifts"] = 0
        schedule: Any = agent.lr_schedule
        agent.lr_schedule = lambda left: schedule(left) * self.factor ** self.state["shifts"]

    def at_shift(self, agent: Learner, phase: int) -> None:
        """One shift more."""
        self.state["shifts"] += 1
