"""Penalties on the singular values of the critic's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("svp")
@dataclass(frozen=True, kw_only=True)
class SingularValuePenalty(Intervention):
    """Keep the largest singular value of the critic's features near the smallest: α (σ²₁ - σ²ₙ).

    The features are the critic's last hidden layer after its activation on the minibatch,
    ``[batch, units]``, and n = min(batch, units) (arXiv 2010.14498, Sec. 5, against implicit
    under-parameterisation). One forward pass and one decomposition more at each update.

    Attributes:
        strength: α (1e-3; 5e-4 was steadier in timoklein/implicit_underparameterization).
    """

    strength: Annotated[float, Ge(0)] = 1e-3

    def check(self, agent: Learner) -> None:
        """The critic must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, "critic")

    def penalty(self, agent: Learner) -> Tensor | None:
        """α (σ²₁ - σ²ₙ) of the features of the minibatch."""
        import torch

        from rlplastic.interventions import surgery

        matrix = surgery.features(agent, agent.last_batch.observations)
        values = torch.linalg.svdvals(matrix)
        penalty: Tensor = self.strength * (values[0].square() - values[-1].square())
        return penalty
