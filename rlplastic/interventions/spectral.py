"""Spectral regularisation: keep the largest singular value of each layer near one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("spectral")
@dataclass(frozen=True, kw_only=True)
class SpectralRegularisation(Intervention):
    """Keep each layer's largest singular value near one: λ Σ [(σ_max(W)^k - 1)² + ‖b‖^(2k)].

    arXiv 2406.06811; a convolution's W is ``[channels, fan_in]``. σ_max comes from one
    power iteration per update with a vector that is kept (as in arXiv 1802.05957), and its
    gradient is that of uᵀ W v with u and v fixed.

    Attributes:
        strength: λ; ours: 1e-4 (the paper's is not known here).
        power: k; ours: 2 (a re-implementation has 3).
        scope: Layers that are penalised, output layers included.
    """

    strength: Annotated[float, Ge(0)] = 1e-4
    power: Annotated[int, Ge(1)] = 2
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """Draw the vectors of the power iteration, and let them settle."""
        import torch

        from rlplastic.interventions import surgery

        self.state["left"] = []
        for layer in surgery.weight_layers(agent, self.scope):
            left = torch.randn(len(layer.weight), generator=self.generator).to(layer.weight)
            for _ in range(10):
                left = self._turn(layer.weight, left)[0]
            self.state["left"].append(left)

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ Σ [(σ_max(W)^k - 1)² + ‖b‖^(2k)] over the layers."""
        import torch

        from rlplastic.interventions import surgery

        found = []
        for number, layer in enumerate(surgery.weight_layers(agent, self.scope)):
            left, right = self._turn(layer.weight, self.state["left"][number])
            self.state["left"][number] = left
            sigma = left @ layer.weight.flatten(1) @ right
            found.append((sigma**self.power - 1).square())
            if layer.bias is not None:
                found.append(layer.bias.square().sum() ** self.power)
        return self.strength * torch.stack(found).sum()

    @staticmethod
    def _turn(weight: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """One power iteration: the next left and right singular vectors."""
        import torch
        from torch.nn.functional import normalize

        with torch.no_grad():
            matrix = weight.detach().flatten(1)
            right = normalize(matrix.T @ left, dim=0)
            return normalize(matrix @ right, dim=0), right
