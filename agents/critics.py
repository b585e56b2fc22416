"""What a critic is trained with: regression, or classification of its target into bins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlplastic.agents.duelling import Duelling
from rlplastic.errors import UsageError

BINNED = ("twohot", "hlgauss", "c51")
WIDTH = 0.75  # of HL-Gauss's normal distribution, in bins (arXiv 2403.03950)


@dataclass(frozen=True, kw_only=True)
class Critic:
    """The critic's loss.

    ============  ===============================================================================
    ``mse``       squared error
    ``huber``     Huber loss, linear beyond 1
    ``twohot``    cross-entropy to the target's weights on its two neighbours among the bins
    ``hlgauss``   cross-entropy to N(target, (0.75 bins)²), integrated over each bin
                  (arXiv 2403.03950, Sec. 3.1)
    ``c51``       cross-entropy to the projected distribution of returns (arXiv 1707.06887)
    ============  ===============================================================================

    Attributes:
        kind: One of these.
        bins: Number of bins.
        low: Smallest target that the bins can hold: of C51 and two-hot the centre of the first
            bin, of HL-Gauss its lower edge. What is smaller counts as this.
        high: Largest, likewise.
    """

    kind: str
    bins: int = 51
    low: float = -10.0
    high: float = 10.0

    def __post_init__(self) -> None:
        """The bins must lie in order."""
        if self.binned and self.low >= self.high:
            raise UsageError(
                f"critic {self.kind!r}: low = {self.low} is not below high = {self.high}"
            )

    @property
    def binned(self) -> bool:
        """True if the critic says a distribution over bins."""
        return self.kind in BINNED

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.high - self.low) / (self.bins - (self.kind != "hlgauss"))

    def centres(self) -> Tensor:
        """The value that each bin stands for: ``[bins]``."""
        first = self.low + self.width / 2 if self.kind == "hlgauss" else self.low
        return first + self.width * torch.arange(self.bins, dtype=torch.float64)

    def probabilities(self, targets: Tensor) -> Tensor:
        """The distributions that stand for targets: ``[batch]`` to ``[batch, bins]``."""
        targets = targets.clamp(self.low, self.high).unsqueeze(1)
        centres = self.centres().to(targets)
        if self.kind == "twohot":
            return (1 - (targets - centres).abs() / self.width).clamp_min(0)
        edges = torch.cat([centres - self.width / 2, centres[-1:] + self.width / 2])
        below = torch.erf((edges - targets) / (math.sqrt(2) * WIDTH * self.width))
        return below.diff(dim=1) / (below[:, -1:] - below[:, :1])

    def projected(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """C51's projection: mass ``[batch, bins]`` at targets of the same shape, onto the bins."""
        targets = targets.clamp(self.low, self.high).unsqueeze(2)
        shares = (1 - (targets - self.centres().to(targets)).abs() / self.width).clamp_min(0)
        return (probabilities.unsqueeze(2) * shares).sum(dim=1)

    def loss(self, values: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of a regression; both of one shape ``[batch]`` or ``[batch, 1]``, weights ``[batch]``."""
        regression = F.mse_loss if self.kind == "mse" else F.smooth_l1_loss
        if weights is None:
            return regression(values, targets)
        return (weights * regression(values, targets, reduction="none").flatten()).mean()

    def install(self, policy: Any) -> None:
        """Give the networks of a new policy outputs over bins, if need be; draws their weights."""
        if not self.binned:
            return
        if hasattr(policy, "q_net"):
            for net in (policy.q_net, policy.q_net_target):
                if isinstance(net.q_net, Duelling):
                    net.q_net.say_bins(self.centres())
                else:
                    net.q_net[-1] = BinnedOutput(net.q_net[-1], self)
        else:
            policy.value_net = BinnedOutput(policy.value_net, self)
            if policy.ortho_init:
                policy.init_weights(policy.value_net.linear, gain=1)


class BinnedOutput(nn.Module):
    """An output layer that says a distribution over bins for each of its outputs, and its mean.

    Args:
        output: The layer whose place it takes.
        critic: The bins.
    """

    centres: Tensor

    def __init__(self, output: nn.Linear, critic: Critic) -> None:
        super().__init__()
        self.bins = critic.bins
        self.in_features = output.in_features
        self.linear = nn.Linear(output.in_features, output.out_features * critic.bins)
        self.register_buffer("centres", critic.centres().float(), persistent=False)
        self.logits = torch.empty(0)  # [batch, outputs, bins] of the last pass

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, in]`` to means ``[batch, outputs]``; keeps the `logits` they are of."""
        self.logits = self.linear(x).unflatten(1, (-1, self.bins))
        return (self.logits.softmax(dim=2) * self.centres).sum(dim=2)


def logits_of(output: Any) -> Tensor:
    """``[batch, outputs, bins]`` of the last pass of a `BinnedOutput` or `Duelling`."""
    logits: Tensor = output.logits
    return logits


def cross_entropy(logits: Tensor, probabilities: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the batch of -Σ p log softmax(logits) of ``[batch, bins]``; weights ``[batch]``."""
    each = -(probabilities * logits.log_softmax(dim=1)).sum(dim=1)
    return (each if weights is None else weights * each).mean()
