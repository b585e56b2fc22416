"""An intervention of one's own, in one file.

Run it::

rlplastic bench --agent ppo --reg l2 --env Toy-Shifted --budget smoke \
    --plugin examples/own_intervention.py
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention


@intervention("l2")
@dataclass(frozen=True, kw_only=True)
class L2(Intervention):
    """Add half the squared norm of the critic's weights to its loss.

    Attributes:
        strength: λ, the weight of the penalty.
    """

    strength: Annotated[float, Ge(0)] = 1e-3

    def penalty(self, agent):
        """λ/2 ‖w‖² over the critic's scope."""
        return self.strength / 2 * sum(p.square().sum() for p in agent.scope("critic"))
