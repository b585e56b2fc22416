"""Other activations with one output for each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("leaky")
@dataclass(frozen=True, kw_only=True)
class LeakyReLU(Intervention):
    """Leaky ReLUs in every hidden layer, those of convolutions too, so that no unit can die.

    max(x, a x), as in arXiv 2405.16642. The agents' option ``activation`` does the same for the
    layers after the features, with a slope of 0.01.

    Attributes:
        slope: a for negative x (0.1: the base networks of TRAC and C-CHAIN, as read in their code).
    """

    slope: Annotated[float, Ge(0)] = 0.1

    def rebuild(self, policy: nn.Module) -> None:
        """Replace every hidden activation."""
        from rlplastic.agents.modules import Leaky
        from rlplastic.agents.rebuild import replace_activations

        replace_activations(policy, lambda: Leaky(self.slope))


@intervention("rational")
@dataclass(frozen=True, kw_only=True)
class RationalActivations(Intervention):
    """Learnt rational activations in every hidden layer: P(x) / (1 + |Q(x)|).

    arXiv 2102.09407: degrees 5 and 4, ten coefficients for each layer, which begin near a leaky
    ReLU and are trained with the weights.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Replace every hidden activation."""
        from rlplastic.agents.modules import LearntRational
        from rlplastic.agents.rebuild import replace_activations

        replace_activations(policy, LearntRational)
