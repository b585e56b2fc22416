"""Sizes of weights and gradients: the survey's standard set (arXiv 2411.04832, Table 3)."""

from __future__ import annotations

from typing import Any

import torch

from rlplastic.probes.look import once
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


@probe("grad_norm_l1")
def grad_norm_l1(agent: Any, batch: Any) -> float:
    """Mean absolute entry of the gradient of the critic's loss term over its scope.

    The L1 norm per parameter, which a few large entries do not hide (arXiv 2303.07507).
    """
    gradients = critic_gradient(agent, batch)[1]
    total = sum(float(g.abs().sum()) for g in gradients)
    return total / max(sum(g.numel() for g in gradients), 1)


@probe("layer_grad_norm", cost="full")
def layer_grad_norm(agent: Any, batch: Any) -> dict[str, float]:
    """L2 norm of the gradient of the critic's loss term, of each layer: `grad_norm` in its parts.

    Layers count from the input; ``output`` is all that belongs to no hidden layer. Their squares
    add up to the square of `grad_norm`.
    """
    return {name: float(global_norm(g)) for name, g in _layer_gradients(agent, batch).items()}


@probe("layer_grad_norm_l1", cost="full")
def layer_grad_norm_l1(agent: Any, batch: Any) -> dict[str, float]:
    """Mean absolute entry of the gradient of the critic's loss term, of each layer.

    As `grad_norm_l1`; layers as in `layer_grad_norm` (arXiv 2411.04832, Table 3).
    """
    return {
        name: sum(float(g.abs().sum()) for g in gradients) / sum(g.numel() for g in gradients)
        for name, gradients in _layer_gradients(agent, batch).items()
    }


def _layer_gradients(agent: Any, batch: Any) -> dict[str, list[torch.Tensor]]:
    """The gradient of the critic's term by layer: weights, their norm, and their activation's."""
    _, gradients, weights = critic_gradient(agent, batch)
    home = {
        id(parameter): str(number)
        for number, layer in enumerate(agent.layers("critic"), start=1)
        for module in (layer.weights, layer.norm, layer.activation)
        if module is not None
        for parameter in module.parameters()
    }
    found: dict[str, list[torch.Tensor]] = {}
    for weight, gradient in zip(weights, gradients, strict=True):
        found.setdefault(home.get(id(weight), "output"), []).append(gradient)
    return found


@once
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
