"""Named presets of the base optimizer, which takes the agent's step size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    import torch
    from torch.nn import Parameter


@intervention("adam")
@dataclass(frozen=True, kw_only=True)
class Adam(Intervention):
    """Adam as the optimizer, with the decay rates of its paper; what DQN and PPO have anyway.

    With g the gradient and η the agent's step size (arXiv 1412.6980, Algorithm 1)::

        m ← β₁ m + (1 - β₁) g     v ← β₂ v + (1 - β₂) g²     θ ← θ - η m̂ / (√v̂ + ε)

    For the supervised agents, whose presets have SGD, and to set ε. Both rates alike: ``betas``.

    Attributes:
        beta1: β₁ (0.9: the paper).
        beta2: β₂ (0.999: the paper).
        eps: ε (1e-8: the paper; PPO's own is 1e-5).
    """

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    eps: Annotated[float, Gt(0)] = 1e-8

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer; the agent sets its step size."""
        import torch

        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, betas=betas, eps=self.eps, fused=True)


@intervention("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(Intervention):
    """AdamW as the optimizer: Adam, and all weights decay, θ ← (1 - η λ) θ before each step.

    arXiv 1711.05101, Algorithm 2. On the agent's own Adam, or for a scope: ``wd``.

    Attributes:
        weight_decay: λ (0.01: torch; 0.1: BBF, arXiv 2305.19452); 0 is Adam.
        beta1: Decay of the first moment (0.9: torch).
        beta2: Decay of the second moment (0.999: torch).
        eps: Added to the root of the second moment (1e-8: torch).
    """

    weight_decay: Annotated[float, Ge(0)] = 0.01
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    eps: Annotated[float, Gt(0)] = 1e-8

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer; the agent sets its step size."""
        import torch

        return torch.optim.AdamW(
            parameters,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


@intervention("sgd")
@dataclass(frozen=True, kw_only=True)
class SGD(Intervention):
    """Stochastic gradient descent as the optimizer: θ ← θ - η b, b ← μ b + g.

    The optimizer of arXiv 2409.17300. η is the agent's step size, which for DQN and PPO was chosen
    for Adam: give this arm a bench of its own with `--set dqn.learning_rate=...`.

    Attributes:
        momentum: μ (0: Dohare et al., Nature 2024; 0.9: torch's examples).
    """

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0

    def optimizer(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        """The optimizer; the agent sets its step size."""
        import torch

        return torch.optim.SGD(parameters, lr=1e-3, momentum=self.momentum, fused=True)
