"""Mixtures of experts in place of the hidden layer below the outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from rlplastic.agents.networks import last_hidden
from rlplastic.errors import UsageError


class MixtureOfExperts(nn.Module):
    """Hidden units in blocks, each multiplied by its expert's share: softmax(G x).

    What reads it computes Σ_i g_i(x) V_i h_i(x) + b, a mixture of networks with one hidden layer
    each, which is the soft mixture of arXiv 2308.00951 for a single token.

    Args:
        inner: The units' weights, what stands between, and their activation.
        experts: Number of blocks.
    """

    def __init__(self, inner: nn.Sequential, experts: int) -> None:
        super().__init__()
        self.inner, self.experts = inner, experts
        weights: Any = inner[0]
        self.gate = nn.Parameter(torch.zeros(experts, weights.in_features))

    def shares(self, x: Tensor) -> Tensor:
        """Of each expert: ``[batch, in]`` to ``[batch, experts]``."""
        return torch.softmax(x @ self.gate.T, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, in]`` to ``[batch, units]``, twice as many of an activation of two outputs."""
        units = self.inner(x)
        expansion = units.shape[1] // self.inner[0].out_features
        blocks = units.unflatten(1, (expansion, self.experts, -1))
        mixed: Tensor = (blocks * self.shares(x)[:, None, :, None]).flatten(1)
        return mixed


def mix_experts(policy: Any, experts: int) -> None:
    """Make a mixture of the last hidden layer below each output, in place; draws nothing.

    The weights of what reads it are multiplied by √experts, so that they are as those that an
    expert of one block's width would have been drawn with.

    Raises:
        UsageError: an output without hidden layers of weights below it, or residual blocks.
    """
    places = {
        id(container[weights]): (container, weights, place)
        for container, weights, place in last_hidden(policy)
    }
    for container, weights, place in places.values():
        layer = container[weights]
        if not isinstance(layer, nn.Linear):
            raise UsageError("--reg moe: the last hidden layer is a convolution; it needs a linear")
        modules = list(container.children())
        inner = nn.Sequential(*modules[weights : place + 1])
        rest = [*modules[:weights], MixtureOfExperts(inner, experts), *modules[place + 1 :]]
        del container[:]
        container.extend(rest)
    with torch.no_grad():
        for reader in _outputs(policy):
            reader.weight.mul_(math.sqrt(experts))


def _outputs(policy: Any) -> list[Any]:
    """The layers that outputs are computed by, those of a target network too."""
    if hasattr(policy, "value_net"):
        value = getattr(policy.value_net, "linear", policy.value_net)
        return [policy.action_net, value]
    tops = []
    for net in (policy.q_net, policy.q_net_target):
        linear = [m for m in net.q_net.modules() if isinstance(m, nn.Linear)]
        tops += list(getattr(net.q_net, "outputs", linear[-1:]))
    return tops


def refuse_mixture(policy: nn.Module) -> None:
    """Refuse a network whose outputs read a mixture, and not a hidden layer alone.

    Raises:
        UsageError: it has a mixture of experts.
    """
    if any(isinstance(module, MixtureOfExperts) for module in policy.modules()):
        raise UsageError(
            "moe's mixtures stand where another intervention needs a plain last hidden layer; "
            "choose one"
        )
