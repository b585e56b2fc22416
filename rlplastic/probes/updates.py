"""What updates have done, what the next one would do, and how gradients agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlplastic.interventions import surgery
from rlplastic.probes.norms import critic_gradient, global_norm
from rlplastic.registry import probe

SINGLE = 16


@probe("distance_to_init", cost="full")
def distance_to_init(agent: Any, batch: Any) -> float | None:
    """L2 distance of the critic's parameters to those it was born with (arXiv 2308.11958)."""
    if not hasattr(agent, "initial"):
        return None
    with torch.no_grad():
        return float(global_norm([p - agent.initial[p] for p in agent.scope("critic")]))


@probe("update_size", cost="full")
def update_size(agent: Any, batch: Any) -> float | None:
    """L2 norm of the step that Adam's moments make of the critic: η ‖m̂ / (√v̂ + ε)‖.

    Of the moments alone, so the same on both sides of a shift; none without such moments. What they
    make of the first gradient after it: `next_update_size`.
    """
    steps = [step for _, step in adam_steps(agent)]
    return float(global_norm(steps)) if steps else None


@probe("next_update_size", cost="full")
def next_update_size(agent: Any, batch: Any) -> float | None:
    """L2 norm of the step of the critic that Adam would make next, with the minibatch's gradient.

    η ‖m̂' / (√v̂' + ε)‖, the moments after one gradient more, that of the critic's term. On a new
    world's first minibatch a jump is what a stale second moment does (arXiv 2303.01486): up to
    (1 - β₁) / √(1 - β₂) of η for each weight, 3.2 with the usual rates. None without such moments.
    """
    moves = _next_steps(agent, batch)
    return float(global_norm(list(moves.values()))) if moves else None


@probe("effective_step", cost="full")
def effective_step(agent: Any, batch: Any) -> float | None:
    """Median over the critic's parameters of Adam's effective step size η / (√v̂ + ε)."""
    found = []
    for weight, kept, group in _adam(agent):
        beta = group["betas"][1]
        second = kept["exp_avg_sq"] / (1 - beta ** float(kept["step"]))
        found.append((group["lr"] / (second.sqrt() + group["eps"])).flatten().to(weight))
    return float(torch.cat(found).median()) if found else None


@probe("gradient_cosine", cost="full")
def gradient_cosine(agent: Any, batch: Any) -> float | None:
    """Mean cosine between the critic's gradients of single transitions, over all pairs of 16.

    The off-diagonal of the gradients' correlation matrix (arXiv 2303.01486): near 1 they are
    collinear. A transition without gradient counts in no pair; none with fewer than two others.
    """
    rows = []
    for place in range(min(SINGLE, len(batch.observations))):
        one = type(batch)(*(None if x is None else x[place : place + 1] for x in batch))
        gradients = critic_gradient(agent, one)[1]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        if flat.any():
            rows.append(torch.nn.functional.normalize(flat, dim=0))
    if len(rows) < 2:
        return None
    matrix = torch.stack(rows)
    count = len(rows)
    total = float((matrix @ matrix.T).sum()) - count
    return total / (count * (count - 1))


@probe("gradient_spread", cost="full")
def gradient_spread(agent: Any, batch: Any) -> float:
    """Decades between the root mean square gradients of the critic's largest and smallest tensor.

    What the norm over all layers hides; a gradient below 1e-12 counts as 1e-12.
    """
    sizes = [float(g.square().mean().sqrt()) for g in critic_gradient(agent, batch)[1]]
    largest, smallest = (max(pick(sizes), 1e-12) for pick in (max, min))
    return float(torch.log10(torch.tensor(largest / smallest, dtype=torch.float64)))


@probe("churn", cost="full")
def churn(agent: Any, batch: Any) -> float | None:
    """How much one step on half of the batch moves the critic's outputs on the other half.

    Mean absolute change (arXiv 2409.04792), by Adam's next step with the gradient of the critic's
    term alone; none without Adam's moments, or with fewer than two transitions.
    """
    half = len(batch.observations) // 2
    if not half:
        return None
    moves = _next_steps(agent, type(batch)(*(None if x is None else x[:half] for x in batch)))
    if not moves:
        return None
    other, weights = batch.observations[half:], list(moves)
    with torch.no_grad():
        before = agent.values(other)
        with surgery.swapped(weights, [weight - step for weight, step in moves.items()]):
            after = agent.values(other)
    return float((after - before).abs().mean())


@probe("policy_entropy", cost="full")
def policy_entropy(agent: Any, batch: Any) -> float | None:
    """Mean entropy of the policy's action distribution on the batch, in nats; none without one."""
    if not hasattr(agent.policy, "get_distribution"):
        return None
    with torch.no_grad():
        entropy = agent.policy.get_distribution(batch.observations).entropy()
    return None if entropy is None else float(entropy.mean())


def adam_steps(agent: Any) -> list[tuple[Any, Tensor]]:
    """Each of the critic's parameters with the step that its moments make of it."""
    return [(weight, _step(kept, group)) for weight, kept, group in _adam(agent)]


def _next_steps(agent: Any, batch: Any) -> dict[Tensor, Tensor]:
    """Adam's next step of each of the critic's parameters that has moments."""
    moments = {weight: (kept, group) for weight, kept, group in _adam(agent)}
    if not moments:
        return {}
    _, gradients, weights = critic_gradient(agent, batch)
    with torch.no_grad():
        return {
            weight: _step(*moments[weight], gradient)
            for weight, gradient in zip(weights, gradients, strict=True)
            if weight in moments
        }


def _adam(agent: Any) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """The critic's parameters that have Adam's moments, with them and with their settings."""
    optimizer = agent.policy.optimizer
    critic = {id(p) for p in agent.scope("critic")}
    return [
        (weight, optimizer.state[weight], group)
        for group in optimizer.param_groups
        for weight in group["params"]
        if id(weight) in critic
        and "betas" in group
        and "exp_avg" in optimizer.state.get(weight, {})
    ]


def _step(kept: dict[str, Any], group: dict[str, Any], gradient: Tensor | None = None) -> Tensor:
    """Adam's step from the moments as they are, or as they were after one gradient more."""
    first, second = group["betas"]
    count = float(kept["step"]) + (gradient is not None)
    mean, square = kept["exp_avg"], kept["exp_avg_sq"]
    if gradient is not None:
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient.square()
    square = square / (1 - second**count)
    step: Tensor = group["lr"] * mean / (1 - first**count) / (square.sqrt() + group["eps"])
    return step
