"""How well a copy of the critic can still be trained, to something new or to what it has seen.

A copy takes 100 steps of a new Adam with step size 3e-3 (ours) on the last minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rlplastic.agents.adam import LeanAdam
from rlplastic.agents.direct import by_hand
from rlplastic.agents.predictor import Predictor
from rlplastic.interventions import surgery
from rlplastic.interventions.ascent import plain
from rlplastic.registry import probe

STEPS = 100
STEP_SIZE = 3e-3
SEED = 230_301_486
FUNCTIONS = 3

Start = Callable[[], Any]  # returns what `rlplastic.interventions.ascent.plain` takes


@probe("trainability", cost="full")
def trainability(agent: Any, batch: Any) -> float:
    """Loss that is left after fitting random targets, relative to a newborn critic's.

    The mean squared error to targets drawn from N(0, 1) for each sample and output, moved by the
    copy's mean output, as arXiv 2303.01486 moves its own. Above 1 the critic is harder to train
    than a newborn.
    """
    generator = _generator(agent)
    with torch.no_grad():
        outputs = agent.values(batch.observations)
    targets = torch.randn(outputs.shape, generator=generator).to(outputs)
    now = fitted(agent, _towards(agent, batch, targets), _values(agent))
    newborn = fitted(agent, _towards(agent, batch, targets), _newborn(agent, generator))
    return now / max(newborn, 1e-12)


@probe("capacity", cost="full")
def capacity(agent: Any, batch: Any) -> float | None:
    """Share of the variance of newborn critics' outputs that a copy of the critic learns to make.

    One minus the target-fitting error (arXiv 2204.09560, Def. 1), mean over the outputs of 3
    newborns: 1 where it fits them all, 0 where it makes no more than their mean. Each output is
    brought to mean 0 and variance 1 over the batch and moved by the copy's mean output, so that
    neither the scale of newborns nor that of the critic counts. None where the outputs of newborns
    do not vary.
    """
    generator = _generator(agent)
    weights, left = agent.scope("critic"), []
    for _ in range(FUNCTIONS):
        with surgery.swapped(weights, _newborn(agent, generator)), torch.no_grad():
            outputs = agent.values(batch.observations)
        deviation, mean = torch.std_mean(outputs, dim=0, correction=0)
        if not (deviation > 1e-6 * mean.abs()).all():
            return None
        targets = (outputs - mean) / deviation
        left.append(fitted(agent, _towards(agent, batch, targets), _values(agent)))
    return 1 - sum(left) / FUNCTIONS


@probe("fresh_fit", cost="full")
def fresh_fit(agent: Any, batch: Any) -> float:
    """Loss that is left of the critic's own after training on, relative to a newborn's.

    Both learn the minibatch as training would have it, DQN's bootstrap targets included: above 1
    a newborn network learns the same data better (as arXiv 2205.07802, which shows that the data
    are not what is spoilt).
    """
    newborn = _newborn(agent, _generator(agent))
    losses = agent.losses(batch)

    def start() -> Any:
        if isinstance(agent.policy, Predictor) and agent.chain() is not None:
            return _by_hand(agent, batch, batch.answers)
        return lambda: losses("critic")

    return fitted(agent, start, _values(agent)) / max(fitted(agent, start, newborn), 1e-12)


def fitted(agent: Any, start: Start, values: list[Tensor]) -> float:
    """The loss after the steps, from these values of the critic's parameters.

    Args:
        agent: Its parameters and their gradients are put back.
        start: Called at those values; returns the losses at whatever the values then are.
        values: Changed in place.
    """
    weights = agent.scope("critic")
    gradients = [p.grad for p in weights]
    try:
        with surgery.swapped(weights, values):
            kind = LeanAdam if weights[0].is_cpu else torch.optim.Adam
            optimizer = kind(weights, lr=STEP_SIZE, fused=True)
            losses = start()
            for _ in range(STEPS):
                optimizer.zero_grad()
                plain(losses)
                optimizer.step()
            return float(plain(losses)["critic"].detach())
    finally:
        for parameter, gradient in zip(weights, gradients, strict=True):
            parameter.grad = gradient


def _towards(agent: Any, batch: Any, targets: Tensor) -> Start:
    """For `fitted`: the mean squared error to targets, moved by the mean output at the start."""

    def start() -> Any:
        with torch.no_grad():
            moved = targets + agent.values(batch.observations).mean()
        if isinstance(agent.policy, Predictor) and agent.policy.chain() is not None:
            return _by_hand(agent, batch, moved)
        return lambda: {"critic": (agent.values(batch.observations) - moved).square().mean()}

    return start


def _by_hand(agent: Any, batch: Any, answers: Tensor) -> Any:
    """For `fitted`: the mean loss of a supervised agent whose network is a known chain, sooner."""
    policy = agent.policy
    slopes, _ = by_hand(policy.chain(), policy.inputs(batch.observations), answers)
    return SimpleNamespace(slopes=slopes)


def _generator(agent: Any) -> torch.Generator:
    """Equal for equal numbers of updates."""
    return torch.Generator().manual_seed(SEED + int(agent.num_updates))


def _values(agent: Any) -> list[Tensor]:
    """Copies of the critic's parameters."""
    return [p.detach().clone() for p in agent.scope("critic")]


def _newborn(agent: Any, generator: torch.Generator) -> list[Tensor]:
    """The critic's parameters as a newborn's are drawn."""
    fresh = surgery.newborn_values(agent, generator)
    return [fresh[p].clone() for p in agent.scope("critic")]
