"""Modules that interventions put into a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Rational(nn.Module):
    """P(x) / (1 + |Q(x)|) with learnt coefficients, which begin near a leaky ReLU.

    P has degree 5 and Q, without a constant term, degree 4 (arXiv 2102.09407; the safe form of
    arXiv 1907.06732, whose fit of a leaky ReLU of slope 0.01 on [-3, 3] this begins with).
    """

    TOP = (0.02996348, 0.61690165, 2.37539147, 3.06608078, 1.52474449, 0.25281987)
    BOTTOM = (1.19160814, 4.40811795, 0.91111034, 0.34885983)

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Parameter(torch.tensor(self.TOP))
        self.bottom = nn.Parameter(torch.tensor(self.BOTTOM))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, units, ...]`` to the same."""
        numerator = torch.zeros_like(x)
        for coefficient in reversed(self.top.unbind()):
            numerator = numerator * x + coefficient
        denominator = torch.zeros_like(x)
        for coefficient in reversed(self.bottom.unbind()):
            denominator = (denominator + coefficient) * x
        return numerator / (1 + denominator.abs())


class SeededDropout(nn.Module):
    """Dropout whose mask depends on a number that its owner sets, and on nothing else.

    Args:
        rate: Share of units that are dropped; the others are divided by 1 - rate.
        number: Which of the owner's layers it is.
        owner: Holds the number ``seed`` while training; without it nothing is dropped.
    """

    def __init__(self, rate: float, number: int, owner: Mapping[str, Any]) -> None:
        super().__init__()
        self.rate, self.number, self.owner = rate, number, owner

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, units, ...]`` to the same; of a feature map, whole channels are dropped."""
        if not self.training or not self.rate or "seed" not in self.owner:
            return x
        generator = torch.Generator().manual_seed(int(self.owner["seed"]) + self.number)
        shape = (*x.shape[:2], *[1] * (x.ndim - 2))
        kept = (torch.rand(shape, generator=generator) >= self.rate).to(x)
        return x * kept / (1 - self.rate)


class SpectralLinear(nn.Linear):
    """A linear layer whose weights are divided by their largest singular value.

    It comes from one power iteration a pass with a vector that is kept (arXiv 1802.05957); the
    gradient goes through it, with both vectors fixed. ``weight`` is what is learnt, undivided.
    """

    left: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> SpectralLinear:
        """The same layer, divided; it has the parameters of the old one, and draws nothing."""
        made = cls(layer.in_features, layer.out_features, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        start = torch.ones(len(layer.weight), dtype=layer.weight.dtype)
        made.register_buffer("left", F.normalize(start, dim=0))
        return made

    def sigma(self) -> Tensor:
        """uᵀ W v after one more power iteration, which is kept while training."""
        with torch.no_grad():
            right = F.normalize(self.weight.T @ self.left, dim=0)
            left = F.normalize(self.weight @ right, dim=0)
            if self.training:
                self.left.copy_(left)
        value: Tensor = left @ self.weight @ right
        return value

    def settle(self) -> None:
        """Fifty power iterations."""
        with torch.no_grad():
            for _ in range(50):
                self.left.copy_(F.normalize(self.weight @ (self.weight.T @ self.left), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, in]`` to ``[batch, out]``."""
        return F.linear(x, self.weight / self.sigma().clamp_min(1e-12), self.bias)


class ResidualBlock(nn.Module):
    """x + W₂ relu(W₁ norm(x)): what passes by it is changed by nothing else (arXiv 2410.09754).

    Args:
        up: W₁, from the width of x to that of the hidden units.
        down: W₂, back again.
    """

    def __init__(self, up: nn.Linear, down: nn.Linear) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(up.in_features), up, nn.ReLU(), down)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, width]`` to the same."""
        changed: Tensor = x + self.inner(x)
        return changed


class Replaced:
    """Marks an activation that an intervention has put in place of the agent's own."""


class LearntRational(Rational, Replaced):
    """A rational activation in place of the agent's own."""


class Leaky(nn.LeakyReLU, Replaced):
    """A leaky ReLU in place of the agent's own."""


class SteepLeakyReLU(nn.LeakyReLU):
    """With slope 0.1 below zero, as TRAC and C-CHAIN have it; torch's own is 0.01."""

    def __init__(self) -> None:
        super().__init__(0.1)


class ConcatenatedReLU(nn.Module):
    """[relu(x), relu(-x)] along the units (arXiv 1603.05201)."""

    expansion = 2

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, units, ...]`` to ``[batch, 2 units, ...]``."""
        return torch.cat([torch.relu(x), torch.relu(-x)], dim=1)


class FourierFeatures(nn.Module):
    """[sin(x), cos(x)] along the units (arXiv 2410.20634)."""

    expansion = 2

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, units, ...]`` to ``[batch, 2 units, ...]``."""
        return torch.cat([torch.sin(x), torch.cos(x)], dim=1)


class UnitNorm(nn.Module):
    """φ / (‖φ‖₂ + 1e-8), each sample of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, units]`` to the same."""
        length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x / (length + 1e-8)
