"""Parseval regularisation: keep the rows of the hidden weights orthogonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("parseval")
@dataclass(frozen=True, kw_only=True)
class Parseval(Intervention):
    """Keep the rows of every hidden layer's weights orthogonal: λ Σ ‖W Wᵀ - s I‖²_F.

    arXiv 2412.07224; a convolution's W is ``[channels, fan_in]``. Output layers are left
    alone. The paper also adds diagonal layers and input scaling, which are not part of this.

    Attributes:
        strength: λ: 1e-3 (gridworlds, MetaWorld), 1e-4 (CARL). The paper's code
            (wechu/parseval_reg) multiplies it by (64 / width)².
        scale: s, the squared length of a row (ours: 1, which keeps lengths; the paper's code has 2,
            the squared gain of PPO's orthogonal initialisation, at which the penalty begins at 0).
        scope: Whose hidden layers.
    """

    strength: Annotated[float, Ge(0)] = 1e-3
    scale: Annotated[float, Gt(0)] = 1.0
    scope: Literal["critic", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have hidden layers."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, self.scope)

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ Σ ‖W Wᵀ - s I‖²_F over the hidden layers."""
        import torch

        found = []
        for layer in agent.layers(self.scope):
            rows = layer.weights.weight.flatten(1)
            identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
            found.append((rows @ rows.T - self.scale * identity).square().sum())
        return self.strength * torch.stack(found).sum()
