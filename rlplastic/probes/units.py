"""What the critic's hidden units do on the last minibatch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlplastic.registry import probe

PIECEWISE = (nn.ReLU, nn.LeakyReLU)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.GELU, nn.SiLU)
TAU = 0.025
DELTA = 0.01


def activations(
    agent: Any, batch: Any, kinds: tuple[type[nn.Module], ...] = ACTIVATIONS
) -> list[Tensor]:
    """Outputs of the critic's activation layers, input side first: ``[batch, units, ...]``."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: outputs.append(output))
        for module in agent.policy.modules()
        if isinstance(module, kinds)
    ]
    try:
        with torch.no_grad():
            agent.values(batch.observations)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


@probe("dormant_fraction")
def dormant_fraction(agent: Any, batch: Any) -> float:
    """Share of hidden units that are τ-dormant, τ = 0.025 (arXiv 2302.12902, Eq. 1).

    A unit's score is its mean absolute activation over the batch (and over places, for feature
    maps) divided by the mean score of its layer; it is dormant where the score is at most τ.
    """
    dormant, units = 0, 0
    for output in activations(agent, batch):
        places = [axis for axis in range(output.ndim) if axis != 1]
        activity = output.abs().mean(dim=places)
        dormant += int((activity <= TAU * activity.mean()).sum())
        units += activity.numel()
    return dormant / max(units, 1)


@probe("dead_fraction")
def dead_fraction(agent: Any, batch: Any) -> float:
    """Share of hidden units whose output is 0 on the whole batch (arXiv 2411.04832)."""
    return _share([(output == 0).all(dim=_places(output)) for output in activations(agent, batch)])


@probe("linearised_fraction")
def linearised_fraction(agent: Any, batch: Any) -> float:
    """Share of ReLU and leaky ReLU units whose input is positive on the whole batch.

    Such a unit is linear there (arXiv 2402.18762). 0 in a network without such units.
    """
    # with these two activations the output is positive exactly where the input is
    outputs = activations(agent, batch, PIECEWISE)
    return _share([(output > 0).all(dim=_places(output)) for output in outputs])


@probe("active_fraction")
def active_fraction(agent: Any, batch: Any) -> float:
    """FAU: share of hidden units whose mean output is positive (arXiv 2310.07418)."""
    return _share([output.mean(dim=_places(output)) > 0 for output in activations(agent, batch)])


def _places(output: Tensor) -> list[int]:
    """All axes but that of the units."""
    return [axis for axis in range(output.ndim) if axis != 1]


def _share(flags: list[Tensor]) -> float:
    """Share of units that are marked, over all layers; 0 without units."""
    return sum(int(f.sum()) for f in flags) / max(sum(f.numel() for f in flags), 1)


@probe("feature_norm")
def feature_norm(agent: Any, batch: Any) -> float:
    """Mean over the batch of the L2 norm of the last hidden layer's output; 0 without one."""
    outputs = activations(agent, batch)
    return float(outputs[-1].flatten(1).norm(dim=1).mean()) if outputs else 0.0


@probe("srank")
def srank(agent: Any, batch: Any) -> float:
    """Least k with (σ1 + ... + σk) / Σσ ≥ 1 - δ, δ = 0.01 (arXiv 2010.14498).

    σ are the singular values of the last hidden layer's outputs; 0 where the layer is dead.
    """
    return srank_of(_singular_values(agent, batch))


@probe("stable_rank")
def stable_rank(agent: Any, batch: Any) -> float:
    """‖A‖²_F / σ1² of the last hidden layer's outputs A (Rudelson & Vershynin, J. ACM 2007).

    From 1 to the rank; 0 where the layer is dead.
    """
    values = _singular_values(agent, batch)
    if not len(values) or values[0] == 0:
        return 0.0
    return float((values / values[0]).square().sum())


@probe("effective_rank")
def effective_rank(agent: Any, batch: Any) -> float:
    """Exponential of the entropy of the singular values of the last hidden layer's outputs.

    Roy & Vetterli, EUSIPCO 2007: at most min(batch, units), 1 where all rows are parallel and 0
    where the layer is dead.
    """
    return effective_rank_of(_singular_values(agent, batch))


def srank_of(values: Tensor) -> float:
    """See `srank`; from singular values in falling order."""
    total = values.sum()
    if not len(values) or total == 0:
        return 0.0
    # the slack keeps a share that is exactly 1 - δ on its side after rounding
    reached = values.cumsum(0) / total >= 1 - DELTA - 1e-12
    return float(reached.int().argmax() + 1)


def effective_rank_of(values: Tensor) -> float:
    """See `effective_rank`; from singular values."""
    share = values / values.sum() if values.sum() > 0 else values
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum())) if len(share) else 0.0


def _singular_values(agent: Any, batch: Any) -> Tensor:
    outputs = activations(agent, batch)
    if not outputs:
        return torch.zeros(0, dtype=torch.float64)
    values: Tensor = torch.linalg.svdvals(outputs[-1].flatten(1).double())
    return values
