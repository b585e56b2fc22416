"""Duelling networks: Q-values as a state's value and the advantages of its actions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rlplastic.errors import UsageError


class Duelling(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean_b A(s, b) (arXiv 1511.06581, Eq. 9).

    Both streams have a last hidden layer of their own and read what `trunk` makes. Where the critic
    says distributions, the three are logits over its bins, as in Rainbow (arXiv 1710.02298). The
    paper also divides the gradient that enters the trunk by √2; this does not.

    Args:
        trunk: The hidden layers that both share; may be empty.
        value: Hidden layer and output of the value.
        advantage: Hidden layer and output of the advantages.
    """

    centres: Tensor

    def __init__(self, trunk: nn.Sequential, value: nn.Sequential, advantage: nn.Sequential):
        super().__init__()
        self.trunk, self.value, self.advantage = trunk, value, advantage
        self.bins = 0  # none: values, not distributions
        self.logits = torch.empty(0)  # [batch, actions, bins] of the last pass

    @property
    def streams(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Value and advantage."""
        return self.value, self.advantage

    @property
    def outputs(self) -> tuple[nn.Linear, nn.Linear]:
        """The last layers of both."""
        return self.value[-1], self.advantage[-1]  # type: ignore[return-value]

    @property
    def in_features(self) -> int:
        """The units that the outputs read, of both streams together."""
        return sum(output.in_features for output in self.outputs)

    def say_bins(self, centres: Tensor) -> None:
        """Give both streams outputs over bins with these values ``[bins]``; draws their weights."""
        self.bins = len(centres)
        for stream in self.streams:
            output: Any = stream[-1]
            stream[-1] = nn.Linear(output.in_features, output.out_features * self.bins)
        self.register_buffer("centres", centres.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, in]`` to Q-values ``[batch, actions]``."""
        x = self.trunk(x)
        value, advantage = self.value(x), self.advantage(x)
        if not self.bins:
            q: Tensor = value + (advantage - advantage.mean(dim=1, keepdim=True))
            return q
        advantage = advantage.unflatten(1, (-1, self.bins))
        self.logits = value.unsqueeze(1) + (advantage - advantage.mean(dim=1, keepdim=True))
        return (self.logits.softmax(dim=2) * self.centres).sum(dim=2)


def split(policy: Any) -> None:
    """Make the networks of a new policy duelling, in place; draws the weights of the value.

    The last hidden layer and the output become the advantage's; the value gets a hidden layer of
    the same width. Where no hidden layer stands behind a CNN's features, its dense layer is the one
    that is split, as in the paper.

    Raises:
        UsageError: there is no hidden layer.
    """
    for net in (policy.q_net, policy.q_net_target):
        layers = list(net.q_net)
        extractor = net.features_extractor
        if len(layers) < 3 and hasattr(extractor, "linear"):  # NatureCNN, SmallCNN
            layers = [*extractor.linear, *layers]
            extractor.linear = nn.Sequential()
        if len(layers) < 3:
            raise UsageError("duelling: without a hidden layer there is nothing to split")
        *trunk, hidden, activation, output = layers
        width = hidden.out_features
        value = nn.Sequential(
            nn.Linear(hidden.in_features, width), copy.deepcopy(activation), nn.Linear(width, 1)
        )
        advantage = nn.Sequential(hidden, activation, output)
        net.q_net = Duelling(nn.Sequential(*trunk), value, advantage)


def output_of(net: Any) -> Any:
    """The module of a Q-network whose `logits` and `in_features` are those of its output."""
    return net.q_net if isinstance(net.q_net, Duelling) else net.q_net[-1]


def paths_to_outputs(net: Any) -> list[tuple[nn.Module, ...]]:
    """Extractor and layers below each output of a Q-network, the outputs included."""
    top = net.q_net
    if not isinstance(top, Duelling):
        return [(net.features_extractor, top)]
    return [(net.features_extractor, top.trunk, stream) for stream in top.streams]
