"""Activations with two outputs for each unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("crelu")
@dataclass(frozen=True, kw_only=True)
class CReLU(Intervention):
    """Concatenated ReLUs in every hidden layer: [relu(x), relu(-x)], so that no unit can die.

    arXiv 1603.05201; against plasticity loss in arXiv 2303.07507. Every hidden layer has half its
    units, so that the layers above keep their shape and the parameters do not grow.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Halve every hidden layer and double its outputs."""
        from rlplastic.agents.modules import ConcatenatedReLU
        from rlplastic.agents.rebuild import double_activations

        double_activations(policy, ConcatenatedReLU)


@intervention("fourier")
@dataclass(frozen=True, kw_only=True)
class Fourier(Intervention):
    """Deep Fourier features: [sin(x), cos(x)] in every hidden layer.

    arXiv 2410.20634: one of both is always close to linear. Every hidden layer has half its
    units, so that the layers above keep their shape.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Halve every hidden layer and double its outputs."""
        from rlplastic.agents.modules import FourierFeatures
        from rlplastic.agents.rebuild import double_activations

        double_activations(policy, FourierFeatures)
