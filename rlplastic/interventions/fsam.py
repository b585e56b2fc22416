"""Friendly SAM: climb along the noise of the minibatch only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Offset


@intervention("fsam")
@dataclass(frozen=True, kw_only=True)
class FriendlySAM(Intervention):
    """Friendly SAM: SAM along the part of the gradient that only this minibatch has.

    With m the running mean of the critic's gradient (arXiv 2403.12350)::

        m ← λ m + (1 - λ) g        d = g - σ m        ε = ρ d / (‖d‖₂ + 1e-12)

    The rest is as in ``sam``; σ = 0 is ``sam``. m begins at 0. The code takes m away before it has
    this g, which is the same direction for σ = 1, and begins with the first g.

    Attributes:
        rho: Radius: 0.05 to 0.2 (nblt/F-SAM).
        sigma: Share of the running mean that is taken away (1: nblt/F-SAM).
        decay: λ (0.9: nblt/F-SAM; some of its scripts have 0.6).
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723); 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 2.0
    later: ClassVar[tuple[str, ...]] = ("warmup", "cycle")

    rho: Annotated[float, Ge(0)] = 0.05
    sigma: Annotated[float, Ge(0)] = 1.0
    decay: Annotated[float, Ge(0), Lt(1)] = 0.9
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The critic's gradient at w + ε, plus the other terms' at w."""
        import torch

        from rlplastic.interventions import ascent

        rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)

        def step(weights: list[Parameter], gradients: list[Tensor]) -> Offset:
            mean = self.state.setdefault("mean", [torch.zeros_like(g) for g in gradients])
            torch._foreach_mul_(mean, self.decay)
            torch._foreach_add_(mean, gradients, alpha=1 - self.decay)
            noise = list(torch._foreach_sub(gradients, mean, alpha=self.sigma))
            return noise, ascent.per_norm(rho, noise)

        return ascent.two_passes(agent, losses, self.scope, step)
