"""TRAC: how far from the beginning to go is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


@intervention("trac")
@dataclass(frozen=True, kw_only=True)
class TRAC(Intervention):
    """Scale the distance to the initial weights by a parameter-free tuner, after each step.

    With θ₀ the initial weights, u the base optimizer's step and g its gradient, over all
    parameters (arXiv 2405.16642)::

        d = (θ - θ₀) / (S + ε)          h = ⟨d, g⟩          d ← d + u
        v_j ← β_j² v_j + h²             σ_j ← β_j σ_j - h
        s_j = s₀ erfi(σ_j / (√2 √v_j + ε)) / erfi(1/√2)
        S = Σ_j s_j                     θ ← θ₀ + max(S, 0) d

    β is 0.9, 0.99, ..., 0.999999, and σ begins at ε. `pytorch-optimizer` has TRAC too, around an
    optimizer of its own; this one leaves the agent's optimizer alone, so that it combines.

    Attributes:
        scale: s₀ (1e-8: ComputationalRobotics/TRAC).
        eps: ε (1e-8: ComputationalRobotics/TRAC).
    """

    scale: Annotated[float, Gt(0)] = 1e-8
    eps: Annotated[float, Gt(0)] = 1e-8

    def begin(self, agent: Learner) -> None:
        """Remember the initial weights."""
        self.state.update(
            initial=[p.detach().clone() for p in agent.scope("all")],
            variance=[0.0] * len(BETAS),
            sigma=[self.eps] * len(BETAS),
            S=0.0,
        )

    def before_update(self, agent: Learner) -> None:
        """Remember the weights before the step."""
        self.__dict__["_before"] = [p.detach().clone() for p in agent.scope("all")]

    def after_update(self, agent: Learner) -> None:
        """Tune the scale and put the weights where it says."""
        import torch

        moved = [
            (weight, before, initial)
            for weight, before, initial in zip(
                agent.scope("all"), self.__dict__["_before"], self.state["initial"], strict=True
            )
            if weight.grad is not None
        ]
        with torch.no_grad():
            scale = self.state["S"] + self.eps
            far = [(before - initial) / scale for _, before, initial in moved]
            products = [(d * w.grad).sum() for d, (w, _, _) in zip(far, moved, strict=True)]
            total = max(self._tune(float(torch.stack(products).sum())), 0.0)
            for d, (weight, before, initial) in zip(far, moved, strict=True):
                weight.copy_(initial + (d + (weight - before)) * total)

    def _tune(self, h: float) -> float:
        """One step of the six tuners; the sum of their scales."""
        from scipy.special import erfi

        state = self.state
        pairs = list(zip(BETAS, state["sigma"], state["variance"], strict=True))
        state["variance"] = [b * b * v + h * h for b, _, v in pairs]
        state["sigma"] = [b * s - h for b, s, _ in pairs]
        unit = self.scale / erfi(0.5**0.5)
        state["S"] = sum(
            unit * float(erfi(s / ((2 * v) ** 0.5 + self.eps)))
            for s, v in zip(state["sigma"], state["variance"], strict=True)
        )
        return float(state["S"])
