"""An intervention of one's own, in one file.

Run it::

rlplastic bench --agent ppo --reg l1 --env Toy-Shifted --budget smoke \
    --plugin examples/own_intervention.py
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention


@intervention("l1")
@dataclass(frozen=True, kw_only=True)
class L1(Intervention):
    """Add the sum of the absolute values of the critic's weights to its loss.

    Attributes:
        strength: λ, the weight of the penalty.
    """

    strength: Annotated[float, Ge(0)] = 1e-5

    def penalty(self, agent):
        """λ ‖w‖₁ over the critic's scope."""
        return self.strength * sum(p.abs().sum() for p in agent.scope("critic"))
