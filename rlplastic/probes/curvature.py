"""Second derivatives of the critic's loss, and how the gradients of single transitions agree.

Hessian-vector products are exact (Pearlmutter 1994: the gradient of gᵀv); the Hessian itself is
never built. All directions come from a generator of their own, so that training is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from rlplastic.registry import probe

SAMPLES = 30
STARTS = 10
STEPS = 20
SEED = 20_240_925

Product = Callable[[Tensor], Tensor]


@probe("hessian_top", cost="full")
def hessian_top(agent: Any, batch: Any) -> float:
    """Largest eigenvalue of the Hessian of the critic's loss, to 1e-3 of itself.

    Lanczos on Hessian-vector products (`scipy.sparse.linalg.eigsh`), which needs far fewer of them
    than power iteration where eigenvalues are close (as arXiv 1912.07145 for the spectrum).
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


@probe("hessian_rank", cost="full")
def hessian_rank(agent: Any, batch: Any) -> float:
    """Effective rank of the Hessian of the critic's loss: exp of the entropy of |λ| / Σ |λ|.

    Roy & Vetterli's, as `effective_rank`; arXiv 2312.00246 counts up to 99 % instead, of the
    Hessian's last blocks, at the start of a task: lost directions of curvature go with lost
    plasticity. Here it is the whole Hessian's, which is never built: Σ |λ| and Σ |λ| log |λ| are
    estimated by stochastic Lanczos quadrature (Ubaru, Chen & Saad, SIAM J. Matrix Anal. 2017), 10
    vectors of random signs with 20 steps each (ours): of k equal eigenvalues the standard error is
    about √(k / 5). 0 where the Hessian is 0.
    """
    size, product = hessian_of(agent, batch)
    return effective_rank(product, directions(agent, size))


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
    start = draw()
    if not product(start).any():
        return 0.0

    def times(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        image = product(torch.as_tensor(vector.ravel()).to(start))
        found: NDArray[np.float64] = image.double().cpu().numpy()
        return found

    operator = LinearOperator((len(start), len(start)), matvec=times, dtype=np.float64)
    first = start.double().cpu().numpy()
    (value,) = eigsh(operator, k=1, which="LA", v0=first, tol=1e-3, return_eigenvectors=False)
    return float(value)


def trace(product: Product, draw: Callable[[], Tensor]) -> float:
    """See `hessian_trace`."""
    total = 0.0
    for _ in range(SAMPLES):
        signs = draw()
        total += float(signs @ product(signs))
    return total / SAMPLES


def effective_rank(product: Product, draw: Callable[[], Tensor]) -> float:
    """See `hessian_rank`; exact where H is diagonal and has fewer than 20 different eigenvalues."""
    mass = information = 0.0
    for _ in range(STARTS):
        start = draw()
        nodes, weights = lanczos(product, start)
        sizes = np.abs(nodes)
        share = weights * len(start) / STARTS
        mass += float(share @ sizes)
        logs = np.log(sizes, where=sizes > 0, out=np.zeros_like(sizes))
        information += float(share @ (sizes * logs))
    return float(np.exp(np.log(mass) - information / mass)) if mass else 0.0


def lanczos(
    product: Product, start: Tensor, steps: int = STEPS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights, which add up to 1, with startᵀ f(H) start / ‖start‖² ≈ Σ weight f(node).

    Without orthogonalising anew, which would keep every vector: rounding makes copies of a node
    that share its weight.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    vector = start.double() / start.double().norm()
    before, between = torch.zeros_like(vector), 0.0
    while True:
        image = product(vector.to(start)).double() - between * before
        along = float(image @ vector)
        image = image - along * vector
        diagonal.append(along)
        between = float(image.norm())
        if len(diagonal) == min(steps, len(start)) or between <= 1e-6 * max(map(abs, diagonal)):
            break
        beside.append(between)
        before, vector = vector, image / between
    if not np.isfinite([*diagonal, *beside]).all():
        return np.array([np.nan]), np.ones(1)
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return nodes, vectors[0] ** 2
