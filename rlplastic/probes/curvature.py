"""Second derivatives of the critic's loss, and how the gradients of single transitions agree.

Hessian-vector products are exact (Pearlmutter 1994: the gradient of gᵀv); the Hessian itself is
never built. All directions come from a generator of their own, so that training is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlplastic.registry import probe

ITERATIONS = 100
TOLERANCE = 1e-3
SAMPLES = 30
SEED = 20_240_925

Product = Callable[[Tensor], Tensor]


@probe("hessian_top", cost="full")
def hessian_top(agent: Any, batch: Any) -> float:
    """Eigenvalue of largest magnitude, with its sign, of the Hessian of the critic's loss.

    Power iteration on Hessian-vector products, at most 100 of them, until the Rayleigh quotient
    changes by less than 1e-3 of itself (as arXiv 1912.07145).
    """
    size, product = hessian_of(agent, batch)
    return top_eigenvalue(product, directions(agent, size))


@probe("hessian_trace", cost="full")
def hessian_trace(agent: Any, batch: Any) -> float:
    """Trace of the Hessian of the critic's loss: the mean of vᵀHv over 30 random signs v.

    Hutchinson's estimator (1989; arXiv 1912.07145), exact where H is diagonal.
    """
    size, product = hessian_of(agent, batch)
    return trace(product, directions(agent, size))


def hessian_of(agent: Any, batch: Any) -> tuple[int, Product]:
    """Number of the critic's parameters, and the product of its Hessian with a flat vector."""
    weights = agent.scope("critic")
    loss = agent.losses(batch)("critic")["critic"]
    return sum(w.numel() for w in weights), hessian_product(loss, weights)


def hessian_product(loss: Tensor, weights: list[Any]) -> Product:
    """V ↦ Hv for a loss and its parameters; a parameter it does not reach has zeros."""
    first = torch.autograd.grad(
        loss, weights, create_graph=True, allow_unused=True, materialize_grads=True
    )
    flat = torch.cat([g.reshape(-1) for g in first])

    def product(vector: Tensor) -> Tensor:
        if not flat.requires_grad:
            return torch.zeros_like(vector)
        second = torch.autograd.grad(
            flat @ vector, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([h.reshape(-1) for h in second])

    return product


def directions(agent: Any, size: int) -> Callable[[], Tensor]:
    """Random signs, equal for equal numbers of updates: ``[size]``."""
    generator = torch.Generator().manual_seed(SEED + int(agent.num_updates))
    weight = agent.scope("critic")[0]

    def draw() -> Tensor:
        signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
        return signs.to(weight)

    return draw


def top_eigenvalue(product: Product, draw: Callable[[], Tensor]) -> float:
    """See `hessian_top`; 0 where the Hessian maps the first direction to nothing."""
    vector = draw()
    vector = vector / vector.norm()
    value = 0.0
    for _ in range(ITERATIONS):
        image = product(vector)
        size = image.norm()
        if size == 0:
            return 0.0
        before, value = value, float(vector @ image)
        if abs(value - before) < TOLERANCE * abs(value):
            break
        vector = image / size
    return value


def trace(product: Product, draw: Callable[[], Tensor]) -> float:
    """See `hessian_trace`."""
    total = 0.0
    for _ in range(SAMPLES):
        signs = draw()
        total += float(signs @ product(signs))
    return total / SAMPLES
