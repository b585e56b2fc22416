"""How well a copy of the critic can still be trained to something new."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlplastic.interventions import surgery
from rlplastic.registry import probe

STEPS = 100
STEP_SIZE = 3e-3
SEED = 230_301_486


@probe("trainability", cost="full")
def trainability(agent: Any, batch: Any) -> float:
    """Loss that is left after fitting random targets, relative to a newborn critic's.

    A copy of the critic takes 100 steps of a new Adam (3e-3, ours) on the mean squared error to
    targets drawn from N(0, 1) for each sample and output, moved by its mean output, as
    arXiv 2303.01486 moves its own. Above 1 the critic is harder to train than a newborn.
    """
    generator = torch.Generator().manual_seed(SEED + int(agent.num_updates))
    with torch.no_grad():
        outputs = agent.values(batch.observations)
    targets = torch.randn(outputs.shape, generator=generator).to(outputs)
    weights = agent.scope("critic")
    fresh = surgery.newborn_values(agent, generator)
    now = fitted(agent, batch, targets, [p.detach().clone() for p in weights])
    newborn = fitted(agent, batch, targets, [fresh[p].detach().clone() for p in weights])
    return now / max(newborn, 1e-12)


def fitted(agent: Any, batch: Any, targets: Tensor, values: list[Tensor]) -> float:
    """Mean squared error to the targets after the steps, from these values of the parameters."""
    weights = agent.scope("critic")
    gradients = [p.grad for p in weights]
    try:
        with surgery.swapped(weights, values):
            optimizer = torch.optim.Adam(weights, lr=STEP_SIZE)
            with torch.no_grad():
                moved = targets + agent.values(batch.observations).mean()
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss = (agent.values(batch.observations) - moved).square().mean()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                return float((agent.values(batch.observations) - moved).square().mean())
    finally:
        for parameter, gradient in zip(weights, gradients, strict=True):
            parameter.grad = gradient
