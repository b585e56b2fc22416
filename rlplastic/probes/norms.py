"""Sizes of weights and gradients: the survey's standard set (arXiv 2411.04832, Table 3)."""

from __future__ import annotations

from typing import Any

import torch

from rlplastic.registry import probe


@probe("weight_norm")
def weight_norm(agent: Any, batch: Any) -> float:
    """L2 norm of all parameters of the critic's scope together."""
    with torch.no_grad():
        norms = [p.norm() for p in agent.scope("critic")]
        return float(torch.stack(norms).norm())


@probe("grad_norm")
def grad_norm(agent: Any, batch: Any) -> float:
    """L2 norm of the gradient of the critic's loss term over its scope."""
    return float(global_norm(critic_gradient(agent, batch)[1]))


@probe("grad_l1")
def grad_l1(agent: Any, batch: Any) -> float:
    """L1 norm, the sum of absolute values, of the gradient of the critic's loss term.

    The L2 norm alone misleads where gradients become sparse (arXiv 2303.07507).
    """
    return float(sum(float(g.abs().sum()) for g in critic_gradient(agent, batch)[1]))


def critic_gradient(agent: Any, batch: Any) -> tuple[Any, list[torch.Tensor], list[torch.Tensor]]:
    """The losses of the batch, the gradient of the critic's term, and the parameters it is of."""
    losses = agent.losses(batch)
    weights = agent.scope("critic")
    gradients = torch.autograd.grad(losses("critic")["critic"], weights, allow_unused=True)
    pairs = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
    return losses, [g for _, g in pairs], [w for w, _ in pairs]


def global_norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    """L2 norm of all tensors together."""
    norms = torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])
    total: torch.Tensor = torch.linalg.vector_norm(norms)
    return total
