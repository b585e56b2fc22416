"""An explicit regulariser against feature co-adaptation in temporal-difference learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("dr3")
@dataclass(frozen=True, kw_only=True)
class DR3(Intervention):
    """Penalise the inner product of the features of consecutive states: c mean φ(s)ᵀ φ(s').

    φ is the critic's last hidden layer after its activation, and both sides get gradient
    (arXiv 2112.04716). With n-step returns s' is the state they bootstrap from. Two forward
    passes more at each update.

    Attributes:
        strength: c (0.1: google/dopamine's configuration; the paper's text has 0.03).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn",)

    strength: Annotated[float, Ge(0)] = 0.1

    def check(self, agent: Learner) -> None:
        """The critic must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, "critic")

    def penalty(self, agent: Learner) -> Tensor | None:
        """C times the mean inner product of the features."""
        from rlplastic.interventions import surgery

        batch = agent.last_batch
        now = surgery.features(agent, batch.observations)
        then = surgery.features(agent, batch.next_observations)
        return self.strength * (now * then).sum(dim=1).mean()
