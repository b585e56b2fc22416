"""Soft weight rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


@intervention("swr")
@dataclass(frozen=True, kw_only=True)
class SoftWeightRescaling(Intervention):
    """Pull the norm of each layer's weights towards the initial one, after each update.

    W ← W (λ ‖W₀‖ + (1 - λ) ‖W‖) / ‖W‖ for the weights of every layer of the scope, not its biases
    (arXiv 2507.04683, as re-implemented elsewhere; the paper's own code was not seen). λ = 1
    holds the norms, as ``nap`` does, without its layer norms.

    Attributes:
        strength: λ: 1e-4 to 1e-3.
        scope: Layers that are rescaled, output layers included.
    """

    strength: Annotated[float, Ge(0), Le(1)] = 1e-3
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """Remember the initial norm of each layer's weights."""
        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, self.scope)
        self.state["norms"] = [layer.weight.detach().norm() for layer in layers]

    def after_update(self, agent: Learner) -> None:
        """Rescale."""
        import torch

        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, self.scope)
        with torch.no_grad():
            for layer, initial in zip(layers, self.state["norms"], strict=True):
                # in this form strength 0 multiplies by one exactly
                ratio = initial / layer.weight.norm().clamp_min(1e-12)
                layer.weight.mul_(1 + self.strength * (ratio - 1))
