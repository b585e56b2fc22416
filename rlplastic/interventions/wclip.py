"""Weight clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


@intervention("wclip")
@dataclass(frozen=True, kw_only=True)
class WeightClipping(Intervention):
    """Clip every weight and bias to a multiple of its layer's initial bound, after each update.

    |w| ≤ κ s with s = 1/√fan_in, the bound of torch's uniform initialisation (arXiv 2407.01704).
    PPO's orthogonal initialisation may begin beyond it and is clipped at the first update.

    Attributes:
        kappa: κ: the paper sweeps 1 to 5; 2 is the middle.
        scope: Layers that are clipped, output layers included.
    """

    kappa: Annotated[float, Gt(0)] = 2.0
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def after_update(self, agent: Learner) -> None:
        """Clip."""
        import torch

        from rlplastic.interventions import surgery

        with torch.no_grad():
            for layer in surgery.weight_layers(agent, self.scope):
                bound = self.kappa / layer.weight[0].numel() ** 0.5
                for parameter in layer.parameters():
                    parameter.clamp_(-bound, bound)
