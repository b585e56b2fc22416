"""Features of length one before the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("unitnorm")
@dataclass(frozen=True, kw_only=True)
class UnitNorm(Intervention):
    """Divide the features that the output layers read by their L2 norm: φ / ‖φ‖.

    arXiv 2110.11222, and output feature normalisation of arXiv 2403.05996 (OFN), which use it on
    the critic. In an actor-critic both outputs read normalised features.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Put the normalisation behind the last hidden activation of every path."""
        from rlplastic.agents.rebuild import normalise_features

        normalise_features(policy)
