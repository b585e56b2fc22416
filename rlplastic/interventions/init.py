"""Penalties that keep the weights near where they began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("l2init")
@dataclass(frozen=True, kw_only=True)
class L2Init(Intervention):
    """Add half the squared distance to the initial weights to the loss: λ/2 ‖θ - θ₀‖².

    Regenerative regularisation (arXiv 2308.11958; the ½ is its code's). Every parameter of
    the scope counts, norms and biases too.

    Attributes:
        strength: λ: 1e-2 in supervised learning (the paper's) and for critics (arXiv 2310.07418);
            1e-3 is the baseline's in PPO (arXiv 2412.07224), and the default here.
        scope: Parameters that are penalised.
    """

    strength: Annotated[float, Ge(0)] = 1e-3
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """Remember the initial weights."""
        self.state["initial"] = [p.detach().clone() for p in agent.scope(self.scope)]

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ/2 ‖θ - θ₀‖² over the scope."""
        import torch

        pairs = zip(agent.scope(self.scope), self.state["initial"], strict=True)
        squares = [(now - then).square().sum() for now, then in pairs]
        return self.strength / 2 * torch.stack(squares).sum()


@intervention("w2init")
@dataclass(frozen=True, kw_only=True)
class W2Init(Intervention):
    """Keep the distribution of each layer's weights near the initial one: λ Σ ‖sort θ - sort θ₀‖².

    The squared 2-Wasserstein distance of each tensor's entries to their initial ones
    (arXiv 2312.00246): it is 0 for any permutation of the initial weights.

    Attributes:
        strength: λ: 0.01 in PPO (Juliani & Ash, arXiv 2405.19153); 1e-3 in arXiv 2412.07224.
        scope: Parameters that are penalised.
    """

    strength: Annotated[float, Ge(0)] = 1e-2
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """Remember the initial weights in order."""
        self.state["initial"] = [
            p.detach().flatten().sort().values.clone() for p in agent.scope(self.scope)
        ]

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ Σ ‖sort θ - sort θ₀‖² over the tensors of the scope."""
        import torch

        pairs = zip(agent.scope(self.scope), self.state["initial"], strict=True)
        squares = [(now.flatten().sort().values - then).square().sum() for now, then in pairs]
        return self.strength * torch.stack(squares).sum()
