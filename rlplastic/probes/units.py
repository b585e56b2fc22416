"""What the critic's hidden units do on the last minibatch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlplastic.registry import probe

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.GELU, nn.SiLU)
TAU = 0.025


def activations(agent: Any, batch: Any) -> list[Tensor]:
    """Outputs of the critic's activation layers, input side first: ``[batch, units, ...]``."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: outputs.append(output))
        for module in agent.policy.modules()
        if isinstance(module, ACTIVATIONS)
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


@probe("effective_rank")
def effective_rank(agent: Any, batch: Any) -> float:
    """Exponential of the entropy of the singular values of the last hidden layer's outputs.

    Roy & Vetterli, EUSIPCO 2007: at most min(batch, units), 1 where all rows are parallel and 0
    where the layer is dead.
    """
    outputs = activations(agent, batch)
    if not outputs:
        return 0.0
    values = torch.linalg.svdvals(outputs[-1].flatten(1).double())
    share = values / values.sum() if values.sum() > 0 else values
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum())) if len(share) else 0.0
