"""How steep the critic's loss is around the weights."""

from __future__ import annotations

from typing import Any

import torch

from rlplastic.probes.norms import critic_gradient, global_norm
from rlplastic.registry import probe

RHO = 0.05


@probe("sharpness")
def sharpness(agent: Any, batch: Any) -> float:
    """SAM's sharpness: L(w + ε) - L(w) with ε = ρ ∇L / ‖∇L‖, ρ = 0.05 (arXiv 2010.01412, Eq. 2)."""
    losses, gradients, weights = critic_gradient(agent, batch)
    with torch.no_grad():
        before = [weight.clone() for weight in weights]
        here = losses("critic")["critic"]
        scale = RHO / (global_norm(gradients) + 1e-12)
        torch._foreach_add_(weights, torch._foreach_mul(gradients, scale))
        try:
            there = losses("critic")["critic"]
        finally:
            torch._foreach_copy_(weights, before)
    return float(there - here)
