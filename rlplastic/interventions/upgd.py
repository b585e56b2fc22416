"""Utility-based perturbed gradient descent: protect useful weights, perturb the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    import torch
    from torch.nn import Parameter


@intervention("upgd")
@dataclass(frozen=True, kw_only=True)
class UPGD(Intervention):
    """Utility-based perturbed gradient descent as the optimizer, with Adam's moments or without.

    With g the gradient, m̂ and v̂ Adam's corrected moments, ξ normal noise and η the agent's step
    size (arXiv 2404.00781; `AdaptiveUPGD` of mohmdelsayed/upgd, used with PPO)::

        u ← β_u u - (1 - β_u) g θ          û = u / (1 - β_u^t)          utility of each weight
        s = sigmoid(û / max û)             the largest utility of all weights
        θ ← (1 - η λ) θ - 2 η (1 - s) (m̂ / (√v̂ + ε) + σ ξ)
        θ ← (1 - η λ) θ - 2 η (1 - s) (g + σ ξ)            with adaptive=false

    The paper corrects both utilities for their start, as here; its code corrects only the one above
    the line. With no positive utility every s is ½, a plain step. The form with moments is refused
    for an agent with SGD, whose step size would be Adam's then; the other one takes an agent's step
    size too, which for DQN and PPO was chosen for Adam: see ``sgd``.

    Attributes:
        adaptive: Steps of Adam's moments (its PPO); false: of the gradient (its streams of images).
        beta_utility: β_u (0.999: its PPO).
        sigma: σ (0.001: its PPO).
        weight_decay: λ (0.001: its PPO).
        beta1: Decay of the first moment (0.9: its PPO).
        beta2: Decay of the second moment (0.999: its PPO).
        eps: ε (1e-5: its PPO).
    """

    adaptive: bool = True
    beta_utility: Annotated[float, Ge(0), Lt(1)] = 0.999
    sigma: Annotated[float, Ge(0)] = 0.001
    weight_decay: Annotated[float, Ge(0)] = 0.001
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    eps: Annotated[float, Gt(0)] = 1e-5

    def check(self, agent: Learner) -> None:
        """The agent's own optimizer must be Adam where the step is of Adam's moments."""
        import torch

        own = agent.policy.optimizer_class
        if self.adaptive and not issubclass(own, torch.optim.Adam):
            raise UsageError(
                f"--reg upgd: needs Adam, whose step size it takes; this agent has {own.__name__}. "
                "Nearest valid: --reg upgd:adaptive=false, or of classifiers --set "
                "mlp.optimizer=adam"
            )

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer; the agent sets its step size."""
        from rlplastic.interventions.perturbed import Perturbed

        return Perturbed(parameters, self)
